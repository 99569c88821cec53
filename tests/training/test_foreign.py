"""Runs of foreign networks: training, resuming, loading and pruning, from Python and from the command line."""

import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from baselines.budget import Budget
from baselines.pruning import prune
from compress import Place
from compress.data import Dataset, normalise
from compress.errors import UsageError
from compress.networks import cut, register
from compress.networks.foreign import zoo
from compress.recipes import Recipe
from compress.runs import Run, find_run, load
from compress.training import train
from compress.training.loop import Training
from compress.training.methods import Method

Command = Callable[..., tuple[int, str, str]]


class Small(nn.Module):
    """Two convolutions that can be cut apart, the second passed by a shortcut, with dropout."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.start = nn.Sequential(nn.Conv2d(1, 4, 3, stride=4), nn.BatchNorm2d(4), nn.ReLU(inplace=True))
        self.middle = nn.Conv2d(4, 4, 3, padding=1)
        self.relu = nn.ReLU(inplace=True)
        self.classifier = nn.Linear(4, classes)

    def forward(self, images: Tensor) -> Tensor:
        features = self.start(images)
        features = self.relu(self.middle(features) + features)
        logits: Tensor = self.classifier(nn.functional.dropout(features.mean((2, 3)), 0.1, self.training))
        return logits


@pytest.fixture(autouse=True)
def registered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(zoo, "_registered", {})
    register("small", Small)


def trained(
    tiny: Dataset,
    brief: Recipe,
    runs: Path,
    method: Method | str = "mwbp",
    exits: str | None = None,
    *,
    resume: bool = False,
) -> Run:
    place = Place(runs=runs, device="cpu", precision="fp32", resume=resume)
    return train("small", tiny, method=method, exits=exits, recipe=brief, place=place)


def test_a_registered_net_is_trained_and_loaded_where_it_is_registered(
    tiny: Dataset, brief: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = trained(tiny, brief, tmp_path, exits="start,end")
    assert [row["depth"] for row in run.exits] == [1, 3]
    assert "--arch small --exits start,end" in run.record.command
    assert run.id.startswith("mwsmall-2_tiny_s0_")
    assert trained(tiny, brief, tmp_path, exits="start,end").id == run.id
    network = load(run)
    images = normalise(tiny.test.images, run.normalisation)
    with torch.inference_mode():
        assert torch.equal(cut(network, 1)(images)[0], network(images)[0])
        correct = (network(images)[-1].argmax(1) == tiny.test.labels).double().mean()
    assert run.exits[-1]["test_accuracy"] == pytest.approx(float(correct))
    monkeypatch.setattr(zoo, "_registered", {})
    with pytest.raises(UsageError, match=r"call compress.register\('small', factory\) first"):
        load(find_run(run.id, tmp_path))


def test_a_net_has_as_many_exits_as_blocks_where_no_more_fit(tiny: Dataset, brief: Recipe, tmp_path: Path) -> None:
    assert trained(tiny, brief, tmp_path).spec.exit_names == ("start", "end")


def test_a_registered_net_is_pruned_and_fine_tuned(tiny: Dataset, brief: Recipe, tmp_path: Path) -> None:
    reference = trained(tiny, brief, tmp_path, method="bp")
    run = prune(reference, tiny, budget=Budget(ratio=0.5), recipe=brief, place=Place(runs=tmp_path))
    assert run.record.results["achieved"]["ratio"] == 0.5
    assert run.exits[-1]["macs"] < reference.exits[-1]["macs"]
    images = torch.randn(2, *tiny.input_shape)
    assert load(run)(images)[-1].shape == (2, 10)


@pytest.fixture
def users_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The working directory, with a module of the user's in it."""
    (tmp_path / "my_nets.py").write_text(
        "from torch import nn\n\n\ndef make_net(classes):\n"
        "    features = nn.Conv2d(1, 4, 3, stride=4), nn.ReLU(), nn.Conv2d(4, 6, 3)\n"
        "    return nn.Sequential(*features, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, classes))\n"
    )
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    sys.modules.pop("my_nets", None)


def test_the_command_trains_a_net_of_a_users_module(compress: Command, users_module: Path, tiny_folder: Path) -> None:
    arch = ["--arch", "python:my_nets:make_net", "--dataset", f"folder:{tiny_folder}", "--epochs", "1"]
    status, out, err = compress("train-mwbp", *arch, "--exits", "1,end", "--precision", "fp32", "--json")
    assert status == 0, err
    [record] = json.loads(out)["runs"]
    assert load(find_run(record["id"], users_module / "runs")).spec.exit_names == ("1", "end")


class StoppedError(Exception):
    """Stands for the end of the process."""


def test_an_interrupted_training_goes_on_to_the_same_weights(
    tiny: Dataset, brief: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe, method = replace(brief, epochs=2), Method(name="mwbp", update="sequential")
    whole = trained(tiny, recipe, tmp_path / "whole", method)
    epoch = Training.epoch

    def stopping(training: Training, *arguments: Any) -> None:
        if training.epochs_done:
            raise StoppedError
        epoch(training, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(Training, "epoch", stopping)
        with pytest.raises(StoppedError):
            trained(tiny, recipe, tmp_path / "part", method)
    resumed = trained(tiny, recipe, tmp_path / "part", method, resume=True)
    assert all(map(torch.equal, load(whole).state_dict().values(), load(resumed).state_dict().values()))


class OneValue(nn.Module):
    """Batch norm behind a pooling to one pixel, and a mask that holds infinity."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.conv, self.relu = nn.Conv2d(1, 4, 3), nn.ReLU()
        self.norm, self.classifier = nn.BatchNorm2d(4), nn.Linear(4, classes)
        self.register_buffer("mask", torch.full((2, 2), -torch.inf).triu(1))

    def forward(self, images: Tensor) -> Tensor:
        features = self.relu(self.conv(images)).mean((2, 3), keepdim=True)
        logits: Tensor = self.classifier(self.norm(features).flatten(1))
        return logits


def test_one_image_a_batch_is_refused_where_batch_norm_needs_two(tiny: Dataset, brief: Recipe, tmp_path: Path) -> None:
    """Of two images it is trained, whatever its buffers hold."""
    register("one-value", OneValue)
    with pytest.raises(UsageError, match="batch-size 1: batch norm needs two values of a channel, where one-value"):
        train("one-value", tiny, recipe=brief.changed(batch_size=1), place=Place(runs=tmp_path))
    assert not list(tmp_path.glob("*/run.json"))
    assert train("one-value", tiny, recipe=brief, place=Place(runs=tmp_path)).record.status == "finished"
