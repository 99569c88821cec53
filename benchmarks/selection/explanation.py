"""Explanation: a selection in words, why it was made, what the next better one costs, and what to be careful about."""

from __future__ import annotations

import math
from collections import Counter
from typing import TYPE_CHECKING

from benchmarks.measuring.rounds import NOISY
from benchmarks.selection.choice import ROUNDING, accuracy, as_good, most_accurate, told_apart
from benchmarks.selection.contender import Contender, Interval
from benchmarks.selection.selection_limits import COSTS, Limits
from benchmarks.statistics.difference import mcnemar_p
from compress.ensemble_exit import ENSEMBLE
from compress.records import without_seed

if TYPE_CHECKING:
    from benchmarks.selection.selected import Selection

UNITS = {"seconds": (1e3, " ms"), "macs": (1e-6, "M MACs"), "bytes": (1e-6, " MB"), "params": (1e-6, "M parameters")}
NAMES = {"seconds": "latency", "macs": "MACs", "bytes": "bytes", "params": "parameters"}


def amount(cost: str, value: float | None) -> str:
    """A cost with its unit, as in ``41M MACs`` or ``5.2 ms``; a dash where it is not known."""
    scale, unit = UNITS[cost]
    return "-" if value is None else f"{scale * value:.3g}{unit}"


def times(factor: float) -> str:
    """A factor, as in ``1.37 times``."""
    return f"{factor:,.0f} times" if factor >= 100 else f"{factor:.3g} times"


def percent(share: float) -> str:
    """A fraction in percent."""
    return f"{100 * share:.1f}%"


def within(interval: Interval) -> str:
    """An interval of fractions, in percent."""
    return f"[{100 * interval[0]:.1f}, {100 * interval[1]:.1f}]"


def missed(contender: Contender, limits: Limits) -> str:
    """By how much a contender misses the limits, as in ``41M MACs: 1.3 times the limit``; empty if it misses none."""
    parts = [
        f"{amount(cost, contender.costs[cost])}: {times(contender.misses[cost])} the limit"
        for cost in COSTS
        if cost in contender.misses
    ]
    if "accuracy" in contender.misses and limits.accuracy is not None:
        short = 100 * (limits.accuracy - accuracy(contender))
        parts.append(f"{percent(accuracy(contender))} on validation images: {short:.1f} points below")
    return ", ".join(parts)


def reasons(selection: Selection) -> list[str]:
    """Why the chosen one won, and what the next better one would cost; or what comes nearest to the limits."""
    chosen, limits = selection.chosen, selection.limits
    if chosen is None:
        if (near := selection.nearest) is None:
            return ["nothing can be chosen: none could be measured"]
        return [f"nothing is within the limits; {near} comes nearest: {missed(near, limits)}"]
    return [_victory(selection, chosen), _next(selection, chosen)]


def _victory(selection: Selection, chosen: Contender) -> str:
    """Why the chosen one won."""
    feasible, limits = selection.feasible, selection.limits
    cost, images = limits.cost, len(chosen.right)
    if limits.accuracy is not None:
        least = f"at least {percent(limits.accuracy)} on the {images:,} validation images"
        return f"{chosen} wins: of {len(feasible)} with {least} the one with the lowest {NAMES[cost]}"
    best = most_accurate(feasible, limits)
    if chosen is best:
        what = "the only one within the limits" if len(feasible) == 1 else f"the most accurate of {len(feasible)}"
        return f"{chosen} wins: {what}, on {images:,} validation images"
    alike = sum(as_good(each, best, selection.max_drop) for each in feasible)
    factor = (best.costs[cost] or 0) / (chosen.costs[cost] or 1)
    return (
        f"{chosen} wins: lowest {NAMES[cost]} (up to 2%) of {alike} that {images:,} validation images cannot tell "
        f"apart (McNemar's exact test at 5%, {100 * selection.max_drop:g} points at most); {best} is "
        f"{_points(best, chosen)} (p = {mcnemar_p(best.right, chosen.right):.2g}) for {times(factor)} the {NAMES[cost]}"
    )


