"""Budgets: what a smaller network may cost, and the walk along a method's steps that meets it."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from baselines.steps import Move, Removed, Size, Steps
from compress.errors import UsageError, checked

TOLERANCE = 0.01
NEAREST = 0.25  # how far off the nearest may be, as a share of what is asked for
LATENCY_TRIALS = 10  # halvings of the moves; each is a session of measuring

# The quartiles of a latency's ratio to the reference, measured interleaved with it.
Quartiles = tuple[float, float, float]


class AlreadyMetError(UsageError):
    """The network costs no more than what is asked for: nothing would be pruned."""


@checked
@dataclass(frozen=True, kw_only=True)
class Budget:
    """What is asked for, one of these.

    Attributes:
        ratio: share of the prunable channels to remove.
        speedup: MACs before / after.
        macs, params: of the last exit, to leave.
        latency_ratio: measured latency after / before.

    Raises:
        UsageError: none or several are given, or one is out of range.
    """

    ratio: float | None = None
    speedup: float | None = None
    macs: float | None = None
    params: float | None = None
    latency_ratio: float | None = None

    def __post_init__(self) -> None:
        given = [_option(name) for name, value in vars(self).items() if value is not None]
        if len(given) != 1:
            options = ", ".join(_option(name) for name in vars(self))
            raise UsageError(f"give one of {options}, not {' and '.join(given) or 'none'}")
        name, value = self.option
        if name in ("ratio", "latency_ratio") and not 0 < value < 1:
            what = "the share of channels removed" if name == "ratio" else "latency after / before"
            raise UsageError(f"{given[0]} {value:g}: {what} lies between 0 and 1, as in 0.5")
        if name == "speedup" and not 1 < value < math.inf:
            raise UsageError(f"--speedup {value:g}: MACs before / after must be above 1, as in 2.6")
        if name in ("macs", "params") and not 0 < value < math.inf:
            raise UsageError(f"{given[0]} {value:g}: must be above 0, as in 97e6")

    @property
    def option(self) -> tuple[str, float]:
        """The field's name and its value."""
        return next((name, value) for name, value in vars(self).items() if value is not None)

    def __str__(self) -> str:
        """As in ``ratio 0.5`` or ``macs 97000000``: exact, since it goes into commands."""
        name, value = self.option
        return f"{name.replace('_', '-')} {int(value) if value == int(value) else value!r}"


class Limit(NamedTuple):
    """A budget for one network: the field of `Size` that is limited, and to what."""

    field: str
    value: float

    @classmethod
    def of(cls, budget: Budget, before: Size) -> Limit:
        """The limit that a budget in MACs or parameters is, for a network of this size."""
        if budget.speedup:
            return cls("macs", before.macs / budget.speedup)
        name, value = budget.option
        return cls(name, value)

    def measure(self, size: Size) -> int:
        """What is limited, of a network."""
        value: int = getattr(size, self.field)
        return value

    def off(self, size: Size) -> float:
        """How far a network is from the limit, as a share of it, above 0 where it is larger."""
        return self.measure(size) / self.value - 1

    def in_words(self, value: float, before: Size) -> str:
        """An amount of it, and what that is of the network before."""
        ratio = self.measure(before) / value
        if self.field == "macs":
            return f"{value:,.0f} MACs (a speed-up of {ratio:.3f})"
        return f"{value:,.0f} parameters ({ratio:.3f} times fewer)"


def least(steps: Steps) -> Size:
    """What is left when all has gone that may go."""
    return steps.size(after(steps, steps.moves))


def check_reachable(budget: Budget, steps: Steps, whole: Size | None = None) -> None:
    """Refuse a budget that no moves can meet; one of latency is not known before it is measured.

    Raises:
        AlreadyMetError: the network is no larger than the budget, or larger by less than 1%.
        UsageError: all moves together leave too much, or a ratio is asked of what are no channels.
    """
    if budget.latency_ratio is not None:
        return
    if budget.ratio is not None:
        if steps.at_ratio is None:
            raise UsageError("--ratio is of channels, and this method removes none: use --speedup, --macs or --params")
        return
    now, smallest = steps.size((0,) * len(steps.units)), least(steps)
    whole = whole or now
    limit = Limit.of(budget, whole)
    target = limit.in_words(limit.value, whole)
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


def meet(budget: Budget, steps: Steps, *, whole: Size | None = None, within: float = TOLERANCE) -> Removed:
    """What to remove: so that MACs or parameters of the last exit are near enough to the budget, or by a ratio.

    Moves are taken in their order. One that would overshoot further than the network now is off, as a channel that is
    joined over a stage may, is left out, and less costly ones that come after it go instead; not so in lockstep.

    Args:
        whole: the size that a speed-up is of, where the network is not the whole one any more.
        within: by what share of it the budget may be missed; whole blocks, say, cannot do with 1%.

    Raises:
        UsageError: the budget cannot be met, and what can be is named, and how to ask for it; or nothing would be
            removed.
    """
    check_reachable(budget, steps, whole)
    none = (0,) * len(steps.units)
    if budget.ratio is not None:
        assert steps.at_ratio is not None
        removed = steps.at_ratio(budget.ratio)
        if removed == none:
            raise UsageError(f"--ratio {budget.ratio:g}: nothing would be pruned: no group of channels loses one")
        return removed
    now = steps.size(none)
    whole = whole or now
    untouched = whole == now  # then nothing removed is no answer; after a step before, it may be the nearest
    limit = Limit.of(budget, whole)
    sides = (_sides_in_lockstep if steps.lockstep else _sides)(limit, steps)
    sizes = {side: steps.size(side) for side in sides}
    closest = min(sizes, key=lambda side: (untouched and side == none, abs(limit.off(sizes[side]))))
    off = abs(limit.off(sizes[closest]))
    if (untouched and closest == none) or off > within:
        named = [limit.in_words(limit.measure(size), whole) for size in sizes.values()]
        instead = f"--{limit.field} {limit.measure(sizes[closest])}" if untouched else "fewer --steps"
        raise UsageError(
            f"{limit.in_words(limit.value, whole)} cannot be met to within {within:.0%}: the nearest are "
            f"{' and '.join(named)}; " + _advice(off, NEAREST, instead)
        )
    return closest


