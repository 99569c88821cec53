"""Pruning of a network that was trained elsewhere: the reference is taken as it is, fine-tuning may be left out."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from compress import create, find_run, load, plain
from tests.baselines.networks import trained_like
from tests.conftest import Command
from tests.training.test_given_network import ARCH, NET, publish


@pytest.fixture
def prune(
    compress: Command, tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., tuple[dict[str, object], str]]:
    """Prune the network of a module beside its weights, to half of its MACs."""
    (tmp_path / "somebodys_net.py").write_text(NET)
    monkeypatch.syspath_prepend(str(tmp_path))
    torch.manual_seed(3)
    torch.save(plain(trained_like(create(ARCH, input_shape=(1, 28, 28)))).state_dict(), tmp_path / "weights.pt")

    def pruned(*options: str) -> tuple[dict[str, object], str]:
        words = ["--arch", ARCH, "--weights", tmp_path / "weights.pt", "--speedup", "2", "--nearest", "--json"]
        place = ["--dataset", f"folder:{tiny_folder}", "--runs", tmp_path / "runs"]
        status, out, err = compress("prune", *words, *place, *options)
        assert status == 0, err
        return json.loads(out)["runs"][0] if "runs" in json.loads(out) else json.loads(out), err

    return pruned


def test_a_given_network_is_pruned_in_one_shot(
    prune: Callable[..., tuple[dict[str, object], str]], compress: Command, tmp_path: Path
) -> None:
    shown, _ = prune("--epochs", "0")
    runs = tmp_path / "runs"
    run = find_run(str(shown["id"]), runs)
    reference = find_run(str(run.record.parent), runs)
    assert reference.record.cost["epochs"] == run.record.cost["epochs"] == 0
    assert reference.record.cost["total_training_macs"] is run.record.cost["total_training_macs"] is None
    state = torch.load(tmp_path / "weights.pt")
    kept = plain(load(reference)).state_dict()
    assert all(torch.equal(value, kept[name]) for name, value in state.items())
    assert run.record.results["val_accuracy_before"] == [reference.exits[0]["val_accuracy"]]
    assert run.record.results["val_accuracy_pruned"] == [run.exits[0]["val_accuracy"]]
    assert "nothing trained" in run.record.results["batch_norm"]
    first = plain(load(run)).state_dict()["conv1.weight"]  # filters of the given network, each as it was
    assert all(any(torch.equal(mine, given) for given in state["conv1.weight"]) for mine in first)
    status, _, err = compress(*run.record.command.split()[1:], "--runs", runs)
    assert status == 0, err
    assert "finished before" in err
    status, _, err = compress("report", runs, "--out", tmp_path / "report")
    assert status == 0, err
    assert "What training cost is unknown for" in (tmp_path / "report/report.md").read_text()


@pytest.mark.slow
def test_a_published_network_is_pruned_in_one_shot(
    tiny_folder: Path, compress: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arch = "torchvision:resnet18"
    given = publish(arch, tmp_path / "torch", monkeypatch, shape=(1, 32, 32)).state_dict()
    place = ["--dataset", f"folder:{tiny_folder}", "--image-size", "32", "--runs", tmp_path / "runs"]
    words = ["--arch", arch, "--pretrained", "--speedup", "1.5", "--nearest", "--epochs", "0", "--json"]
    status, out, err = compress("prune", *words, *place)
    assert status == 0, err
    shown = json.loads(out)
    run = find_run(str((shown["runs"][0] if "runs" in shown else shown)["id"]), tmp_path / "runs")
    reference = find_run(str(run.record.parent), tmp_path / "runs")
    kept = plain(load(reference)).state_dict()
    assert all(torch.equal(value, kept[name]) for name, value in given.items())
    assert run.exits[-1]["macs"] < reference.exits[-1]["macs"]
    first = plain(load(run)).state_dict()["conv1.weight"]  # filters of the published network, each as it was
    assert all(any(torch.equal(mine, its) for its in given["conv1.weight"]) for mine in first)


def test_a_given_network_is_pruned_and_fine_tuned_and_nothing_else_is_trained(
    prune: Callable[..., tuple[dict[str, object], str]], tmp_path: Path
) -> None:
    forecast, _ = prune("--dry-run")
    assert not (tmp_path / "runs").exists() or not list((tmp_path / "runs").iterdir())
    assert forecast["forecasts"][0]["trained"]  # type: ignore[index]
    shown, _ = prune("--epochs", "1", "--method", "taylor")
    run = find_run(str(shown["id"]), tmp_path / "runs")
    assert run.record.cost["total_epochs"] == 1
    again, _ = prune("--epochs", "0", "--method", "taylor")
    assert find_run(str(again["id"]), tmp_path / "runs").record.parent == run.record.parent


def test_what_does_not_go_with_given_weights_is_one_line(
    refused: Callable[..., str], tiny_folder: Path, tmp_path: Path
) -> None:
    words = ["prune", "--speedup", "2", "--dataset", f"folder:{tiny_folder}", "--runs", tmp_path / "runs"]
    named = ["--arch", "resnet8", "--weights", tmp_path / "weights.pt"]
    assert "give its --arch" in refused(*words, "--pretrained")
    assert "shallow has no reference" in refused(*words, *named, "--method", "shallow")
    assert "scratch-e needs some training" in refused(*words, "--epochs", "0", "--method", "scratch-e")
    assert "--gradual needs some training" in refused(*words, "--epochs", "0", "--gradual", "--steps", "2")
    assert "no such file" in refused(*words, *named, leaves=True)
    torch.save(plain(create("resnet8", input_shape=(1, 28, 28), classes=7)).state_dict(), tmp_path / "weights.pt")
    assert "for 7 classes, this network has 10" in refused(*words, *named, leaves=True)
