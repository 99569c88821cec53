"""Limits: what runs could not see to is said."""

from dataclasses import replace
from pathlib import Path

from benchmarks import read_comparison
from benchmarks.report.sections.limits import _choosing
from compress.runs import Run

REPORTS = Path(__file__).parents[4] / "reports"


def without_validation(run: Run) -> Run:
    data = run.record.data | {"split": run.record.data["split"] | {"validation": 0}}
    return replace(run, record=replace(run.record, data=data))


def test_choices_by_the_loss_of_training_images_are_named() -> None:
    runs = read_comparison(REPORTS / "pruning").runs
    assert _choosing(runs) == []
    blind = list(map(without_validation, runs))
    [line] = _choosing(blind)
    assert line.startswith("Chosen by the loss of training images")
    assert line.endswith(": which `blocks` go and widths by `sensitivity`.")
    assert _choosing([run for run in blind if run.record.method == "taylor"]) == []