def _next(selection: Selection, chosen: Contender) -> str:
    """What the next better one would cost."""
    better, cost = selection.next_better, selection.limits.cost
    if better is None:
        unknown = sum(bool(each.misses) and each.val_accuracy is None for each in selection.contenders)
        if unknown:
            above = "1 network above the limits was" if unknown == 1 else f"{unknown} networks above the limits were"
            return f"next better: not known, as {above} not measured in {selection.serving.precision}"
        return "next better: none of the others is more accurate by more than chance"
    if better.misses:
        return f"next better: {better}, {_points(better, chosen)}, needs {missed(better, selection.limits)}"
    factor, needs = (better.costs[cost] or 0) / (chosen.costs[cost] or 1), amount(cost, better.costs[cost])
    return f"next better: {better}, {_points(better, chosen)}, needs {needs}: {times(factor)} that of the chosen one"


def _points(one: Contender, other: Contender) -> str:
    """How much more accurate one is, as in ``+0.8 points``."""
    return f"{100 * (accuracy(one) - accuracy(other)):+.1f} points"


def cautions(selection: Selection) -> list[str]:
    """What to be careful about: luck, noise, limits that are met by less than can be measured, and certificates."""
    chosen, limits = selection.chosen, selection.limits
    lines = []
    if selection.noise > NOISY:
        lines.append(
            f"noisy: one network's times in one round differ by {selection.noise:.0%} between quartiles, more than "
            f"{NOISY:.0%}; measure again on a quiet machine"
        )
    if chosen is None:
        return lines
    if limits.seconds is not None and chosen.seconds_interval and limits.seconds < chosen.seconds_interval[1]:
        low, high = (1e3 * end for end in chosen.seconds_interval)
        lines.append(f"the 95% interval of its median latency, {low:.3g} to {high:.3g} ms, holds the limit")
    if limits.accuracy is not None and chosen.val_interval and chosen.val_interval[0] < limits.accuracy:
        lines.append(
            f"its accuracy may be below {percent(limits.accuracy)}: with {len(chosen.right):,} validation images its "
            f"95% interval is {within(chosen.val_interval)}"
        )
    if (void := chosen.uncertified) is not None:
        lines.append(void)
    if chosen.early is not None:
        lines.append(
            "its thresholds were chosen on the validation images that it is compared on; the test images had no part "
            "in either"
        )
    if chosen.exit == ENSEMBLE:
        lines.append(
            "its weights were fitted on the validation images that it is compared on; the test images had no part in "
            "either"
        )
    return [*lines, *_cheaper(selection, chosen), *_luck(selection, chosen)]


def _cheaper(selection: Selection, chosen: Contender) -> list[str]:
    """A line on the cheapest that is not told apart from the best, and was not taken as its accuracy drops too far."""
    limits = selection.limits
    if limits.accuracy is not None:
        return []
    best = most_accurate(selection.feasible, limits)
    price = chosen.costs[limits.cost] or 0
    alike = [
        each for each in selection.feasible if (each.costs[limits.cost] or 0) < price and not told_apart(each, best)
    ]
    return [
        f"{len(best.right):,} validation images cannot tell {each} ({amount(limits.cost, each.costs[limits.cost])}) "
        f"from {best} either (p = {mcnemar_p(each.right, best.right):.2g}), but its accuracy there is lower by "
        f"{_points(best, each).lstrip('+')}: --max-drop {_at_least(accuracy(best) - accuracy(each)):.1f} accepts that"
        for each in sorted(alike, key=lambda each: -accuracy(each))[:1]
    ]


def _at_least(difference: float) -> float:
    """A difference of accuracies in points, rounded up to a tenth, so that a limit of as much allows it."""
    return math.ceil(1000 * (difference - ROUNDING)) / 10


def _luck(selection: Selection, chosen: Contender) -> list[str]:
    """A line on how many were compared, where the chosen one may be more accurate than another by luck alone."""
    if not any(accuracy(each) < accuracy(chosen) and not told_apart(each, chosen) for each in selection.feasible):
        return []
    arms = Counter(
        f"{without_seed(each.run.record.config)} {each.exit} {each.early is None}" for each in selection.feasible
    )
    seeds = sum(count for count in arms.values() if count > 1)
    several = f", {seeds} of them the same configuration with other seeds" if seeds else ""
    return [
        f"it was chosen from {len(selection.feasible)}{several}: the validation accuracy of the best of many is too "
        "high by luck; test images took no part in the choice"
    ]
