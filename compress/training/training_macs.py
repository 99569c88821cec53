"""Training MACs: what a step on one image costs, and what a training had cost when its network became smaller."""

from __future__ import annotations

from dataclasses import dataclass

from compress.network_cost import cost, exit_costs, head_macs
from compress.networks import Network
from compress.training.objectives import Objective


@dataclass(kw_only=True)
class Spent:
    """What a training has spent so far on what the network as it now is does not show.

    Attributes:
        steps: until the network was last made smaller.
        macs: training MACs of those.
        choosing_macs, choosing_seconds: of choosing what to prune.
        settling_macs, settling_seconds: of recomputing batch norm's statistics.
        settled_epochs: the first so many, after each of which they were, since they take `steps_to_settle`.
    """

    steps: int = 0
    macs: int = 0
    choosing_macs: int = 0
    choosing_seconds: float = 0.0
    settling_macs: int = 0
    settling_seconds: float = 0.0
    settled_epochs: int = 0
    steps_to_settle: float = 0.0


def macs_an_image(network: Network, objective: Objective, teacher: Network | None = None) -> int:
    """Training MACs an image: forward passes once, backward passes twice, every one counted, the teacher's too."""
    forward = cost(network).macs
    taught = cost(teacher).macs if teacher else 0
    if objective.update == "sequential":
        return forward + 2 * sum(exit.macs for exit in exit_costs(network)) + taught
    if objective.frozen_trunk:
        return forward + 2 * sum(head_macs(network)[:-1]) + taught
    return 3 * forward + taught
