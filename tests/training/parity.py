"""Batches and distance of networks, for comparisons of two trainings in float64."""

import torch
from torch import Tensor

from compress.networks import Network


def batches(steps: int) -> list[tuple[Tensor, Tensor]]:
    """Random images `(8, 1, 8, 8)` and labels for every step, always the same."""
    generator = torch.Generator().manual_seed(2)
    return [
        (
            torch.randn(8, 1, 8, 8, generator=generator, dtype=torch.float64),
            torch.randint(0, 10, (8,), generator=generator),
        )
        for _ in range(steps)
    ]


def disagreement(network: Network, other: Network) -> float:
    """The largest absolute difference of any parameter or running statistic."""
    theirs = other.state_dict()
    return max(float((value - theirs[name]).abs().max()) for name, value in network.state_dict().items())
