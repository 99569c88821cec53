"""Objectives: what a training minimises and how strongly each part of the network is decayed.

Multi-way backpropagation (MW-BP, arXiv 1611.01773) as its authors run it, with K auxiliary exits, takes K+1 backward
passes and K+1 optimisers a step. With all gradients taken at the same weights, SGD with momentum (Nesterov's too) is
linear in the gradient, and the optimisers collapse into one SGD and one backward pass of

    sum_i (gamma_i / lambda_i) L_i,   with weight decay wd * c_j on trunk segment j,   c_j = sum_{i >= j} 1 / lambda_i,

where every head keeps the full gradient of its own loss, the full rate and the plain decay. Plain backpropagation (BP)
is the case of no auxiliary exit.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from compress.errors import UsageError, nearest
from compress.networks import Network, Spec

MINIMUM_GAMMA = 0.01


@dataclass(frozen=True, kw_only=True)
class Objective:
    """The weight of every exit's loss in the trunk, and the factor on every trunk segment's weight decay.

    Both have one entry an exit, shallow to deep; segment j is the trunk from exit j-1 to exit j.
    """

    loss_weights: tuple[float, ...]
    decay_factors: tuple[float, ...]

    def losses(self, logits: Sequence[Tensor], labels: Tensor, label_smoothing: float = 0.0) -> Tensor:
        """The unweighted cross-entropy of every exit, `(exits,)`, in fp32 at least."""
        stacked = torch.stack(list(logits))  # (exits, N, classes)
        stacked = stacked.to(torch.promote_types(stacked.dtype, torch.float32))
        return torch.stack(
            [functional.cross_entropy(exit, labels, label_smoothing=label_smoothing) for exit in stacked]
        )

    def total(self, losses: Tensor) -> Tensor:
        """The scalar to differentiate, from the losses `(exits,)`."""
        return losses @ losses.new_tensor(self.loss_weights)

    def parameter_groups(self, network: Network, *, learning_rate: float, weight_decay: float) -> list[dict[str, Any]]:
        """SGD's parameter groups: one a trunk segment, one a head.

        The total loss brings a head w times its own loss's gradient. A rate of 1/w and a decay of w undo exactly that,
        under any momentum: the buffer holds w times what it would, and the step divides by w.
        """
        segments = [
            {"params": list(segment.parameters()), "lr": learning_rate, "weight_decay": weight_decay * factor}
            for segment, factor in zip(network.segments(), self.decay_factors, strict=True)
        ]
        heads = [
            {"params": list(head.parameters()), "lr": learning_rate / weight, "weight_decay": weight_decay * weight}
            for head, weight in zip(network.heads.values(), self.loss_weights, strict=True)
        ]
        return segments + heads


def bp(spec: Spec) -> Objective:
    """Plain backpropagation from the one exit at the end.

    Raises:
        UsageError: the network has auxiliary exits, whose heads would never be trained.
    """
    if len(spec.exits) > 1:
        raise UsageError(
            f"{spec.arch} has {len(spec.exits)} exits, plain BP trains one: use train-mwbp, or cut it first"
        )
    return Objective(loss_weights=(1.0,), decay_factors=(1.0,))


def mwbp(spec: Spec) -> Objective:
    """Multi-way backpropagation, simultaneous update, with the authors' weights.

    For auxiliary exit i at depth d_i: gamma_i = max(0.01, (d_i / d_last)^2), relative to the last auxiliary exit;
    lambda_i = sum of gamma over auxiliary exits from i on; for the final exit both are 1.
    """
    auxiliary = spec.depths[:-1]
    gamma = [max(MINIMUM_GAMMA, (depth / auxiliary[-1]) ** 2) for depth in auxiliary]
    lambdas = [*_sums_from(gamma), 1.0]
    return Objective(
        loss_weights=tuple(one / total for one, total in zip([*gamma, 1.0], lambdas, strict=True)),
        decay_factors=tuple(_sums_from([1 / value for value in lambdas])),
    )


def _sums_from(values: list[float]) -> list[float]:
    """For every position the sum of the values from there to the end."""
    return list(accumulate(reversed(values)))[::-1]


OBJECTIVES: dict[str, Callable[[Spec], Objective]] = {"bp": bp, "mwbp": mwbp}


def objective_named(method: str, spec: Spec) -> Objective:
    """The objective of a training method for a network.

    Raises:
        UsageError: no such method, or it does not fit the network.
    """
    if method not in OBJECTIVES:
        raise UsageError(f"method {method!r}: {nearest(method, OBJECTIVES)}")
    return OBJECTIVES[method](spec)
