"""Ensemble: a network with several exits that answers with the weighted mean of their logits."""

import copy
import dataclasses
from collections.abc import Sequence

from torch import Tensor, nn

from compress.errors import UsageError
from compress.networks.network import Network


class Ensemble(Network):
    """A copy of a network's last exits, whose one output, `[logits]`, is the weighted mean of theirs.

    Its convolutions and linear layers are those of the whole network without earlier heads.

    Args:
        weights: of the last exits' logits, shallow to deep; so many exits are averaged.

    Raises:
        UsageError: there are fewer than two weights, or more than exits.
    """

    def __init__(self, network: Network, weights: Sequence[float]) -> None:
        nn.Module.__init__(self)
        exits = network.spec.exits
        if not 2 <= len(weights) <= len(exits):
            raise UsageError(f"ensemble of {len(weights)} exits: {network.spec.arch} has {len(exits)}")
        copied = copy.deepcopy(network)  # keeps mode, device, precision and memory format
        self.spec = dataclasses.replace(network.spec, exits=exits[-len(weights) :])
        self.numbers, self.stem, self.blocks = copied.numbers, copied.stem, copied.blocks
        self.heads = nn.ModuleDict({str(exit.block): copied.heads[str(exit.block)] for exit in self.spec.exits})
        self.weights = tuple(weights)
        self.train(network.training)

    def forward(self, images: Tensor, trunk_share: Tensor | None = None) -> list[Tensor]:
        """The mean of the logits, `[(N, classes)]`."""
        return [mean_of(super().forward(images, trunk_share), self.weights)]


def mean_of(logits: Sequence[Tensor], weights: Sequence[float]) -> Tensor:
    """The weighted mean of the last logits `(N, classes)`, as many as there are weights (which add up to 1)."""
    parts = [weight * each for weight, each in zip(weights, logits[-len(weights) :], strict=True)]
    total = parts[0]
    for part in parts[1:]:
        total = total + part
    return total
