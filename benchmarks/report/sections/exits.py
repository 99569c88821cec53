"""Exits: what each one reaches, and whether one training really gives several good models."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.report.group import Group
from benchmarks.report.section import Section, Table, Text
from benchmarks.report.sections.networks import batches
from benchmarks.report.sections.verdicts import contrast_cells, difference_cells
from benchmarks.results.arms import plainly_trained, protocol
from benchmarks.results.cells import Number, accuracy_cell, exit_name, mean_cell, megabytes, millions, ratio
from benchmarks.results.contrasts import CLASS, Contrast, compare, same_class
from benchmarks.statistics.scores import ENOUGH_SEEDS

FAR = 0.25  # beyond this difference in MACs the nearest network is named and nothing subtracted
MEMORY = {  # columns of an exit, if measured
    "on disk": ("bytes", megabytes),
    "activations": ("activations", millions),
    "peak memory, training step of 128 (of it alone)": ("peak_training_bytes", megabytes),
    "peak memory, inference of 1": ("peak_inference_bytes_b1", megabytes),
    "inference of 128": ("peak_inference_bytes_b128", megabytes),
}
SEVERAL_MODELS = ("mwbp", "auxnet")  # the methods that claim to train several models at once; the others are controls
METHOD = (
    f"Each auxiliary exit is compared with the networks of its budget class (MACs within {CLASS:.0%}) that were "
    "trained separately, by plain BP and the same recipe but for rate and decay. If there is none, the nearest network "
    f"is shown without a verdict and, if its MACs differ by more than {FAR:.0%}, without a difference. Differences are "
    "the exit's accuracy minus the network's; p is adjusted for all comparisons of the section by Holm's method."
)
Row = dict[Any, Any]
Pair = tuple[str, str]


def exits_section(group: Group) -> Section | None:
    """A row for each exit of the networks that have several; None if none has."""
    several = group.summary[group.summary["exits"] > 1]
    if several.empty:
        return None
    rows = several.to_dict("records")
    columns: dict[str, list[str]] = {
        "network": [row["network"] for row in rows],
        "exit": [Number(f"{row['exit']:.0f} of {row['exits']:.0f}", row["exit"]) for row in rows],
        "block": [Number(f"{row['block']:.0f}", row["block"]) for row in rows],
        "depth": [Number(f"{row['depth']:.0f}", row["depth"]) for row in rows],
        "test accuracy, %": [accuracy_cell(row) for row in rows],
        "MACs": [millions(row["macs"]) for row in rows],
        "parameters": [millions(row["params"]) for row in rows],
    }
    for heading, (column, form) in MEMORY.items():
        if column in several and several[column].notna().any():
            columns[heading] = [form(value) for value in several[column]]
    for batch in batches(several):
        columns[f"latency ratio, batch {batch}"] = [ratio(value) for value in several[f"latency_ratio_b{batch}"]]
    return Section("Every exit", [Table(columns)])


def separate_section(group: Group) -> Section | None:
    """Auxiliary exits by MW-BP or AuxNet against separately trained networks; None if there are no such exits."""
    summary = group.summary
    auxiliary = summary[~summary["last"] & summary["method"].isin(SEVERAL_MODELS)].to_dict("records")
    if not auxiliary:
        return None
    plain = summary[summary["series"].map(lambda key: plainly_trained(group.configs[key]))].to_dict("records")
    beside = [(row, other) for row in auxiliary for other in _beside(group, row, plain)]
    pairs = [(row, other) for row, other in beside if other is not None]
    judged = _compared(group, [pair for pair in pairs if same_class(*pair)])
    unjudged = _compared(group, [pair for pair in pairs if _near(*pair)])
    return Section(
        "Exits against separately trained networks",
        [
            Text(_answer(auxiliary, list(judged.values()))),
            Table.of((_line(row, other, judged, unjudged) for row, other in beside), last="verdict"),
        ],
        method=METHOD,
    )


def _compared(group: Group, pairs: Sequence[tuple[Row, Row]]) -> dict[Pair, Contrast]:
    """The contrasts of the pairs that have scores, by the names of both exits."""
    scores = {
        exit_name(row): group.scores[row["series"], row["exit"]]
        for pair in pairs
        for row in pair
        if (row["series"], row["exit"]) in group.scores
    }
    names = [(exit_name(row), exit_name(other)) for row, other in pairs]
    return {contrast.pair: contrast for contrast in compare([pair for pair in names if {*pair} <= {*scores}], scores)}


def _beside(group: Group, row: Row, plain: Sequence[Row]) -> Sequence[Row | None]:
    """The networks of the exit's class, else the nearest; None if none was trained alike."""
    wanted = protocol(group.configs[row["series"]])
    alike = [other for other in plain if protocol(group.configs[other["series"]]) == wanted]
    own = [other for other in alike if same_class(row, other)]
    return own or sorted(alike, key=lambda other: _distance(row, other))[:1] or [None]


def _distance(row: Row, other: Row) -> float:
    return abs(math.log(row["macs"] / other["macs"]))


def _near(row: Row, other: Row) -> bool:
    return _distance(row, other) <= math.log1p(FAR)


def _line(
    row: Row, other: Row | None, judged: Mapping[Pair, Contrast], unjudged: Mapping[Pair, Contrast]
) -> dict[str, str]:
    line = {"exit": exit_name(row), "test accuracy, %": mean_cell(row)}
    if other is None:
        return line | {"verdict": "no network was trained alike"}
    share = other["macs"] / row["macs"]
    line |= {
        "separately trained": exit_name(other),
        "its accuracy, %": mean_cell(other),
        "its MACs": Number(f"{share:.0%}", share),
    }
    pair = (exit_name(row), exit_name(other))
    if pair in judged:
        return line | contrast_cells(judged[pair])
    if pair in unjudged:
        return line | difference_cells(unjudged[pair]) | {"verdict": "none: other budget"}
    return line | {"verdict": "none: no predictions" if _near(row, other) else "none: other budget"}


def _answer(auxiliary: Sequence[Row], judged: Sequence[Contrast]) -> str:
    """What the comparisons within a class come to, in one sentence."""
    exits = f"Of {len(auxiliary)} auxiliary exit{'s' if len(auxiliary) > 1 else ''}"
    matched = len({contrast.network for contrast in judged})
    if not matched:
        return (
            f"{exits} none has a separately trained network of its budget class here: whether one training gives "
            "several good models is not answered."
        )
    counts = Counter(_finding(contrast) for contrast in judged)
    few = min(min(contrast.found.seeds) for contrast in judged) < ENOUGH_SEEDS
    return (
        f"{exits} {matched} {'has' if matched == 1 else 'have'} a separately trained network of the same budget class "
        f"here. Of these comparisons: {', '.join(f'{count} {finding}' for finding, count in counts.items())}"
        f"{' (preliminary)' if few else ''}."
    )


def _finding(contrast: Contrast) -> str:
    if not contrast.distinguishable:
        return "not distinguishable"
    return "more accurate" if contrast.found.estimate > 0 else "less accurate"
