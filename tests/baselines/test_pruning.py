"""A pruned run: its reference, its record, and what is refused."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from baselines import Budget, prune
from baselines.channels import prunable_channels
from compress.cost import cost
from compress.data import Dataset
from compress.errors import UsageError
from compress.recipes import Recipe, recipe_named
from compress.runs import Run, load
from compress.training import train
from compress.training.objectives import mwbp

HALF = Budget(ratio=0.5)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("runs")


@pytest.fixture(scope="module")
def reference(tiny: Dataset, brief: Recipe, runs: Path) -> Run:
    return train("resnet8", tiny, recipe=brief, runs=runs)


def test_a_reference_trained_alike_is_found_and_the_record_says_what_was_done(
    tiny: Dataset, brief: Recipe, runs: Path, reference: Run
) -> None:
    run = prune("resnet8", tiny, budget=HALF, recipe=brief, runs=runs)
    network, pruned = load(reference), load(run)
    record = run.record
    assert (record.kind, record.method, record.parent) == ("prune", "l1", reference.id)
    assert record.results["requested"] == {"ratio": 0.5}
    assert record.results["achieved"] == {
        "ratio": 1 - prunable_channels(pruned.spec) / prunable_channels(network.spec),
        "speedup": cost(network).macs / cost(pruned).macs,
        "macs": cost(pruned).macs,
        "params": sum(parameter.numel() for parameter in pruned.parameters()),
    }
    assert record.results["achieved"]["ratio"] == pytest.approx(0.5, abs=0.01)
    assert record.results["val_accuracy_before"] == [reference.exits[-1]["val_accuracy"]]
    assert len(record.results["val_accuracy_pruned"]) == 1
    own = 3 * cost(pruned).macs * record.cost["epochs"] * (180 // brief.batch_size * brief.batch_size)
    assert record.cost["training_macs"] == own
    assert record.cost["total_training_macs"] == own + reference.record.cost["training_macs"]
    assert record.config["recipe"]["learning_rate"] == brief.fine_tune_learning_rate
    assert not any(file.suffix in (".pt", ".pth", ".pkl") for file in run.path.rglob("*"))
    assert prune("resnet8", tiny, budget=HALF, recipe=brief, runs=runs).id == run.id


def test_fine_tuning_starts_from_the_pruned_weights(tiny: Dataset, brief: Recipe, runs: Path, reference: Run) -> None:
    frozen = replace(brief, name="quick", fine_tune_learning_rate=0.0, weight_decay=brief.weight_decay)
    run = prune("resnet8", tiny, budget=Budget(ratio=0.3), recipe=frozen, reference=reference.id, runs=runs)
    name = "heads.3.4.weight"  # (classes, channels)
    kept, original = load(run).get_parameter(name), load(reference).get_parameter(name)
    columns = [any(torch.equal(column, other) for other in original.T) for column in kept.T]
    assert all(columns)
    assert kept.shape[1] < original.shape[1]


@pytest.mark.parametrize("other", [{"seed": 1}, {"arch": "resnet14"}])
def test_where_there_is_no_such_reference_one_is_trained_first(
    other: dict[str, Any], tiny: Dataset, brief: Recipe, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train("resnet8", tiny, recipe=brief, runs=tmp_path)
    options: dict[str, Any] = {"arch": "resnet8", "recipe": brief, "runs": tmp_path} | other
    run = prune(dataset=tiny, budget=HALF, **options)
    assert "training one first" in capsys.readouterr().err
    assert len(list(tmp_path.iterdir())) == 3
    assert (tmp_path / str(run.record.parent)).exists()


def test_a_failed_reference_is_resumed_with_its_child(tiny: Dataset, brief: Recipe, tmp_path: Path) -> None:
    parent = train("resnet8", tiny, recipe=brief, runs=tmp_path)
    parent.record.status, parent.record.failure = "failed", "stopped by the test"
    parent.write_record()
    with pytest.raises(UsageError, match="stopped by the test"):
        prune("resnet8", tiny, budget=HALF, recipe=brief, runs=tmp_path)
    assert prune("resnet8", tiny, budget=HALF, recipe=brief, runs=tmp_path, resume=True).record.parent == parent.id


def test_a_reference_elsewhere_is_named_by_its_path(
    tiny: Dataset, brief: Recipe, tmp_path: Path, reference: Run
) -> None:
    run = prune(None, tiny, budget=HALF, reference=reference.path, recipe=brief, runs=tmp_path)
    assert f"--from {reference.path} " in run.record.command


def test_a_multi_exit_network_keeps_all_exits_and_is_fine_tuned_by_mwbp(
    tiny: Dataset, brief: Recipe, tmp_path: Path
) -> None:
    parent = train("resnet8", tiny, method="mwbp", exits=3, recipe=brief, runs=tmp_path)
    run = prune(None, tiny, budget=Budget(speedup=2), reference=parent.path, recipe=brief, runs=tmp_path)
    assert [row["block"] for row in run.exits] == [1, 2, 3]
    assert run.record.config["objective"] == mwbp(run.spec).to_json()
    assert run.record.results["achieved"]["speedup"] == pytest.approx(2, rel=0.011)
    again = prune(None, tiny, budget=Budget(ratio=0.2), reference=run.id, recipe=brief, runs=tmp_path)
    assert again.record.parent == run.id
    assert again.record.cost["total_training_macs"] > run.record.cost["total_training_macs"]


def test_what_does_not_fit_is_refused_before_anything_is_written(
    tiny: Dataset, brief: Recipe, runs: Path, reference: Run
) -> None:
    other_data = replace(tiny, test=tiny.train)
    before = sorted(runs.iterdir())
    cases: list[tuple[dict[str, Any], str]] = [
        ({"method": "l11"}, "did you mean 'l1'"),
        ({"arch": "resnet20", "reference": reference.id}, "is a resnet8, not a resnet20"),
        ({"dataset": other_data, "reference": reference.id}, "was trained on tiny, whose images are not"),
        ({"reference": reference.id, "recipe": recipe_named("paper")}, "another split"),
        ({"reference": "nothing"}, "not a run directory"),
        ({"reference": reference.id, "seed": -1}, "seed -1"),
        ({"dataset": "fashion-mnist-x"}, "unknown data set"),
    ]
    for options, message in cases:
        arguments: dict[str, Any] = {"arch": "resnet8", "dataset": tiny, "recipe": brief, "budget": HALF} | options
        with pytest.raises(UsageError, match=message):
            prune(runs=runs, **arguments)
    assert sorted(runs.iterdir()) == before


def test_a_speedup_that_cannot_be_reached_leaves_no_run(
    tiny: Dataset, brief: Recipe, runs: Path, reference: Run
) -> None:
    before = sorted(runs.iterdir())
    with pytest.raises(UsageError, match="cannot be reached"):
        prune("resnet8", tiny, budget=Budget(speedup=1e6), recipe=brief, runs=runs)
    assert sorted(runs.iterdir()) == before
