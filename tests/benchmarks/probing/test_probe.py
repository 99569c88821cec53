"""Probing runs: what is written, kept and refused; retraining behind frozen blocks."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from benchmarks import probe, read_probes
from benchmarks.probing.probe import Sample
from benchmarks.probing.probe_file import read_probe
from benchmarks.probing.retraining import frozen_lengths, half_frozen, retraining_recipe
from benchmarks.statistics.scores import pack, unpack
from compress import Place
from compress.data import Dataset, open_dataset
from compress.errors import UsageError
from compress.networks.foreign import zoo
from compress.recipes import Recipe
from compress.runs import PROBE, Run, load, read_run
from compress.training import train

Command = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def documents(reopened: list[Run]) -> list[dict[str, Any]]:
    return probe(reopened)


@pytest.fixture
def own(reopened: list[Run], documents: list[dict[str, Any]], tmp_path: Path) -> Run:
    """A probed run that a test may change."""
    path = shutil.copytree(reopened[1].path, tmp_path / "runs" / reopened[1].id)
    return read_run(path)


def test_every_block_is_measured_and_recorded(reopened: list[Run], documents: list[dict[str, Any]]) -> None:
    for run, document in zip(reopened, documents, strict=True):
        assert json.loads((run.path / PROBE).read_text()) == document
        blocks = document["blocks"]
        assert [row["block"] for row in blocks] == list(range(1, len(run.spec.blocks) + 1))
        assert [row["features"] for row in blocks] == [block.out for block in run.spec.blocks]
        assert sum(row["gradient_share"] for row in blocks) == pytest.approx(1)
        assert all(row["probe_accuracy"] == unpack(row["right"], 40).mean() for row in blocks)
        assert all(row["cka_to_next"] <= 1 for row in blocks[:-1])
        assert all(-1 <= row["skip_drop"] <= 1 for row in blocks)
        assert document["images"] == {
            "part": "validation",
            "seen_in_training": False,
            "held_out": 40,
            "fit": run.record.data["split"]["train"],
            "skip": 40,
        }
        assert document["accuracy"] == pytest.approx(run.exits[-1]["val_accuracy"])  # as was recorded after training
    assert [row["depth"] for row in documents[0]["blocks"]] == [3, 5, 7, 9, 11, 14]


def test_the_same_again_measures_nothing(
    reopened: list[Run], documents: list[dict[str, Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    written = [(run.path / PROBE).stat().st_mtime_ns for run in reopened]
    assert probe(reopened) == documents
    assert [(run.path / PROBE).stat().st_mtime_ns for run in reopened] == written
    assert capsys.readouterr().err.count("probed before") == 3


def test_what_a_probe_got_right_is_packed_without_loss() -> None:
    right = np.array([True, False, False, True, True, False, True, True, False, True])
    assert unpack(pack(right), 10).tolist() == right.tolist()


def test_finished_retrainings_are_kept_and_the_others_made(own: Run) -> None:
    [document] = probe([own], retrain=True, epochs=1)
    assert [(row["block"], row["epochs"]) for row in document["retrained"]] == [(1, 1), (2, 1)]
    assert all(0 <= row["retrained_accuracy"] <= 1 for row in document["retrained"])
    last = document["retrained"].pop()
    document["retrained"][0]["retrained_accuracy"] = 0.125  # which no other training gives
    (own.path / PROBE).write_text(json.dumps(document))
    [resumed] = probe([own], retrain=True, epochs=1)
    assert resumed["retrained"] == [{"block": 1, "epochs": 1, "retrained_accuracy": 0.125}, last]
    assert json.loads((own.path / PROBE).read_text()) == resumed


def test_frozen_blocks_stay_bit_by_bit_and_the_rest_is_trained_from_fresh_weights(reopened: list[Run]) -> None:
    run = reopened[2]
    whole, images = load(run), torch.randn(16, *run.spec.input_shape)
    network = half_frozen(load(run), 2, seed=0)
    assert len(network.spec.exits) == 1
    assert not torch.equal(network.blocks[2].conv1.weight, whole.blocks[2].conv1.weight)  # type: ignore[arg-type, union-attr]
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1, weight_decay=0.1)
    fresh = {name: value.clone() for name, value in network.blocks[2].named_parameters()}
    network.train()
    nn.functional.cross_entropy(network(images)[-1], torch.arange(16) % 10).backward()
    optimizer.step()
    assert not any(torch.equal(value, fresh[name]) for name, value in network.blocks[2].named_parameters())
    with torch.no_grad():
        before = whole.blocks[1](whole.blocks[0](whole.stem(images)))
        after = network.blocks[1](network.blocks[0](network.stem(images)))
    assert torch.equal(before, after)  # network is still in train mode: running statistics stayed too


@pytest.mark.parametrize(("blocks", "expected"), [(27, [7, 14, 20]), (12, [3, 6, 9]), (3, [1, 2]), (1, [])])
def test_where_blocks_are_frozen(blocks: int, expected: list[int]) -> None:
    assert frozen_lengths(blocks) == expected


def test_a_pruned_run_is_retrained_by_its_references_recipe(runs: list[Run]) -> None:
    recipe = retraining_recipe(runs[3])
    assert recipe.learning_rate == runs[0].record.config["recipe"]["learning_rate"]
    assert recipe.learning_rate != runs[3].record.config["recipe"]["learning_rate"]
    assert retraining_recipe(runs[1], epochs=7).epochs == 7


def test_without_validation_images_some_that_training_saw_are_kept_from_the_probes(
    small: Dataset, brief: Recipe, tmp_path: Path
) -> None:
    recipe = replace(brief, validation=0.0, calibration=0.0)
    run = train("resnet8", small, recipe=recipe, place=Place(runs=tmp_path / "runs"))
    [document] = probe([run])
    assert document["images"] == {
        "part": "training",
        "seen_in_training": True,
        "held_out": 20,
        "fit": 180,
        "skip": 20,
    }


def test_other_images_under_the_same_name_are_refused(tiny_folder: Path, brief: Recipe, tmp_path: Path) -> None:
    copied = shutil.copytree(tiny_folder, tmp_path / "data")
    run = train("resnet8", open_dataset(f"folder:{copied}"), recipe=brief, place=Place(runs=tmp_path / "runs"))
    changed = next((copied / "train").rglob("*.png"))
    Image.eval(Image.open(changed), lambda value: 255 - value).save(changed)
    with pytest.raises(UsageError, match=r"other images than folder:.* has now: digest"):
        probe([run])
    assert not (run.path / PROBE).exists()


def test_runs_that_do_not_compare_or_are_not_finished_are_refused(reopened: list[Run]) -> None:
    other = replace(reopened[1], record=replace(reopened[1].record, data=reopened[1].record.data | {"digest": "0"}))
    with pytest.raises(UsageError, match="different data or splits"):
        probe([reopened[0], other])
    running = replace(reopened[1], record=replace(reopened[1].record, status="running"))
    with pytest.raises(UsageError, match="is running, not finished: compress train"):
        probe([reopened[0], running])
    with pytest.raises(UsageError, match="name the runs"):
        probe([])


@pytest.mark.parametrize("options", [{"epochs": 2}, {"epochs": 0, "retrain": True}])
def test_epochs_are_of_retraining(options: dict[str, Any], reopened: list[Run]) -> None:
    with pytest.raises(UsageError, match="only together with --retrain"):
        probe(reopened, **options)


def test_retrainings_of_other_lengths_do_not_compare(own: Run, reopened: list[Run], tmp_path: Path) -> None:
    runs = [own, read_run(shutil.copytree(reopened[0].path, tmp_path / "runs" / reopened[0].id))]
    for run, lengths in zip(runs, ([1, 2], [1, 2, 3]), strict=True):
        document = json.loads((run.path / PROBE).read_text())
        document["retrained"] = [{"block": 1, "epochs": length, "retrained_accuracy": 0.5} for length in lengths]
        (run.path / PROBE).write_text(json.dumps(document))
    blocks, retrained = read_probes(runs)
    assert retrained["epochs"].tolist() == [2, 2]
    assert set(blocks["run"]) == {run.id for run in runs}


def test_probes_of_another_sample_do_not_compare(
    own: Run, reopened: list[Run], capsys: pytest.CaptureFixture[str]
) -> None:
    probe([own], sample=Sample(held_out=30))
    capsys.readouterr()
    blocks, _ = read_probes([own, *reopened[::2]])
    assert f"skipped: the probe of {own.id}, which is on other images than most" in capsys.readouterr().err
    assert set(blocks["run"]) == {reopened[0].id, reopened[2].id}


def test_the_command(own: Run, compress: Command, tmp_path: Path) -> None:
    arguments = ("probe", own.id[:12], "--runs", own.path.parent, "--out", tmp_path / "out")
    status, out, _ = compress(*arguments)
    assert status == 0
    assert "probe after 1/2 of the blocks, %" in out
    status, out, _ = compress(*arguments, "--json")
    document = json.loads(out)
    assert (status, document["figure"]) == (0, str(tmp_path / "out" / "probe.svg"))
    assert document["runs"][0]["run"] == own.id
    assert Path(document["figure"]).exists()


def test_somebody_elses_net_is_probed_at_its_own_blocks(
    small: Dataset, brief: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def chain(classes: int) -> nn.Module:
        convolutions = nn.Conv2d(3, 4, 3, stride=2), nn.ReLU(), nn.Conv2d(4, 6, 3)
        return nn.Sequential(*convolutions, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, classes))

    monkeypatch.setattr(zoo, "_registered", {"chain": chain})
    run = train("chain", small, recipe=replace(brief, validation=0.2), place=Place(runs=tmp_path))
    [document] = probe([run])
    assert [block["depth"] for block in document["blocks"]] == [1, 3]
    assert all(0 <= block["probe_accuracy"] <= 1 for block in document["blocks"])
    assert [block["skip_drop"] for block in document["blocks"]] == [None, None]  # there is no shortcut
    assert read_probe(run) == document
