"""Steps: what can be taken off a network, in the order in which it goes, and what is left at every stage."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from compress import networks

# Of every knob (a group of coupled channels, or a block) how many units (channels; 1 for the block) are gone.
Removed = tuple[int, ...]
# Knobs, and how many of its units go with this move; usually one channel of one group.
Move = tuple[tuple[int, int], ...]


class Size(NamedTuple):
    """What the last exit costs: MACs of one image and parameters, as `compress.cost` counts them."""

    macs: int
    params: int

    @classmethod
    def of(cls, network: networks.Network) -> Size:
        """Return what a network costs, counted."""
        from compress.network_cost import exit_costs  # here, as it imports torch, and a budget is plain data

        last = exit_costs(network)[-1]
        return cls(last.macs, last.params)


@dataclass(frozen=True, kw_only=True)
class Steps:
    """The moves that a method allows, least harmful first.

    Attributes:
        units: of every knob, how many it has.
        moves: in their order; together they never take a knob's last unit where one must stay.
        size: of the network without so many units of every knob.
        lockstep: the moves go in this order alone; otherwise one that overshoots a budget is left out for later ones.
        at_ratio: what a share of the units stands for; None where the units are no channels.
    """

    units: tuple[int, ...]
    moves: tuple[Move, ...]
    size: Callable[[Removed], Size]
    lockstep: bool = False
    at_ratio: Callable[[float], Removed] | None = None
