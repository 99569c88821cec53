"""The answer: the most accurate network at each of a few budgets, and the figure that shows all networks."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from scipy import stats

from benchmarks.report.group import Group
from benchmarks.report.section import Section, Table, Text
from benchmarks.results.cells import Number, accuracy_cell, exit_name, millions, ratio
from benchmarks.results.contrasts import CLASS, Contrast, budget_classes, compare
from benchmarks.results.escaping import inline
from benchmarks.statistics.scores import CONFIDENCE, ENOUGH_SEEDS

BUDGETS = 3  # shown beside the reference's, if several networks share each of them
LINES = 3  # budgets shown in any case, as far as there are any
SMALL = 0.25  # of the reference's MACs: of budgets with equally many networks, the nearest to this goes first
CHOSEN = (
    "Best: the highest mean test accuracy at that budget. It was picked on these test images, and so looks somewhat "
    f"better than it is. A budget: networks, or exits cut out, whose MACs are within {CLASS:.0%} of one another; shown "
    "are {own}those with most networks."
)
Row = dict[Any, Any]


def answer_section(group: Group) -> Section:
    """The best network at each budget, with what limits that answer."""
    budgets = _budgets(group)
    judged = _judged(group, budgets)
    reference = group.reference_row
    own = "" if reference is None else f"that of the reference, {reference['network']}, and "
    return Section(
        f"The best network at each budget: {inline(group.data['name'])} ({inline(group.data['copy'])})",
        [
            Text(_caution(group)),
            Table.of(_line(group, rows, judged) for rows in budgets),
            Text(CHOSEN.format(own=own)),
            *group.accuracy_figures[:1],
        ],
        level=2,
    )


def _caution(group: Group) -> str:
    """How far seeds and test images let one tell networks apart."""
    accuracies, seeds = group.summary["test_accuracy"], group.summary["n"]
    best, images = float(accuracies.max()), group.test_images
    interval = stats.binomtest(round(best * images), images).proportion_ci(CONFIDENCE, method="wilson")
    noise = (
        f"The choice of {images:,} test images alone makes an accuracy near {best:.0%} uncertain by about "
        f"±{50 * (interval.high - interval.low):.1f} points ({CONFIDENCE:.0%})."
    )
    fewest = int(seeds.min())
    if fewest >= ENOUGH_SEEDS:
        return f"Accuracies are means with {CONFIDENCE:.0%} intervals (Student's t) over seeds. {noise}"
    counted = ("one seed" if fewest == 1 else f"{fewest} seeds") + (" of some networks" if seeds.max() > fewest else "")
    return f"**Preliminary: {counted}.** Differences between networks may be chance. {noise}"


def _budgets(group: Group) -> list[list[Row]]:
    """The networks and exits at each budget that is shown, the most accurate first; the costliest budget first."""
    whole = group.summary[group.summary["step"].isna()]
    classes = budget_classes(whole["macs"])
    budgets = [
        own.sort_values("test_accuracy", ascending=False, kind="stable").to_dict("records")
        for _, own in whole.groupby(classes)
    ]
    reference = group.reference_row
    full = float(whole["macs"].max() if reference is None else reference["macs"])
    first = [rows for rows in budgets if any(row["series"] == group.reference and row["last"] for row in rows)]
    others = sorted(
        (rows for rows in budgets if rows not in first),
        key=lambda rows: (-len(rows), abs(math.log(rows[0]["macs"] / (SMALL * full)))),
    )
    shared = sum(len(rows) > 1 for rows in others)
    chosen = [*first, *others[: max(LINES - len(first), min(BUDGETS, shared))]]
    return sorted(chosen, key=lambda rows: -rows[0]["macs"])


def _judged(group: Group, budgets: Sequence[Sequence[Row]]) -> dict[frozenset[str], Contrast]:
    """The best of each budget against the others, by both names: as the verdicts have it, else judged here."""
    last = {row["series"]: exit_name(row) for rows in budgets for row in rows if row["last"]}
    known = {
        frozenset((last[one.network], last[one.against])): one
        for one in group.verdicts.contrasts
        if {*one.pair} <= last.keys()
    }
    scores = {
        exit_name(row): group.scores[row["series"], row["exit"]]
        for rows in budgets
        for row in rows
        if (row["series"], row["exit"]) in group.scores
    }
    pairs = [(exit_name(best), exit_name(other)) for best, *others in budgets for other in others]
    left = [pair for pair in pairs if frozenset(pair) not in known and set(pair) <= scores.keys()]
    return known | {frozenset(one.pair): one for one in compare(left, scores)}


def _line(group: Group, rows: Sequence[Row], judged: Mapping[frozenset[str], Contrast]) -> dict[str, str]:
    best, *others = rows
    reference = group.reference_row
    budget = Number(f"{millions(best['macs'])} MACs", best["macs"])
    if reference is not None:
        share = best["macs"] / reference["macs"]
        budget = Number(f"{budget} ({share:.0%} of the reference's)", best["macs"])
    line = {"budget": budget, "best network": exit_name(best), "test accuracy, %": accuracy_cell(best)}
    for column in [str(column) for column in group.summary if str(column).startswith("latency_ratio_b")][:1]:
        batch = column.removeprefix("latency_ratio_b")
        line[f"latency ratio, batch {batch}"] = ratio(best[column])
    found = [judged.get(frozenset((exit_name(best), exit_name(other)))) for other in others]
    return line | {"against the others": _standing(best, found)}


def _standing(best: Row, found: Sequence[Contrast | None]) -> str:
    """How many of the others at its budget the best network can be told from."""
    few = best["n"] < ENOUGH_SEEDS or any(min(one.found.seeds) < ENOUGH_SEEDS for one in found if one)
    alike = sum(one is None or not one.distinguishable for one in found)
    if not found:
        words = "no other network at this budget"
    elif not alike:
        words = "more accurate than " + ("the other one" if len(found) == 1 else f"all {len(found)} others")
    else:
        words = f"not shown to differ from {alike} of {len(found)} other{'s' if len(found) > 1 else ''}"
    return words + (" (preliminary)" if few else "")
