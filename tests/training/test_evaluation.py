"""Results by class: by hand on a case that can be counted, and in the record of a run on uneven classes alone."""

import dataclasses
import functools
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks import Comparison, write_report
from benchmarks.report.sections.uneven_classes import _confusion
from compress import Place
from compress.cli.printing import show_runs
from compress.data import Dataset
from compress.errors import UsageError
from compress.recipes import Recipe
from compress.records import parse_record
from compress.runs import read_run
from compress.training import Method, evaluation, train
from compress.training.evaluation import class_rows

LABELS = torch.tensor([0, 0, 0, 0, 1, 1])
ANSWERS = ([0, 0, 0, 0, 0, 0], [0, 0, 0, 2, 1, 0])  # of two exits
LOGITS = torch.nn.functional.one_hot(torch.tensor(ANSWERS), 3).float()


def test_accuracies_and_confusion_by_hand() -> None:
    assert class_rows(LOGITS, LABELS, torch.tensor([0, 1, 2])) == {
        "train_images": [1, 1, 1],
        "test_images": [4, 2, 0],
        "balanced_accuracy": [0.5, (0.75 + 0.5) / 2],
        "accuracy": [[1.0, 0.0, None], [0.75, 0.5, None]],
        "confusion": [[3, 0, 1], [1, 1, 0], [0, 0, 0]],
    }


@pytest.mark.parametrize(("largest", "uneven"), [(10, False), (14, False), (15, True)])
def test_classes_are_uneven_from_half_as_many_again(largest: int, uneven: bool) -> None:
    labels = torch.arange(2).repeat_interleave(torch.tensor([largest, 10]))
    even = torch.arange(2).repeat_interleave(10)
    for train_labels, test_labels in ((labels, even), (even, labels)):
        found = class_rows(torch.zeros(1, len(test_labels), 2), test_labels, train_labels)
        assert (found is not None) == uneven


def test_many_classes_have_no_confusion_in_a_record() -> None:
    labels = torch.arange(evaluation.MOST_CLASSES + 1)
    found = class_rows(torch.eye(len(labels))[None], labels, torch.tensor([0]))
    assert found is not None
    assert found["confusion"] is None
    assert found["balanced_accuracy"] == [1.0]


def test_a_run_on_uneven_classes_says_so_in_record_table_and_report(
    tiny: Dataset, brief: Recipe, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place = Place(runs=tmp_path / "runs")
    kept = torch.cat([(tiny.train.labels == 3).nonzero().flatten()[:5], (tiny.train.labels != 3).nonzero().flatten()])
    uneven = dataclasses.replace(tiny, train=tiny.train.subset(kept))
    recipe = brief.changed(validation=0.2)
    run = train("resnet8", uneven, method=Method(ensemble=2), exits=2, recipe=recipe, place=place)
    found = read_run(run.path).record.results["per_class"]
    assert found["train_images"][3] < 5 < found["train_images"][0]
    assert sum(map(sum, found["confusion"])) == len(tiny.test)
    for row, accuracies, balanced in zip(run.exits, found["accuracy"], found["balanced_accuracy"], strict=True):
        # The test images are even, so both means are the same.
        assert balanced == pytest.approx(row["test_accuracy"]) == pytest.approx(sum(accuracies) / 10)
    right = sum(found["confusion"][label][label] for label in range(10))
    assert right / len(tiny.test) == pytest.approx(run.exits[-1]["test_accuracy"])

    assert run.ensemble is not None
    [averaged], confusion = run.ensemble["per_class"]["balanced_accuracy"], run.ensemble["per_class"]["confusion"]
    assert averaged == pytest.approx(run.ensemble["test_accuracy"])
    assert sum(confusion[label][label] for label in range(10)) / len(tiny.test) == pytest.approx(averaged)

    show_runs([run], as_json=False)
    printed = capsys.readouterr().out
    assert "balanced_accuracy" in printed
    assert f", balanced {averaged:.4f};" in printed
    report = write_report(Comparison(runs=[run]), tmp_path / "report").read_text()
    assert "### Uneven classes" in report
    assert "| T-shirt/top" in report
    assert "Test images of MwResNet-8-2 by" in " ".join(report.split())
    assert "Test images of MwResNet-8-2 (ensemble) by" in " ".join(report.split())

    for keys, exits in ((("results", "per_class"), 2), (("results", "ensemble", "per_class"), 1)):
        damaged = json.loads((run.path / "run.json").read_text())
        functools.reduce(dict.__getitem__, keys, damaged)["confusion"][0].pop()
        with pytest.raises(UsageError, match=f"per_class: not the numbers of {exits} exits and 10 classes"):
            parse_record(json.dumps(damaged).encode(), run.id)


def test_a_class_called_class_has_a_column_of_its_own() -> None:
    table = _confusion(["class", "other", "other"], np.arange(9).reshape(3, 3))
    assert list(table.columns) == ["class", "class (0)", "other (1)", "other (2)"]


def test_a_run_on_even_classes_has_no_such_results(tiny: Dataset, brief: Recipe, tmp_path: Path) -> None:
    run = train("resnet8", tiny, recipe=brief, place=Place(runs=tmp_path / "runs"))
    assert "per_class" not in run.record.results
    assert "Uneven" not in write_report(Comparison(runs=[run]), tmp_path / "report").read_text()
