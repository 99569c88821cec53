"""The search for a budget: the walk along a removal order, or the bisection of a latency, that meets it."""

from __future__ import annotations

import math
from collections.abc import Callable

from baselines.budget import NEAREST, TOLERANCE, AlreadyMetError, Budget, Limit, Quartiles
from baselines.removal_order import RemovalOrder, Removed, Size, with_move
from compress.errors import UsageError

LATENCY_TRIALS = 10  # bisection steps of a latency budget, each of which measures a network


def _check_reachable(limit: Limit, order: RemovalOrder, whole: Size) -> None:
    """Refuse a limit that no moves can meet.

    Raises:
        AlreadyMetError: the network is no larger than the limit, or larger by less than 1%.
        UsageError: all moves together remove too little.
    """
    now, smallest, target = order.size(order.none), order.smallest, limit.in_words(limit.value, whole)
    if limit.measure(now) * (1 - TOLERANCE) <= limit.value < limit.measure(now):
        raise AlreadyMetError(f"{target} is what the network has, to within 1%: nothing would be pruned")
    refused = (
        f"{target} cannot be reached: this network has {limit.measure(now):,} and can be pruned to "
        f"{limit.in_words(limit.measure(smallest), whole)} at the least"
    )
    if limit.value >= limit.measure(now):
        raise AlreadyMetError(refused)
    if limit.off(smallest) > TOLERANCE:
        raise UsageError(refused)


def meet(budget: Budget, order: RemovalOrder, *, whole: Size | None = None, within: float = TOLERANCE) -> Removed:
    """Choose the units to remove for a budget in MACs or parameters, or for a ratio.

    Moves are taken in order. One that overshoots by more than the network is now off, as a channel of a group that
    spans a stage may, is skipped with its structure, and cheaper moves after it are taken; not so in lockstep.

    Args:
        whole: size that a speed-up refers to, where the network was pruned before.
        within: greatest relative miss that is accepted; whole blocks, say, cannot meet 1%.

    Raises:
        UsageError: the budget cannot be met (the error names what can), or nothing would be removed.
    """
    if budget.ratio is not None:
        if order.at_ratio is None:
            raise UsageError("--ratio is of channels, and this method removes none: use --speedup, --macs or --params")
        removed = order.at_ratio(budget.ratio)
        if removed == order.none:
            raise UsageError(f"--ratio {budget.ratio:g}: nothing would be pruned: no group of channels loses one")
        return removed
    now = order.size(order.none)
    whole = whole or now
    untouched = whole == now  # removing nothing is then no answer; after an earlier step it may be the nearest
    limit = Limit.of(budget, whole)
    _check_reachable(limit, order, whole)
    sizes = {side: order.size(side) for side in _sides(limit, order)}
    closest = min(sizes, key=lambda side: (untouched and side == order.none, abs(limit.off(sizes[side]))))
    off = abs(limit.off(sizes[closest]))
    if (untouched and closest == order.none) or off > within:
        named = [limit.in_words(limit.measure(size), whole) for size in sizes.values()]
        instead = f"--{limit.field} {limit.measure(sizes[closest])}" if untouched else "fewer --steps"
        raise UsageError(
            f"{limit.in_words(limit.value, whole)} cannot be met to within {within:.0%}: the nearest are "
            f"{' and '.join(named)}; " + _advice(off, NEAREST, instead)
        )
    return closest


def check_held(budget: Budget, whole: Size, expected: Size, counted: Size) -> None:
    """Compare the counted size of a pruned network with its budget, which its expected size has met.

    Raises:
        UsageError: it misses the budget by more than was expected, and by more than the tolerance.
    """
    if budget.ratio is not None or budget.latency_ratio is not None:
        return
    limit = Limit.of(budget, whole)
    if abs(limit.off(counted)) > max(TOLERANCE, abs(limit.off(expected))):
        amounts = limit.value, limit.measure(counted), limit.measure(expected)
        asked, has, promised = (limit.in_words(amount, whole) for amount in amounts)
        raise UsageError(f"{asked} is missed: the pruned network, counted, has {has}, where {promised} was expected")