def check_held(budget: Budget, whole: Size, expected: Size, counted: Size) -> None:
    """Hold what a pruned network costs, as counted, against its budget, which the size expected of it has met.

    Raises:
        UsageError: it misses the budget by more than that did, and by more than the tolerance.
    """
    if budget.ratio is None and budget.latency_ratio is None:
        limit = Limit.of(budget, whole)
        if abs(limit.off(counted)) > max(TOLERANCE, abs(limit.off(expected))):
            asked, has, promised = (
                limit.in_words(amount, whole)
                for amount in (limit.value, limit.measure(counted), limit.measure(expected))
            )
            raise UsageError(
                f"{asked} is missed: the pruned network, counted, has {has}, where {promised} was expected"
            )


def meet_latency(
    ratio: float, steps: Steps, measure: Callable[[Removed], Quartiles], *, nearest: bool = False
) -> tuple[Removed, Quartiles]:
    """What to remove for a latency, and its measured ratio: the budget lies between the ratio's quartiles.

    `measure` times the network without so much, interleaved with the whole one. Halving takes latency to fall with
    every move, which it does but roughly: what is returned was measured. Of networks that are as fast the largest is
    looked for, since latency may hardly fall where all else does; so, too, where the nearest is as fast as it gets.

    Raises:
        UsageError: no number of moves gives such a latency; the nearest measured are named, and how to ask for them.
    """
    every, bound = len(steps.moves), min(NEAREST, (1 / ratio - 1) / 2)  # at least half of the way there
    low, high = 0, every
    found: dict[int, Quartiles] = {every: measure(after(steps, steps.moves))}
    if _holds(found[every], ratio) or found[every][1] <= ratio or not nearest:
        goal = ratio
    else:  # as fast as it gets
        goal = min(found[every][2], (1 + bound) * ratio)

    def enough(count: int) -> bool:
        return found[count][1] <= goal or _holds(found[count], ratio)

    while enough(high) and high - low > 1 and len(found) <= LATENCY_TRIALS:
        middle = (low + high) // 2
        found[middle] = measure(after(steps, steps.moves[:middle]))
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
    return after(steps, steps.moves[:closest]), found[closest]


def _advice(off: float, bound: float, instead: str) -> str:
    """How to get the nearest that there is, which is so far off."""
    if off <= bound:
        return "--nearest takes the nearer one"
    return f"--nearest goes no further than {bound:.0%}: ask for {instead}"


def _holds(quartiles: Quartiles, ratio: float) -> bool:
    return quartiles[0] <= ratio <= quartiles[2]


def _sides(limit: Limit, steps: Steps) -> list[Removed]:
    """Where the walk ends, and the nearest state below the limit that it left aside, if any."""
    state, kept = [0] * len(steps.units), set[int]()
    off, short = limit.off(steps.size(tuple(state))), math.inf
    beyond: Removed = ()
    for move in steps.moves:
        if kept.intersection(knob for knob, _ in move):
            continue  # a knob that overshot once does so again
        taken = _taken(state, move)
        off_taken = limit.off(steps.size(tuple(taken)))
        if off_taken >= 0 or -off_taken < min(off, TOLERANCE):
            state, off = taken, abs(off_taken)
            if off_taken <= 0:
                break
        elif off <= TOLERANCE:  # near enough, and the next in the order leads away
            break
        else:
            kept.update(knob for knob, _ in move)
            if -off_taken < short:
                beyond, short = tuple(taken), -off_taken
    return [tuple(state)] + ([beyond] if beyond else [])


def _sides_in_lockstep(limit: Limit, steps: Steps) -> list[Removed]:
    """The last state above the limit and the first one at or below it."""
    state = [0] * len(steps.units)
    for move in steps.moves:
        taken = _taken(state, move)
        if limit.off(steps.size(tuple(taken))) <= 0:
            return [tuple(state), tuple(taken)]
        state = taken
    return [tuple(state)]


def after(steps: Steps, moves: tuple[Move, ...]) -> Removed:
    """What has gone when these moves are made."""
    state = [0] * len(steps.units)
    for move in moves:
        state = _taken(state, move)
    return tuple(state)


def _taken(state: list[int], move: Move) -> list[int]:
    taken = state.copy()
    for knob, units in move:
        taken[knob] += units
    return taken


def _option(name: str) -> str:
    return "--" + name.replace("_", "-")
