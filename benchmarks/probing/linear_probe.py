"""Linear probes: how well ridge regression on a block's pooled features predicts the labels of held-out images."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from benchmarks.probing.representations import Batches, by_channel
from compress.networks import Network

Moments = list[tuple[Tensor, Tensor]]  # mean and variance of every channel, a pair for every block
EPSILON = 1e-5  # as batch norm's
STRENGTHS = tuple(10.0**power for power in range(-6, 2))  # candidate ridge strengths, for features of variance 1
CHOOSING = 5  # every fifth of the probe's images chooses among the strengths


@torch.inference_mode()
def channel_moments(network: Network, images: Tensor) -> Moments:
    """Mean and standard deviation `(channels,)` of every block's output over the images and positions of a batch."""
    outputs = by_channel(network, images)
    return [(x.mean(dim=(0, 2)), (x.var(dim=(0, 2), correction=0) + EPSILON).sqrt()) for x in outputs]


@torch.inference_mode()
def pooled_features(network: Network, batches: Batches, moments: Moments) -> list[Tensor]:
    """Every block's features `(N, channels)`, as an exit's batch norm, ReLU and average pooling would make them.

    Outputs of pre-activation blocks are sums before any batch norm and ReLU, those of post-activation blocks are not
    negative. To treat both alike, every channel is standardised by `moments` (batch norm without trained scale and
    shift), rectified, and averaged over the positions of a map or the tokens.
    """
    parts = []
    for images, _ in batches:
        outputs = zip(by_channel(network, images), moments, strict=True)
        parts.append([((x - m[:, None]) / s[:, None]).relu().mean(dim=2) for x, (m, s) in outputs])
    return [torch.cat(block) for block in zip(*parts, strict=True)]


def probe_predictions(features: Tensor, labels: Tensor, held_out: Tensor, classes: int) -> tuple[Tensor, float]:
    """The classes `(M,)` that a linear probe gives held-out features `(M, C)`, and its ridge strength.

    Ridge regression on one-hot targets, in closed form and float64, fitted on `features` `(N, C)`, standardised to mean
    0 and variance 1. One in `CHOOSING` of the N images, never a held-out one, chooses the strength; then all N fit.
    """
    choosing = torch.arange(len(labels), device=labels.device) % CHOOSING == 0
    scores = _ridge_scores(features[~choosing], labels[~choosing], features[choosing], classes, STRENGTHS)
    right = (scores.argmax(dim=-1) == labels[choosing]).sum(dim=1)  # (strengths,)
    strength = STRENGTHS[int(right.argmax())]
    [scores] = _ridge_scores(features, labels, held_out, classes, [strength])
    return scores.argmax(dim=-1), strength


def _ridge_scores(features: Tensor, labels: Tensor, others: Tensor, classes: int, strengths: Sequence[float]) -> Tensor:
    """Scores `(strengths, M, classes)` of `others` `(M, C)`, by weights (Z'Z/N + strength I)^-1 Z'Y/N, Z, Y centred."""
    features, others = features.double(), others.double()
    std, mean = torch.std_mean(features, dim=0, correction=0)
    std = torch.where(std > 0, std, 1.0)  # a dead channel
    z, targets = (features - mean) / std, functional.one_hot(labels, classes).double()
    share = targets.mean(dim=0)
    values, vectors = torch.linalg.eigh(z.T @ z / len(z))
    projected = vectors.T @ (z.T @ (targets - share)) / len(z)  # (C, classes)
    inverse = 1 / (values + torch.tensor(strengths, dtype=values.dtype, device=values.device)[:, None])
    scores: Tensor = ((others - mean) / std) @ vectors @ (inverse[..., None] * projected) + share
    return scores
