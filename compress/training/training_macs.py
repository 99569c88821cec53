"""MACs of training: per image, and those spent before the network last became smaller."""

from __future__ import annotations

from dataclasses import dataclass

from compress.network_cost import cost, exit_costs, head_macs
from compress.networks import Network
from compress.training.objectives import Objective


@dataclass(kw_only=True)
class Spent:
    """What a training has spent that does not follow from its present network and number of steps.

    Attributes:
        steps: steps before the network last became smaller.
        macs: training MACs of these steps.
        choosing_macs, choosing_seconds: spent on choosing what to prune.
        settling_macs, settling_seconds: spent on recomputing batch norm's statistics.
        settled_epochs: number of first epochs after which they were recomputed, as they need `steps_to_settle`.
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
    """Training MACs per image: forward passes count once, backward passes twice; the teacher's are included."""
    forward = cost(network).macs
    taught = cost(teacher).macs if teacher else 0
    if objective.update == "sequential":
        return forward + 2 * sum(exit.macs for exit in exit_costs(network)) + taught
    if objective.frozen_trunk:
        return forward + 2 * sum(head_macs(network)[:-1]) + taught
    return 3 * forward + taught
