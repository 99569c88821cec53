"""Exits: what each one reaches, and whether one training really gives several good models."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

from benchmarks.report.group import Group, Row
from benchmarks.report.section import Section, Table, Text
from benchmarks.report.sections.networks import batches
from benchmarks.report.sections.verdicts import contrast_cells
from benchmarks.results.arms import plainly_trained, protocol
from benchmarks.results.cells import Number, accuracy_cell, exit_name, mean_cell, megabytes, millions, number, ratio
from benchmarks.results.contrasts import CLASS, Contrast, same_class
from benchmarks.statistics.scores import ENOUGH_SEEDS

MEMORY: dict[str, tuple[str, Callable[[float | None], str]]] = {  # columns of an exit, if measured
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
    "is shown without a verdict. Differences are the exit's accuracy minus the network's; p is adjusted for all "
    "comparisons of the section by Holm's method."
)


def exits_section(group: Group) -> Section | None:
    """A row for each exit of the networks that have several; None if none has."""
    several = group.summary[group.summary["exits"] > 1].to_dict("records")
    timed = [f"latency_ratio_b{batch}" for batch in batches(group.summary)]
    rows = (
        {
            "network": row["network"],
            "exit": Number(f"{row['exit']:.0f} of {row['exits']:.0f}", row["exit"]),
            "block": number(row["block"], ".0f"),
            "depth": number(row["depth"], ".0f"),
            "test accuracy, %": accuracy_cell(row),
            "MACs": millions(row["macs"]),
            "parameters": millions(row["params"]),
        }
        | {heading: form(row.get(column)) for heading, (column, form) in MEMORY.items()}
        | {column.replace("_ratio_b", " ratio, batch "): ratio(row[column]) for column in timed}
        for row in several
    )
    return Section("Every exit", [Table.of(rows)]) if several else None


def separate_section(group: Group) -> Section | None:
    """Auxiliary exits by MW-BP or AuxNet against separately trained networks; None if there are no such exits."""
    summary = group.summary
    auxiliary = summary[~summary["last"] & summary["method"].isin(SEVERAL_MODELS)].to_dict("records")
    if not auxiliary:
        return None
    plain = summary[summary["config"].map(plainly_trained)].to_dict("records")
    beside = [(row, other) for row in auxiliary for other in _beside(row, plain)]
    judged = group.compare((row, other) for row, other in beside if other and same_class(row, other))
    return Section(
        "Exits against separately trained networks",
        [
            Text(_answer(auxiliary, list(judged.values()))),
            Table.of((_line(row, other, judged) for row, other in beside), last="verdict"),
        ],
        method=METHOD,
    )


def _beside(row: Row, plain: Sequence[Row]) -> Sequence[Row | None]:
    """The networks of the exit's class, else the nearest; None if none was trained alike."""
    wanted = protocol(row["config"])
    alike = [other for other in plain if protocol(other["config"]) == wanted]
    own = [other for other in alike if same_class(row, other)]
    return own or sorted(alike, key=lambda other: abs(math.log(row["macs"] / other["macs"])))[:1] or [None]


def _line(row: Row, other: Row | None, judged: Mapping[tuple[str, str], Contrast]) -> dict[str, str]:
    line = {"exit": exit_name(row), "test accuracy, %": mean_cell(row)}
    if other is None:
        return line | {"verdict": "no network was trained alike"}
    share = other["macs"] / row["macs"]
    line |= {
        "separately trained": exit_name(other),
        "its accuracy, %": mean_cell(other),
        "its MACs": Number(f"{share:.0%}", share),
    }
    if contrast := judged.get((exit_name(row), exit_name(other))):
        return line | contrast_cells(contrast)
    return line | {"verdict": "none: no predictions" if same_class(row, other) else "none: other budget"}


def _answer(auxiliary: Sequence[Row], judged: Sequence[Contrast]) -> str:
    """What the comparisons within a class come to, in one sentence."""
    exits = f"Of {len(auxiliary)} auxiliary exit{'s' if len(auxiliary) > 1 else ''}"
    if not judged:
        return (
            f"{exits} none has a separately trained network of its budget class here: whether one training gives "
            "several good models is not answered."
        )
    matched = len({contrast.network for contrast in judged})
    worse, better = (
        sum(contrast.distinguishable and sign * contrast.found.estimate > 0 for contrast in judged) for sign in (-1, 1)
    )
    few = min(min(contrast.found.seeds) for contrast in judged) < ENOUGH_SEEDS
    return (
        f"{exits} {matched} {'has' if matched == 1 else 'have'} a separately trained network of the same budget class "
        f"here. Of {len(judged)} comparison{'s' if len(judged) > 1 else ''}, the exit is less accurate in {worse} and "
        f"more accurate in {better}{' (preliminary)' if few else ''}; the others are not distinguishable."
    )