def meet_latency(
    ratio: float, order: RemovalOrder, measure: Callable[[Removed], Quartiles], *, nearest: bool = False
) -> tuple[Removed, Quartiles]:
    """Choose the units to remove for a latency by bisection; return them with the ratio's measured quartiles.

    The budget is met where it lies between the quartiles. Bisection assumes that latency falls with every move, which
    holds only roughly; what is returned was measured. Of equally fast networks the largest is looked for, since latency
    may hardly fall where MACs do.

    Args:
        measure: times the network without the removed units, interleaved with the whole network.
        nearest: accept the nearest measured network, even where the fastest is too slow.

    Raises:
        UsageError: no number of moves gives such a latency; the error names the nearest measured.
    """
    every, bound = len(order.moves), min(NEAREST, (1 / ratio - 1) / 2)  # at least half of the way there
    low, high = 0, every
    found: dict[int, Quartiles] = {every: measure(order.after(order.moves))}
    if _holds(found[every], ratio) or found[every][1] <= ratio or not nearest:
        goal = ratio
    else:  # the fastest network is too slow
        goal = min(found[every][2], (1 + bound) * ratio)

    def enough(count: int) -> bool:
        return found[count][1] <= goal or _holds(found[count], ratio)

    while enough(high) and high - low > 1 and len(found) <= LATENCY_TRIALS:
        middle = (low + high) // 2
        found[middle] = measure(order.after(order.moves[:middle]))
        if enough(middle):
            high = middle
        elif high < every and _holds(found[high], ratio):
            break
        else:
            low = middle
    by_distance = sorted(found, key=lambda count: (not _holds(found[count], ratio), abs(found[count][1] - ratio)))
    closest = high if goal > ratio or _holds(found[high], ratio) else by_distance[0]
    off = abs(found[closest][1] / ratio - 1)
    if not _holds(found[closest], ratio) and (not nearest or off > bound):
        named = [
            f"{middle:.3f} [{low:.3f}, {high:.3f}]" for low, middle, high in map(found.__getitem__, by_distance[:2])
        ]
        raise UsageError(
            f"--latency-ratio {ratio:g} was not met: the nearest measured, with their quartiles, are "
            f"{' and '.join(named)}; " + _advice(off, bound, f"--latency-ratio {found[closest][1]:.3f}")
        )
    return order.after(order.moves[:closest]), found[closest]


def _advice(off: float, bound: float, instead: str) -> str:
    """How to get the nearest network, which misses the budget by a share `off`."""
    if off <= bound:
        return "--nearest takes the nearer one"
    return f"--nearest goes no further than {bound:.0%}: ask for {instead}"


def _holds(quartiles: Quartiles, ratio: float) -> bool:
    return quartiles[0] <= ratio <= quartiles[2]


def _sides(limit: Limit, order: RemovalOrder) -> list[Removed]:
    """Where the walk ends, and the nearest state below the limit that it left out, if any.

    In lockstep these are the last state above the limit, and the first at or below it.
    """
    state, skipped = order.none, set[int]()
    off, short = limit.off(order.size(state)), math.inf
    beyond: Removed = ()
    for move in order.moves:
        if skipped.intersection(structure for structure, _ in move):
            continue  # a structure that overshot once does so again
        taken = with_move(state, move)
        off_taken = limit.off(order.size(taken))
        if order.lockstep and off_taken <= 0:
            return [state, taken]
        if off_taken >= 0 or -off_taken < min(off, TOLERANCE):
            state, off = taken, abs(off_taken)
            if off_taken <= 0:
                break
        elif off <= TOLERANCE:  # near enough, and the next in the order leads away
            break
        else:
            skipped.update(structure for structure, _ in move)
            if -off_taken < short:
                beyond, short = taken, -off_taken
    return [state] + ([beyond] if beyond else [])
