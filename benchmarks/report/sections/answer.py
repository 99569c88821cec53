"""The answer: the most accurate network at each of a few budgets, and the figure that shows all networks."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.report.group import Group, Row
from benchmarks.report.section import Section, Table, Text
from benchmarks.report.sections.networks import batches
from benchmarks.results.budget_classes import CLASS, budget_classes
from benchmarks.results.caveats import preliminary, with_caveat
from benchmarks.results.cells import Number, accuracy_cell, exit_name, millions, ratio
from benchmarks.results.contrasts import Contrast
from benchmarks.results.escaping import inline
from benchmarks.results.late_gain import ENOUGH, late_gain
from benchmarks.statistics.scores import CONFIDENCE
from compress.accuracy_interval import accuracy_interval

BUDGETS = 3  # shown at most beside the reference's; a third only if several networks share each of them
SMALL = 0.25  # of the reference's MACs: of budgets with equally many networks, the nearest to this goes first
CHOSEN = (
    "Best: the highest mean test accuracy at that budget; as it was picked on these test images, it is somewhat "
    f"optimistic. A budget holds networks, and exits cut out, whose MACs are within {CLASS:.0%} of one another. Shown "
    "are {own}those with most networks; of equal ones those nearest to a quarter of the reference's MACs."
)
BARS = (
    "Bars are 95% intervals over seeds, cut where they are longer than the scatter of all means. Pale: on average "
    "another network is at least as accurate at no more cost, which the intervals may not tell apart."
)
ONE_TRAINING = (
    "Differences between networks may be the chance of one training: what follows is on the trained networks as they "
    "are, and says nothing of training again or of methods."
)
OF_PRUNING = (
    "What was pruned started from weights that were not finished, and what was trained anew, for longer or with fewer "
    "layers, may be ahead for that alone: no verdict on pruning follows, at most one on trainings so short."
)
OF_TRAINING = (
    "Networks that learn faster look better for it: what is found here is found of trainings of this length, and need "
    "not hold of longer ones."
)
METHOD = (
    "The best network of each budget is compared with every other network, or exit, at that budget. Comparisons that "
    "Verdicts has, too, are taken from there; the others are made in the same way, with p adjusted for all of them by "
    "Holm's method, which takes no account of the choice of the best among them; on a pair that Primary "
    "contrasts tested in a step that is not exploratory its verdict stands. Networks without stored predictions count "
    "among those that are not shown to differ. The reference was still learning if, in the last tenth of its epochs "
    f"(at least one), its validation accuracy rose by {ENOUGH:g} point or more while the loss fell, on average over "
    "seeds. A rate that falls to zero flattens the end of every curve: one that does not rise there may be unfinished, "
    "too."
)


def answer_section(group: Group) -> Section:
    """The best network at each budget, with what limits that answer."""
    budgets = _budgets(group)
    judged = group.compare((best, other) for best, *others in budgets for other in others)
    reference = group.reference_row
    named = [] if reference is None else [f"the budget of the reference, {reference['network']}"]
    named += ["those of the primary contrasts"] if _declared(group) else []
    own = "".join(f"{each}, " for each in named) + "and " * bool(named)
    return Section(
        "The best network at each budget",
        [
            Text(_caution(group)),
            *([Text(unfinished)] if (unfinished := _unfinished(group)) else []),
            Table.of(_line(group, rows, judged) for rows in budgets),
            Text(CHOSEN.format(own=own)),
            *group.accuracy_figures[:1],
            Text(BARS),
        ],
        level=2,
        method=METHOD,
    )


def _caution(group: Group) -> str:
    """How far seeds and test images let one tell networks apart."""
    accuracies, seeds = group.summary["test_accuracy"], group.summary["n"]
    best, images = float(accuracies.max()), group.test_images
    low, high = accuracy_interval(best, images)
    noise = (
        f"Measured on {images:,} test images of {inline(group.name)}, the choice of which alone makes an accuracy near "
        f"{best:.0%} uncertain by about ±{50 * (high - low):.1f} points ({CONFIDENCE:.0%})."
    )
    if not (caveat := preliminary([*seeds])):
        return f"Accuracies are means with {CONFIDENCE:.0%} intervals (Student's t) over seeds. {noise}"
    chance = ONE_TRAINING if seeds.max() == 1 else "Differences between networks may be chance."
    return f"{caveat}{chance} {noise}"


def _unfinished(group: Group) -> str:
    """That the reference was still learning at its end, and what does not follow therefore; empty if it was not."""
    gain = None if group.reference is None else late_gain(group.epochs, group.reference)
    if gain is None or group.reference_row is None:
        return ""
    images = f"{group.data['split']['validation']:,} validation images"
    pruned = bool(group.last["family"].isin(["width", "depth"]).any())
    return (
        f"**{group.reference_row['network']}, the reference, was still learning when its training ended**: its "
        f"accuracy on {images} rose {gain}. {OF_PRUNING if pruned else OF_TRAINING}"
    )


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
    declared = _declared(group)
    first = [
        rows
        for rows in budgets
        if any(row["series"] == group.reference and row["last"] for row in rows)
        or any((row["series"], row["exit"]) in declared for row in rows)
    ]
    others = sorted(
        (rows for rows in budgets if rows not in first),
        key=lambda rows: (-len(rows), abs(math.log(rows[0]["macs"] / (SMALL * full)))),
    )
    shared = sum(len(rows) > 1 for rows in others)
    return sorted([*first, *others[: min(max(shared, 2), BUDGETS)]], key=lambda rows: -rows[0]["macs"])


def _declared(group: Group) -> set[tuple[Any, Any]]:
    """The exits that the primary contrasts compare, by series and exit."""
    keys = {key for step in group.steps for part in step.parts for key in (part.network, part.against)}
    return {(group.by_key[key]["series"], group.by_key[key]["exit"]) for key in keys}


def _line(group: Group, rows: Sequence[Row], judged: Mapping[tuple[str, str], Contrast]) -> dict[str, str]:
    best, *others = rows
    reference, budget = group.reference_row, {"budget, MACs": millions(best["macs"])}
    if reference is not None:
        text = f"{millions(best['macs'])} ({best['macs'] / reference['macs']:.0%})"
        budget = {"budget, MACs (of the reference's)": Number(text, best["macs"])}
    line = budget | {"best network": exit_name(best), "test accuracy, %": accuracy_cell(best)}
    if reference is not None:
        line["training cost"] = ratio(best["total_training_macs"] / reference["total_training_macs"])
    for batch in batches(group.summary)[:1]:
        noisy = ", noisy" if (group.summary["latency_noisy"] > 0).any() else ""
        line[f"latency ratio, batch {batch}{noisy}"] = ratio(best[f"latency_ratio_b{batch}"])
    found = [judged.get((exit_name(best), exit_name(other))) for other in others]
    return line | {"against the others": _standing(best, found)}


def _standing(best: Row, found: Sequence[Contrast | None]) -> str:
    """How many of the others at its budget the best network can be told from."""
    if not found:
        return "no other network at this budget"
    alike = sum(contrast is None or contrast.sign < 1 for contrast in found)
    if alike:
        words = f"not shown to differ from {alike} of {len(found)} other{'s' if len(found) > 1 else ''}"
    else:
        words = "more accurate than " + ("the other one" if len(found) == 1 else f"all {len(found)} others")
    seeds = [best["n"], *(contrast.found.seeds[1] for contrast in found if contrast)]
    return with_caveat(words, seeds)
