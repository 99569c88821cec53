"""Probing runs: what is written, kept and refused; retraining behind frozen blocks; what tables and report say."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from torch import nn

from benchmarks import Comparison, probe, probe_tables, read_probes, write_probe_figure, write_report
from benchmarks.probing.probe import Sample, pack, unpack
from benchmarks.probing.retraining import frozen_lengths, half_frozen, retraining_recipe
from benchmarks.report.sections.probe_tables import shallow_comparison
from compress import Place
from compress.data import Dataset, open_dataset
from compress.errors import UsageError
from compress.networks.foreign import zoo
from compress.recipes import Recipe
from compress.runs import PROBE, Run, load, read_run
from compress.training import train

Command = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def folder(tiny_folder: Path) -> Dataset:
    return open_dataset(f"folder:{tiny_folder}")


@pytest.fixture(scope="module")
def trained(folder: Dataset, brief: Recipe, tmp_path_factory: pytest.TempPathFactory) -> list[Run]:
    """BP deep, BP shallow, and MW-BP on the shallow trunk, with a fifth of the images held out."""
    directory, recipe = tmp_path_factory.mktemp("runs"), replace(brief, validation=0.2)
    return [
        train("resnet14", folder, recipe=recipe, place=Place(runs=directory)),
        train("resnet8", folder, recipe=recipe, place=Place(runs=directory)),
        train("resnet8", folder, method="mwbp", exits=3, recipe=recipe, place=Place(runs=directory)),
    ]


@pytest.fixture(scope="module")
def documents(trained: list[Run]) -> list[dict[str, Any]]:
    return probe(trained)


@pytest.fixture
def own(trained: list[Run], documents: list[dict[str, Any]], tmp_path: Path) -> Run:
    """A probed run that a test may change."""
    path = shutil.copytree(trained[1].path, tmp_path / "runs" / trained[1].id)
    return read_run(path)


def test_every_block_is_measured_and_recorded(trained: list[Run], documents: list[dict[str, Any]]) -> None:
    for run, document in zip(trained, documents, strict=True):
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
    trained: list[Run], documents: list[dict[str, Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    written = [(run.path / PROBE).stat().st_mtime_ns for run in trained]
    assert probe(trained) == documents
    assert [(run.path / PROBE).stat().st_mtime_ns for run in trained] == written
    assert capsys.readouterr().err.count("probed before") == 3


def test_what_a_probe_got_right_is_packed_without_loss() -> None:
    right = torch.tensor([True, False, False, True, True, False, True, True, False, True])
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


def test_frozen_blocks_stay_bit_by_bit_and_the_rest_is_trained_from_fresh_weights(trained: list[Run]) -> None:
    run = trained[2]
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
    pruned = runs[3]
    recipe = retraining_recipe(pruned)
    assert recipe.learning_rate == runs[0].record.config["recipe"]["learning_rate"]
    assert recipe.learning_rate != pruned.record.config["recipe"]["learning_rate"]
    assert retraining_recipe(runs[1], epochs=7).epochs == 7


def test_without_validation_images_some_that_training_saw_are_kept_from_the_probes(
    folder: Dataset, brief: Recipe, tmp_path: Path
) -> None:
    recipe = replace(brief, validation=0.0, calibration=0.0)
    run = train("resnet8", folder, recipe=recipe, place=Place(runs=tmp_path / "runs"))
    [document] = probe([run])
    assert document["images"] == {
        "part": "training",
        "seen_in_training": True,
        "held_out": 20,
        "fit": 180,
        "skip": 20,
    }
    text = write_report(Comparison(runs=[run]), tmp_path / "report").read_text()
    assert "On 20 training images, which the networks have seen and the probes have not." in text


def test_other_images_under_the_same_name_are_refused(tiny_folder: Path, brief: Recipe, tmp_path: Path) -> None:
    copied = shutil.copytree(tiny_folder, tmp_path / "data")
    run = train("resnet8", open_dataset(f"folder:{copied}"), recipe=brief, place=Place(runs=tmp_path / "runs"))
    changed = next((copied / "train").rglob("*.png"))
    Image.eval(Image.open(changed), lambda value: 255 - value).save(changed)
    with pytest.raises(UsageError, match=r"other images than folder:.* has now: digest"):
        probe([run])
    assert not (run.path / PROBE).exists()


def test_runs_that_do_not_compare_or_are_not_finished_are_refused(trained: list[Run]) -> None:
    other = replace(trained[1], record=replace(trained[1].record, data=trained[1].record.data | {"digest": "0"}))
    with pytest.raises(UsageError, match="different data or splits"):
        probe([trained[0], other])
    running = replace(trained[1], record=replace(trained[1].record, status="running"))
    with pytest.raises(UsageError, match="is running, not finished: compress train"):
        probe([trained[0], running])
    with pytest.raises(UsageError, match="name the runs"):
        probe([])


@pytest.mark.parametrize("options", [{"epochs": 2}, {"epochs": 0, "retrain": True}])
def test_epochs_are_of_retraining(options: dict[str, Any], trained: list[Run]) -> None:
    with pytest.raises(UsageError, match="only together with --retrain"):
        probe(trained, **options)


def test_the_tables_say_what_was_measured(trained: list[Run], documents: list[dict[str, Any]]) -> None:
    blocks, retrained = read_probes(trained)
    networks, shallow = probe_tables(blocks, retrained)
    assert list(networks.columns) == ["measure", "ResNet-14", "ResNet-8", "MwResNet-8-3"]
    half = networks.set_index("measure").loc["probe after 1/2 of the blocks, %"]
    assert half["ResNet-14"] == f"{100 * documents[0]['blocks'][2]['probe_accuracy']:.1f}"
    assert list(zip(shallow["network"], shallow["compared with"], strict=True)) == [
        ("ResNet-8", "ResNet-14"),
        ("MwResNet-8-3", "ResNet-14"),
        ("MwResNet-8-3", "ResNet-8"),
    ]


@pytest.mark.parametrize(
    ("right", "verdict"),
    [([1, 1, 1, 1, 1, 0], "stronger"), ([0, 0, 0, 1, 0, 0], "weaker"), ([1, 0, 1, 0, 1, 0], "no difference shown")],
)
def test_shallow_blocks_are_compared_image_by_image(right: list[int], verdict: str) -> None:
    """Only the first third counts; the plain network is right about one image in two."""
    plain = [1, 0, 0, 1, 1, 0]
    rows = [
        {
            "series": name,
            "run": f"{name} {seed}",
            "seed": seed,
            "network": name,
            "method": name,
            "kind": "train",
            "blocks": 3,
            "position": block / 3,
            "right": np.array((answers if block == 1 else plain) * 20, dtype=bool),
        }
        for name, answers in (("bp", plain), ("mwbp", right))
        for seed in range(3)
        for block in (1, 2, 3)
    ]
    table = shallow_comparison(pd.DataFrame(rows))
    assert table["shallow blocks"].tolist() == [verdict]
    assert table["difference, points"].tolist() == [f"{100 * (np.mean(right) - 0.5):+.1f}"]
    one_seed = pd.DataFrame([row for row in rows if str(row["run"]).endswith("0")])
    assert shallow_comparison(one_seed)["shallow blocks"].tolist() == [f"{verdict} (preliminary)"]


def test_trainings_that_disagree_widen_the_interval() -> None:
    """A verdict from one training alone would not have survived another one."""

    def rows(shares: list[float]) -> list[dict[str, Any]]:
        answers = [("bp", seed, 0.5) for seed in range(3)] + [
            ("mwbp", seed, share) for seed, share in enumerate(shares)
        ]
        return [
            {
                "series": name,
                "run": f"{name} {seed}",
                "seed": seed,
                "network": name,
                "method": name,
                "kind": "train",
                "blocks": 3,
                "position": 1 / 3,
                "right": np.arange(600) < share * 600,
            }
            for name, seed, share in answers
        ]

    agree, disagree = (shallow_comparison(pd.DataFrame(rows(shares))) for shares in ([0.6, 0.6, 0.6], [0.8, 0.6, 0.4]))
    assert agree["shallow blocks"].tolist() == ["stronger"]
    assert disagree["shallow blocks"].tolist() == ["no difference shown"]
    assert agree["difference, points"].tolist() == disagree["difference, points"].tolist() == ["+10.0"]


def test_retrainings_of_other_lengths_do_not_compare(own: Run, trained: list[Run], tmp_path: Path) -> None:
    runs = [own, read_run(shutil.copytree(trained[0].path, tmp_path / "runs" / trained[0].id))]
    for run, lengths in zip(runs, ([1, 2], [1, 2, 3]), strict=True):
        document = json.loads((run.path / PROBE).read_text())
        document["retrained"] = [{"block": 1, "epochs": length, "retrained_accuracy": 0.5} for length in lengths]
        (run.path / PROBE).write_text(json.dumps(document))
    blocks, retrained = read_probes(runs)
    assert retrained["epochs"].tolist() == [2, 2]
    with Image.open(write_probe_figure(blocks, retrained, tmp_path / "figure" / "probe")) as image:
        assert image.width > 1000


def test_the_report_shows_probes_where_there_are_any(
    trained: list[Run], documents: list[dict[str, Any]], runs: list[Run], tmp_path: Path
) -> None:
    text = write_report(Comparison(runs=trained), tmp_path / "one").read_text()
    section = text[text.index("### What every block has learnt") : text.index("### How to reproduce")]
    assert "On 40 validation images." in section
    assert "| MwResNet-8-3 | ResNet-14 |" in section
    assert "(probe.svg)" in section
    assert (tmp_path / "one" / "probe.svg").exists()
    assert "every block has learnt" not in write_report(Comparison(runs=runs[:1]), tmp_path / "other").read_text()


def test_probes_of_another_sample_do_not_compare(own: Run, trained: list[Run]) -> None:
    probe([own], sample=Sample(held_out=30))
    blocks, _ = read_probes([*trained[::2], own])
    assert set(blocks["run"]) == {trained[0].id, trained[2].id}


def test_a_corrupt_probe_is_left_out_of_the_report(
    own: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (own.path / PROBE).write_text('{"schema_version": 1, "blocks": [{}]}')
    assert "every block has learnt" not in write_report(Comparison(runs=[own]), tmp_path / "report").read_text()
    assert "probe.json is corrupt" in capsys.readouterr().err


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


def test_the_command_refuses_what_is_not_finished(own: Run, refused: Callable[..., str]) -> None:
    own.record.status = "running"
    own.write_record()
    assert "is running, not finished" in refused("probe", own.id, "--runs", own.path.parent)
    assert "name the runs" in refused("probe", "--runs", own.path.parent)


def test_somebody_elses_net_is_probed_at_its_own_blocks(
    folder: Dataset, brief: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def chain(classes: int) -> nn.Module:
        convolutions = nn.Conv2d(folder.input_shape[0], 4, 3, stride=4), nn.ReLU(), nn.Conv2d(4, 6, 3)
        return nn.Sequential(*convolutions, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, classes))

    monkeypatch.setattr(zoo, "_registered", {"chain": chain})
    run = train("chain", folder, recipe=replace(brief, validation=0.2), place=Place(runs=tmp_path))
    [document] = probe([run])
    assert [block["depth"] for block in document["blocks"]] == [1, 3]
    assert all(0 <= block["probe_accuracy"] <= 1 for block in document["blocks"])
