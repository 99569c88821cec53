"""A network that was trained elsewhere: taken as it is, or given exits that leave it as it was."""

import importlib
import sys
from pathlib import Path

import pytest
import torch
import torchvision
from torch import nn

from compress import Place, Start, create, find_run, load, plain
from compress.data import Dataset
from compress.errors import UsageError
from compress.networks import Network
from compress.recipes import Recipe
from compress.training import found_reference, train
from compress.training.references import of_this_code
from tests.baselines.networks import trained_like
from tests.conftest import Command

NET = """
from torch import nn


class Net(nn.Module):
    def __init__(self, classes):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(1, 8, 3, padding=1), nn.BatchNorm2d(8)
        self.layer1 = nn.Sequential(nn.Conv2d(8, 12, 3, stride=2), nn.BatchNorm2d(12), nn.ReLU())
        self.layer2 = nn.Sequential(nn.Conv2d(12, 16, 3), nn.BatchNorm2d(16), nn.ReLU())
        self.fc = nn.Linear(16, classes)

    def forward(self, images):
        features = self.layer2(self.layer1(self.bn1(self.conv1(images)).relu()))
        return self.fc(features.mean((2, 3)))
"""
ARCH = "python:somebodys_net:Net"


@pytest.fixture
def somebodys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory with a module and the weights of its trained network."""
    (tmp_path / "somebodys_net.py").write_text(NET)
    monkeypatch.syspath_prepend(str(tmp_path))
    torch.manual_seed(3)
    network = trained_like(create(ARCH, input_shape=(1, 14, 14), classes=10))
    torch.save(plain(network).state_dict(), tmp_path / "weights.pt")
    return tmp_path


def test_a_network_whose_code_has_changed_is_no_reference(
    somebodys: Path, tiny: Dataset, brief: Recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = Place(runs=somebodys / "runs")
    run = train(ARCH, tiny, recipe=brief, place=place)
    assert of_this_code(run)
    assert found_reference(run.spec, tiny, brief, 0, place.runs) is not None
    (somebodys / "somebodys_net.py").write_text(NET.replace("nn.ReLU()", "nn.Hardswish()"))
    monkeypatch.delitem(sys.modules, "somebodys_net")
    importlib.invalidate_caches()
    assert not of_this_code(run)
    assert found_reference(run.spec, tiny, brief, 0, place.runs) is None


def weights_of(arch: str, tiny: Dataset, file: Path, classes: int = 10, seed: int = 3) -> nn.Module:
    """Save the weights of a network as training might leave it, under its plain names, and return that network."""
    torch.manual_seed(seed)
    classifier = plain(trained_like(create(arch, input_shape=tiny.input_shape, classes=classes)))
    torch.save(classifier.state_dict(), file)
    return classifier


def publish(arch: str, home: Path, monkeypatch: pytest.MonkeyPatch, *, shape: tuple[int, int, int]) -> nn.Module:
    """Put weights for 10 classes into torch's cache, where those that torchvision publishes would be downloaded to."""
    monkeypatch.setenv("TORCH_HOME", str(home))
    torch.manual_seed(3)
    classifier = plain(trained_like(create(arch, input_shape=shape)))
    url = torchvision.models.get_model_weights(arch.partition(":")[2]).DEFAULT.url
    (home / "hub/checkpoints").mkdir(parents=True)
    torch.save(classifier.state_dict(), home / "hub/checkpoints" / url.rpartition("/")[2])
    return classifier


def with_exits(arch: str, tiny: Dataset, brief: Recipe, file: Path, runs: Path) -> Network:
    run = train(
        arch, tiny, method="frozen-trunk", exits=2, recipe=brief, start=Start(weights=file), place=Place(runs=runs)
    )
    assert run.record.parent is None
    assert run.record.config["initial"]
    assert f"--weights {file}" in run.record.command
    assert run.record.cost["total_training_macs"] is None
    return load(run)


@pytest.mark.parametrize("arch", ["resnet8", "torchvision:shufflenet_v2_x0_5", ARCH])
def test_exits_on_a_given_network_leave_it_bit_by_bit(
    arch: str, tiny: Dataset, brief: Recipe, somebodys: Path, tmp_path: Path
) -> None:
    given = weights_of(arch, tiny, tmp_path / "given.pt")
    network = with_exits(arch, tiny, brief, tmp_path / "given.pt", tmp_path / "runs")
    kept = plain(network)
    assert all(torch.equal(value, kept.state_dict()[name]) for name, value in given.state_dict().items())
    assert any("running_mean" in name for name in given.state_dict())
    images = torch.randn(8, *tiny.input_shape)
    with torch.no_grad():
        assert torch.equal(network(images)[-1], given(images))
    torch.manual_seed(0)
    fresh = Network(network.spec).heads
    number = str(network.spec.exits[0].block)
    head = network.heads[number].state_dict()
    assert not all(torch.equal(value, fresh[number].state_dict()[name]) for name, value in head.items())


@pytest.mark.slow
def test_exits_on_a_published_network_leave_it_bit_by_bit(
    tiny_folder: Path, compress: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arch = "torchvision:resnet18"
    given = publish(arch, tmp_path / "torch", monkeypatch, shape=(1, 32, 32))
    words = ["--arch", arch, "--pretrained", "--method", "frozen-trunk", "--exits", "2", "--image-size", "32"]
    place = ["--dataset", f"folder:{tiny_folder}", "--runs", tmp_path / "runs", "--epochs", "1", "--precision", "fp32"]
    status, _, err = compress("train-mwbp", *words, *place)
    assert status == 0, err
    [path] = (tmp_path / "runs").iterdir()
    kept = plain(load(path)).state_dict()
    assert all(torch.equal(value, kept[name]) for name, value in given.state_dict().items())
    status, _, err = compress(*find_run(path).record.command.split()[1:], "--runs", tmp_path / "runs")
    assert status == 0, err
    assert "finished before" in err


def test_other_weights_are_another_run_and_the_same_ones_are_the_same(
    tiny: Dataset, brief: Recipe, tmp_path: Path
) -> None:
    file, runs = tmp_path / "given.pt", tmp_path / "runs"
    weights_of("resnet8", tiny, file)
    for _ in range(2):
        with_exits("resnet8", tiny, brief, file, runs)
        assert len(list(runs.iterdir())) == 1
    weights_of("resnet8", tiny, file, seed=4)
    with_exits("resnet8", tiny, brief, file, runs)
    assert len(list(runs.iterdir())) == 2


def test_a_network_is_taken_as_it_is(somebodys: Path, tiny_folder: Path, compress: Command, tmp_path: Path) -> None:
    place = ["--dataset", f"folder:{tiny_folder}", "--runs", tmp_path / "runs"]
    file = somebodys / "weights.pt"
    status, _, err = compress("train", "--arch", ARCH, "--weights", file, "--epochs", "0", *place)
    assert status == 0, err
    [path] = (tmp_path / "runs").iterdir()
    network = load(path)
    state = plain(network).state_dict()
    assert all(torch.equal(value, state[name]) for name, value in torch.load(file).items())


def test_weights_for_other_classes_are_refused(tiny: Dataset, brief: Recipe, tmp_path: Path) -> None:
    weights_of("resnet8", tiny, tmp_path / "given.pt", classes=7)
    with pytest.raises(UsageError, match="for 7 classes, this network has 10"):
        with_exits("resnet8", tiny, brief, tmp_path / "given.pt", tmp_path / "runs")
