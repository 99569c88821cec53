"""Uneven classes: what accuracy hides where some classes have many more images than others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from benchmarks.report.group import Group, Row
from benchmarks.report.section import Block, Section, Table, Text
from benchmarks.results.cells import Number, accuracy_cell, exit_name, number, percent
from benchmarks.results.escaping import inline
from benchmarks.results.series import series
from compress.ensemble_exit import ENSEMBLE
from compress.runs import Run
from compress.training.evaluation import UNEVEN

MOST_CLASSES = 20  # of tables with a row or a column for each class; records have larger ones
METHOD = (
    f"Classes are uneven if the largest has at least {UNEVEN} times the training or test images of the smallest. "
    "Balanced accuracy is the mean of the accuracies of the classes on test images: a network that always answers with "
    "the largest of K classes reaches 1/K. All numbers are of last exits and of ensembles: means over seeds; "
    "confusions are sums."
)


def classes_section(group: Group) -> Section | None:
    """Balanced accuracies, accuracies of classes and confusions; None where no record has them: classes are even."""
    summary = group.summary[group.summary["last"] | (group.summary["exit"] == ENSEMBLE)]
    found = {_name(row): (row, _of_classes(group.runs, row)) for row in summary.to_dict("records")}
    networks = {name: (row, own) for name, (row, own) in found.items() if own}
    if not networks:
        return None
    classes = [inline(name) for name in group.data["classes"]]
    rows = []
    for name, (row, own) in networks.items():
        each, balanced = _accuracies(own), float(np.mean([results["balanced_accuracy"][-1] for results in own]))
        worst = int(np.nanargmin(each))
        least = {"least accurate class": classes[worst], "its accuracy, %": percent(each[worst])}
        shown = {"test accuracy, %": accuracy_cell(row), "balanced, %": percent(balanced)}
        rows.append({"network": name} | shown | least)
    blocks: list[Block] = [Table.of(rows)]
    if len(classes) > MOST_CLASSES:
        more = f"There are {len(classes)} classes: accuracies of all of them are in the records, `results.per_class`."
        return Section("Uneven classes", [*blocks, Text(more)], method=METHOD)
    blocks.append(Text("Images of every class, and its accuracy, %:"))
    blocks.append(_each_class(classes, {name: own for name, (_, own) in networks.items()}))
    for name, (_, own) in networks.items():
        confusion = np.sum([results["confusion"] for results in own], axis=0)
        blocks.append(Text(f"Test images of {name} by their class (rows) and the predicted one (columns):"))
        blocks.append(_confusion(classes, confusion))
    return Section("Uneven classes", blocks, method=METHOD)


def _name(row: Row) -> str:
    """The network's name, which stands for its last exit."""
    return str(row["network"]) if row["last"] else exit_name(row)


def _of_classes(runs: Sequence[Run], row: Row) -> list[dict[str, Any]]:
    """What the records of a series hold by class, of its exits or of its ensemble; nothing where one has nothing."""
    own = [run for run in runs if series(run) == row["series"]]
    found = [run.ensemble or {} if row["exit"] == ENSEMBLE else run.record.results for run in own]
    each = [results["per_class"] for results in found if "per_class" in results]
    return each if len(each) == len(found) else []  # numbers of other seeds than the accuracy's beside it would mislead


def _accuracies(own: Sequence[dict[str, Any]]) -> np.ndarray:
    """The accuracy of every class `(classes,)` at the last exit; not a number for a class without test images."""
    each = np.array([results["accuracy"][-1] for results in own], dtype=float)
    return np.asarray(each.mean(axis=0))


def _each_class(classes: Sequence[str], networks: Mapping[str, Sequence[dict[str, Any]]]) -> Table:
    """A row for each class: its images, and its accuracy by each network."""
    images = next(iter(networks.values()))[0]
    return Table.of(
        {
            "class": name,
            "training images": number(images["train_images"][label], ",.0f"),
            "test images": number(images["test_images"][label], ",.0f"),
        }
        | {name: percent(_accuracies(own)[label]) for name, own in networks.items()}
        for label, name in enumerate(classes)
    )


def _confusion(classes: Sequence[str], confusion: np.ndarray) -> Table:
    """A row for each class, a column for each predicted one; what is there twice is told apart by number."""
    taken = ["class", *classes]
    headings = [name if taken.count(name) == 1 else f"{name} ({label})" for label, name in enumerate(classes)]
    return Table.of(
        {"class": name} | {heading: Number(f"{count:,}", count) for heading, count in zip(headings, row, strict=True)}
        for name, row in zip(headings, confusion.tolist(), strict=True)
    )
