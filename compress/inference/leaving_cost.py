"""The cost of leaving at an exit: more than that of the network cut there, since earlier exits were tried in vain."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from compress.network_cost import exit_costs, part_costs
from compress.networks import Network


def leaving_macs(network: Network) -> NDArray[np.int64]:
    """MACs, int64 `(exits,)`, of an image that leaves at each exit: the trunk up to it, and its head and all before.

    `exit_costs` has the MACs of the network cut there instead, which has one head.
    """
    parts = part_costs(network)
    heads = np.array([parts[f"heads.{exit.block}"].macs for exit in network.spec.exits])
    alone = np.array([cost.macs for cost in exit_costs(network)])
    return np.asarray(alone + heads.cumsum() - heads, dtype=np.int64)


def mean_macs(exits: NDArray[np.int64], macs: NDArray[np.int64]) -> float:
    """Mean MACs of images that left at these exits (1-based), from the MACs of leaving at each exit."""
    return float(macs[exits - 1].mean())
