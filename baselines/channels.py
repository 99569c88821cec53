"""Channels: in which order a network's go, and the network without some of them, an ordinary one again."""

from __future__ import annotations

import dataclasses
import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction

from torch import Tensor

from baselines.coupling import Coupling, Group, Scoped, gone, prunable
from baselines.narrowing import narrowed
from baselines.steps import Move, Removed, Steps
from compress.networks import Network


@dataclass(frozen=True)
class Channel:
    """A unit that can be removed: a channel, with those coupled to it, by its group and its place there."""

    group: int
    index: int


@dataclass(frozen=True, kw_only=True)
class Order:
    """The order in which channels go, and what a share of them is.

    Attributes:
        moves: one or more units of one or more groups at a time; of every group one unit stays.
        at_ratio: how many units of every group a share of them is.
    """

    moves: tuple[Move, ...]
    at_ratio: Callable[[float], Removed]
    lockstep: bool = False


def ascending(scores: Sequence[Tensor], groups: Sequence[Group]) -> list[list[int]]:
    """The units of every group, the least important first.

    A unit's score is the mean of its channels', as torch-pruning takes it for grouped convolutions.
    """
    units = [score.view(group.ways, -1).mean(dim=0) for score, group in zip(scores, groups, strict=True)]
    return [unit.argsort(stable=True).tolist() for unit in units]


def by_score(scores: Sequence[Tensor], groups: Sequence[Group]) -> Order:
    """All units of these groups in one order, the least important over the whole network first ("global").

    Every group's best unit is left out, so that one always stays: torch-pruning's own pruner leaves a group whole that
    its threshold would empty, so that a ratio of 0.9 may remove fewer channels than 0.8.
    """
    ranked = sorted(
        (float(score), number)
        for number, (group_scores, group) in enumerate(zip(scores, groups, strict=True))
        for score in group_scores.view(group.ways, -1).mean(dim=0).sort().values[:-1]
    )
    return one_by_one([number for _, number in ranked], [group.units for group in groups])


def one_by_one(order: Sequence[int], units: Sequence[int]) -> Order:
    """The order that takes one unit of a group after the other: `order` names the groups."""

    def at_ratio(ratio: float) -> Removed:
        total = sum(units)
        return _counts(order[: total - int(total * (1 - ratio))], len(units))  # rounded as torch-pruning does

    return Order(moves=tuple(((number, 1),) for number in order), at_ratio=at_ratio)


def in_equal_shares(units: Sequence[int]) -> Order:
    """Every group loses the same share ("uniform"), rounded as torch-pruning does, up to one unit."""

    def at_ratio(ratio: float) -> Removed:
        return tuple(min(own - int(own * (1 - ratio)), own - 1) for own in units)

    # Groups lose their k-th unit just above a share of (k - 1) / units: the states between are those at k / units.
    shares = sorted({Fraction(count, own) for own in units for count in range(1, own)})
    states = [tuple(min(math.ceil(own * share), own - 1) for own in units) for share in shares]
    return Order(moves=_between(states), at_ratio=at_ratio, lockstep=True)


def rounded(order: Order, groups: Sequence[Group], multiple: int) -> Order:
    """The same order with every width at the nearest multiple, halves down to it, at least one multiple.

    torch-pruning rounds down, by up to half of a narrow layer. A group narrower than a multiple stays whole.
    """
    allowed = [_allowed(group, multiple) for group in groups]

    def nearest(removed: Removed) -> Removed:
        kept = [group.units - count for group, count in zip(groups, removed, strict=True)]
        return tuple(
            group.units - min(widths, key=lambda width: (abs(width - one), width))
            for group, one, widths in zip(groups, kept, allowed, strict=True)
        )

    states, state = [], [0] * len(groups)
    for move in order.moves:
        for number, count in move:
            state[number] += count
        states.append(nearest(tuple(state)))
    return dataclasses.replace(order, moves=_between(states), at_ratio=lambda ratio: nearest(order.at_ratio(ratio)))


def steps(order: Order, scoped: Scoped) -> Steps:
    """The steps that an order of a network's groups allows."""
    return Steps(
        units=scoped.units, moves=order.moves, size=scoped.size, lockstep=order.lockstep, at_ratio=order.at_ratio
    )


def remove_channels(network: Network, channels: Iterable[Channel]) -> Network:
    """A copy without those channels, an ordinary network: rebuilt strictly from its own spec.

    It has run forward and backward once, is in eval mode and keeps device and precision; and it equals the network
    with the removed weights at zero.

    Raises:
        UsageError: it does not, or cannot be pruned; the module is named.
    """
    removed: dict[int, list[int]] = defaultdict(list)
    for channel in channels:
        removed[channel.group].append(channel.index)
    with prunable(network.spec):
        return narrowed(network, gone(Coupling(network).groups, removed))


def _allowed(group: Group, multiple: int) -> list[int]:
    """The numbers of units that make a width of a multiple, and the whole."""
    widths = [units for units in range(1, group.units) if units * group.ways % multiple == 0]
    return [*widths, group.units]


def _between(states: Sequence[Removed]) -> tuple[Move, ...]:
    """The moves that lead from nothing removed through these states."""
    moves, before = [], (0,) * len(states[0]) if states else ()
    for state in states:
        move = tuple(
            (number, after - count)
            for number, (after, count) in enumerate(zip(state, before, strict=True))
            if after > count
        )
        moves += [move] if move else []
        before = state
    return tuple(moves)


def _counts(order: Sequence[int], groups: int) -> Removed:
    counts = [0] * groups
    for number in order:
        counts[number] += 1
    return tuple(counts)
