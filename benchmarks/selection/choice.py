"""The choice: the most accurate contender on validation images, or a cheaper one that they cannot tell from it."""

from __future__ import annotations

import math
from collections.abc import Sequence

from benchmarks.selection.contender import Contender
from benchmarks.selection.selection_limits import Limits
from benchmarks.statistics.difference import ALPHA, mcnemar_p

MAX_DROP = 0.01  # of accuracy that is given up for lower costs where the images cannot tell the difference
SAME_COST = 1.02  # costs within 2% are equal, as in a budget class
ROUNDING = 1e-9  # differences of fractions are not exact


def choose(contenders: Sequence[Contender], limits: Limits, max_drop: float = MAX_DROP) -> Contender | None:
    """The contender that serves best, of those not left out; None where there is none.

    With a least accuracy it is the cheapest. Otherwise it is the cheapest of those that do as well as the most accurate
    one, see `as_good`; of those that cost the same up to `SAME_COST` it is the most accurate.
    """
    open_to_choice = [each for each in contenders if not each.left_out]
    if not open_to_choice:
        return None
    if limits.accuracy is not None:
        return min(open_to_choice, key=lambda each: by_cost(each, limits))
    best = most_accurate(open_to_choice, limits)
    equals = [each for each in open_to_choice if as_good(each, best, max_drop)]
    lowest = min(by_cost(each, limits)[0] for each in equals)
    return most_accurate([each for each in equals if by_cost(each, limits)[0] <= SAME_COST * lowest], limits)


def most_accurate(contenders: Sequence[Contender], limits: Limits) -> Contender:
    """The most accurate on validation images, of equals the cheapest."""
    return min(contenders, key=lambda each: (-accuracy(each), by_cost(each, limits)))


def as_good(contender: Contender, best: Contender, max_drop: float = MAX_DROP) -> bool:
    """Whether a contender is at most `max_drop` below the best, and not told apart from it.

    That is: McNemar's exact test on the same validation images does not reject at 5% that both are equally accurate.
    """
    return accuracy(best) - accuracy(contender) <= max_drop + ROUNDING and not told_apart(contender, best)


def told_apart(first: Contender, second: Contender) -> bool:
    """Whether McNemar's exact test on the same images rejects at 5% that both are equally accurate."""
    return mcnemar_p(first.right, second.right) < ALPHA


def next_better(
    contenders: Sequence[Contender], chosen: Contender, limits: Limits, max_drop: float = MAX_DROP
) -> Contender | None:
    """The cheapest contender that the limits, or its costs, kept from being chosen and that is better than the chosen.

    Better is what is more accurate, and not merely as good.
    """
    better = [
        each
        for each in contenders
        if each.val_accuracy is not None
        and accuracy(each) > accuracy(chosen)
        and not as_good(chosen, each, max_drop)
        and (each.misses or not each.left_out)
    ]
    return min(better, key=lambda each: (worst_miss(each), by_cost(each, limits)), default=None)


def nearest_to_limits(contenders: Sequence[Contender], limits: Limits) -> Contender | None:
    """The contender that misses the limits by least, of equals the most accurate; None where none was measured."""
    missed = [each for each in contenders if each.misses]
    return min(missed, key=lambda each: (worst_miss(each), -accuracy(each), by_cost(each, limits)), default=None)


def worst_miss(contender: Contender) -> float:
    """The largest factor by which a limit is missed; 1 where none is."""
    return max(contender.misses.values(), default=1.0)


def accuracy(contender: Contender) -> float:
    """Accuracy on validation images; 0 where it was not measured."""
    return contender.val_accuracy or 0.0


def by_cost(contender: Contender, limits: Limits) -> tuple[float, float, float, int, str]:
    """Sort key: the limited cost, MACs, accuracy, parameters, and the name to make it unique."""
    cost = contender.costs[limits.cost]
    return (math.inf if cost is None else cost, contender.macs, -accuracy(contender), contender.params, str(contender))
