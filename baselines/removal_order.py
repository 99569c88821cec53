"""Removal orders: which channels or blocks a pruning removes first, and what a network costs without them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from compress.networks import Network

# How many units are removed from every structure: channels of a group of coupled channels, or 1 for a block.
Removed = tuple[int, ...]
# Units that are removed together, as pairs (structure, units); usually one channel of one group.
Move = tuple[tuple[int, int], ...]


class Size(NamedTuple):
    """MACs of one image and parameters of a network up to its last exit, as `exit_costs` counts them."""

    macs: int
    params: int

    @classmethod
    def of(cls, network: Network) -> Size:
        """Count a network's size."""
        from compress.network_cost import exit_costs  # here: budgets are checked without torch

        last = exit_costs(network)[-1]
        return cls(last.macs, last.params)


@dataclass(frozen=True, kw_only=True)
class RemovalOrder:
    """The moves by which a network can be made smaller, the least important units first.

    Attributes:
        units: the number of units of every structure.
        moves: in order; a structure whose last unit has to stay never loses it.
        size: the network's size without the removed units.
        lockstep: whether moves are taken strictly in order; otherwise a move that overshoots a budget is skipped.
        at_ratio: the units that a share of the channels stands for; None where the structures are no channels.
    """

    units: tuple[int, ...]
    moves: tuple[Move, ...]
    size: Callable[[Removed], Size]
    lockstep: bool = False
    at_ratio: Callable[[float], Removed] | None = None

    @property
    def none(self) -> Removed:
        """Nothing removed."""
        return (0,) * len(self.units)

    @property
    def smallest(self) -> Size:
        """The size after all moves."""
        return self.size(self.after(self.moves))

    def after(self, moves: Sequence[Move]) -> Removed:
        """The units removed by these moves."""
        removed = self.none
        for move in moves:
            removed = with_move(removed, move)
        return removed


def with_move(removed: Removed, move: Move) -> Removed:
    """The removed units after one more move."""
    counts = list(removed)
    for structure, units in move:
        counts[structure] += units
    return tuple(counts)
