"""Exits: what each one reaches, and whether one training really gives several good models."""

from __future__ import annotations

import math
from collections.abc import Sequence

from benchmarks.report.group import Group, Row
from benchmarks.report.section import Block, Section, Table, Text
from benchmarks.report.sections.networks import batches
from benchmarks.report.sections.resources import SIZES, cells
from benchmarks.report.sections.verdicts import judged_pairs
from benchmarks.results.arms import is_subject, plainly_trained, protocol
from benchmarks.results.budget_classes import CLASS, same_class
from benchmarks.results.cells import accuracy_cell, exit_cell, megabytes, millions, number, ratio
from benchmarks.results.contrasts import Contrast
from benchmarks.statistics.scores import ENOUGH_SEEDS
from compress.ensemble_exit import ENSEMBLE

COLUMNS = SIZES | {"peak memory, training step of 128 (of it alone)": ("peak_training_bytes", megabytes)}
NOT_YET = " With one seed, whether one training gives several good models is not answered."
METHOD = (
    f"Each auxiliary exit is compared with the networks of its budget class (MACs within {CLASS:.0%}) that were "
    "trained separately, by plain BP and the same recipe but for rate and decay. Beside others, an exit that has none "
    "is shown with the nearest network, without a verdict. Differences are the exit's accuracy minus the network's; p "
    "is adjusted for all comparisons of the section by Holm's method."
)


def exits_section(group: Group) -> Section | None:
    """A row for each exit of the networks that have several; None if none has."""
    several = group.summary[group.summary["exits"] > 1].to_dict("records")
    rows = (
        {
            "network": row["network"],
            "exit": exit_cell(row),
            "block": number(row["block"], ".0f"),
            "depth": number(row["depth"], ".0f"),
            "test accuracy, %": accuracy_cell(row),
            "MACs": millions(row["macs"]),
            "parameters": millions(row["params"]),
        }
        | cells(row, COLUMNS)
        | {f"latency ratio, batch {batch}": ratio(row[f"latency_ratio_b{batch}"]) for batch in batches(group.summary)}
        for row in several
    )
    return Section("Every exit", [Table.of(rows)]) if several else None


def separate_section(group: Group) -> Section | None:
    """Auxiliary exits of the subjects against separately trained networks; None if there are no such exits."""
    summary = group.summary
    numbered = summary[summary["exit"] != ENSEMBLE]
    configs = [*summary["config"]]
    auxiliary = [row for row in numbered[~numbered["last"]].to_dict("records") if is_subject(row["config"], configs)]
    if not auxiliary:
        return None
    plain = summary[summary["config"].map(plainly_trained)].to_dict("records")
    rows, judged = judged_pairs(group, [(row, other) for row in auxiliary for other in _beside(row, plain)])
    blocks: list[Block] = [Text(_answer(len(auxiliary), judged))]
    if judged:
        blocks.append(Table.of(rows, last="verdict"))
    return Section("Exits against separately trained networks", blocks, method=METHOD)


def _beside(row: Row, plain: Sequence[Row]) -> Sequence[Row]:
    """The networks trained alike of the exit's class, else the nearest."""
    wanted = protocol(row["config"])
    alike = [other for other in plain if protocol(other["config"]) == wanted]
    own = [other for other in alike if same_class(row, other)]
    return own or sorted(alike, key=lambda other: abs(math.log(row["macs"] / other["macs"])))[:1]


def _answer(auxiliary: int, judged: Sequence[Contrast]) -> str:
    """What the comparisons within a class come to, in one sentence."""
    exits = f"Of {auxiliary} auxiliary exit{'s' if auxiliary > 1 else ''}"
    if not judged:
        return (
            f"{exits} none has a separately trained network of its budget class here: whether one training gives "
            "several good models is not answered."
        )
    matched = len({contrast.network for contrast in judged})
    worse, better = (sum(contrast.sign == sign for contrast in judged) for sign in (-1, 1))
    numbers = [number for contrast in judged for number in contrast.found.seeds]
    fewest, single = min(numbers), max(numbers) == 1
    trained = " between these trained networks" if single else ""
    few = " (preliminary)" if fewest < ENOUGH_SEEDS and not single else ""
    found = f"the exit is less accurate in {worse} and more accurate in {better}{few}"
    alike = len(judged) - worse - better
    found += f"; {'the others are' if worse or better else 'all are'} not distinguishable" if alike else ""
    return (
        f"{exits} {matched} {'has' if matched == 1 else 'have'} a separately trained network of the same budget class "
        f"here. Of {len(judged)} comparison{'s' if len(judged) > 1 else ''}{trained}, {found}."
        f"{NOT_YET if fewest == 1 else ''}"
    )
