"""Channels: the orders in which a network's channels are removed, and the network without some of them."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction

from torch import Tensor

from baselines.coupling import Coupling, Group, gone, prunable
from baselines.removal_order import Move, RemovalOrder, Removed, Size, with_move
from baselines.weight_slicing import narrowed
from compress.networks import Network

SizeWithout = Callable[[Removed], Size]
# Units to remove, each a channel with those coupled to it: indices by the number of their group.
Channels = Mapping[int, Sequence[int]]


def ascending(scores: Sequence[Tensor], groups: Sequence[Group]) -> list[list[int]]:
    """The units of every group, the least important first."""
    return [
        _unit_scores(score, group).argsort(stable=True).tolist() for score, group in zip(scores, groups, strict=True)
    ]


def by_score(scores: Sequence[Tensor], groups: Sequence[Group], size: SizeWithout) -> RemovalOrder:
    """The order over all groups, the least important unit of the whole network first ("global").

    Every group's best unit stays. torch-pruning's own pruner instead leaves a group whole that its threshold would
    empty, so that a ratio of 0.9 may remove fewer channels than 0.8.
    """
    ranked = sorted(
        (float(score), number)
        for number, (group_scores, group) in enumerate(zip(scores, groups, strict=True))
        for score in _unit_scores(group_scores, group).sort().values[:-1]
    )
    return one_by_one([number for _, number in ranked], [group.units for group in groups], size)


def one_by_one(numbers: Sequence[int], units: Sequence[int], size: SizeWithout) -> RemovalOrder:
    """The order that removes one unit of each of the numbered groups in turn."""
    order = RemovalOrder(units=tuple(units), moves=tuple(((number, 1),) for number in numbers), size=size)

    def at_ratio(ratio: float) -> Removed:
        total = sum(units)
        return order.after(order.moves[: total - int(total * (1 - ratio))])  # rounded as torch-pruning does

    return dataclasses.replace(order, at_ratio=at_ratio)


def in_equal_shares(units: Sequence[int], size: SizeWithout) -> RemovalOrder:
    """The order in which every group loses the same share ("uniform"), rounded as torch-pruning does."""

    def at_ratio(ratio: float) -> Removed:
        return tuple(min(own - int(own * (1 - ratio)), own - 1) for own in units)

    # Groups lose their k-th unit just above a share of (k - 1) / units, so these are the states at k / units.
    shares = sorted({Fraction(count, own) for own in units for count in range(1, own)})
    states = [tuple(min(math.ceil(own * share), own - 1) for own in units) for share in shares]
    return RemovalOrder(units=tuple(units), moves=_moves(states), size=size, lockstep=True, at_ratio=at_ratio)


def rounded(order: RemovalOrder, groups: Sequence[Group], multiple: int) -> RemovalOrder:
    """The order with every width rounded to the nearest multiple, halves down, and to at least one multiple.

    torch-pruning rounds down, by up to half of a narrow layer. A group narrower than a multiple stays whole.
    """
    widths = [_multiples(group, multiple) for group in groups]
    exact = order.at_ratio
    assert exact is not None

    def nearest(removed: Removed) -> Removed:
        return tuple(
            group.units - min(allowed, key=lambda width: (abs(width - (group.units - count)), width))
            for group, count, allowed in zip(groups, removed, widths, strict=True)
        )

    states, removed = [], order.none
    for move in order.moves:
        removed = with_move(removed, move)
        states.append(nearest(removed))
    return dataclasses.replace(order, moves=_moves(states), at_ratio=lambda ratio: nearest(exact(ratio)))


def remove_channels(network: Network, channels: Channels) -> Network:
    """A copy without these channels, rebuilt from its own spec, in eval mode, on the same device.

    It has run forward and backward once, and was checked against the network with the removed weights set to zero.

    Raises:
        UsageError: it differs from that, or cannot be pruned.
    """
    with prunable(network.spec):
        return narrowed(network, gone(Coupling(network).groups, channels))


def _unit_scores(scores: Tensor, group: Group) -> Tensor:
    """A group's scores by unit: the mean over a unit's channels, as torch-pruning has it for grouped convolutions."""
    return scores.view(group.ways, -1).mean(dim=0)


def _multiples(group: Group, multiple: int) -> list[int]:
    """The numbers of units whose channels are a multiple, and all units."""
    widths = [units for units in range(1, group.units) if units * group.ways % multiple == 0]
    return [*widths, group.units]


def _moves(states: Sequence[Removed]) -> tuple[Move, ...]:
    """The moves that lead from nothing removed through these states."""
    moves, before = [], (0,) * len(states[0]) if states else ()
    for state in states:
        lost = enumerate(now - earlier for now, earlier in zip(state, before, strict=True))
        move = tuple((number, count) for number, count in lost if count > 0)
        moves += [move] if move else []
        before = state
    return tuple(moves)
