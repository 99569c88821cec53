"""Representations: three measures of what every block has learnt. The fourth is in `linear_probe`.

The network is in eval mode, images are normalised `(N, C, H, W)`, batches are pairs of images and labels `(N,)`. Only
the head of the final exit is used, so that networks trained with and without earlier exits are measured alike.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.modules.batchnorm import _BatchNorm

from compress.networks import Network, cut

FEWEST = 4  # images that an unbiased CKA needs
Batches = Iterable[tuple[Tensor, Tensor]]


def block_outputs(network: Network, images: Tensor) -> Iterator[Tensor]:
    """The output of every block; use each before asking for the next, since a block may overwrite its input."""
    features = network.stem(images)
    for block in network.blocks:
        features = block(features)
        yield features


def by_channel(network: Network, images: Tensor) -> Iterator[Tensor]:
    """The output of every block as `(N, channels, positions)`, wherever its maps or tokens have their channels."""
    for features, shape in zip(block_outputs(network, images), network.spec.shapes, strict=True):
        yield features.flatten(1, -2).transpose(1, 2) if len(shape) == 2 else features.flatten(2)


def gradient_shares(network: Network, batches: Batches) -> list[float | None]:
    """The share of the final loss's gradient that reaches every block, adding up to 1; None for one without weights.

    In one batch a block's gradient is the root of the sum over its convolutions (linear layers, attention) of
    (|g| |w|)^2, with Frobenius norms: the norm of the gradient with respect to weights scaled to unit length. With
    batch norm the loss does not depend on the length of w, and g is inversely proportional to it; so the product does
    not depend on it either, but |g| alone does. This holds for the statistics of the batch, so batch norm is in train
    mode, and everything else in eval mode. The norms are averaged over the batches, then divided by their sum. The loss
    is the cross-entropy of the final exit alone, whatever the network was trained by.
    """
    only = cut(network, len(network.spec.exits)).eval()  # a copy: its running statistics may move
    for module in only.modules():
        if isinstance(module, _BatchNorm):
            module.train()
    weights = [_weights(block) for block in only.blocks]
    total = [0.0] * len(weights)
    for images, labels in batches:
        if len(images) == 1:
            continue  # batch norm has no statistics of one image
        only.zero_grad()
        functional.cross_entropy(only(images)[-1], labels).backward()
        for number, of_block in enumerate(weights):
            norms = [float(w.grad.norm() * w.detach().norm()) for w in of_block if w.grad is not None]
            total[number] += math.hypot(*norms)
    whole = sum(total) or 1.0  # 0 where no gradient is left at all
    return [norm / whole if of_block else None for norm, of_block in zip(total, weights, strict=True)]


def _weights(block: nn.Module) -> list[nn.Parameter]:
    layers = [m for m in block.modules() if isinstance(m, nn.Conv2d | nn.Linear | nn.MultiheadAttention)]
    return [weight for layer in layers for weight in layer.parameters(recurse=False) if weight.ndim > 1]


@torch.inference_mode()
def similarities_to_next(network: Network, images: Tensor) -> list[float | None]:
    """Linear CKA of every block's output with the next block's; None for the last block, or fewer than four images.

    Centred kernel alignment (Kornblith et al. 2019, arXiv 1905.00414) of the whole outputs, flattened, with the
    unbiased estimate of HSIC (Song et al. 2012), since the biased one approaches 1 where features outnumber images.
    """
    if len(images) < FEWEST:
        return [None] * len(network.blocks)
    grams = []
    for features in block_outputs(network, images):
        flat = features.flatten(1)
        grams.append((flat @ flat.T).double())
    return [*(linear_cka(first, second) for first, second in pairwise(grams)), None]


def linear_cka(first: Tensor, second: Tensor) -> float:
    """The CKA of two representations of N >= 4 images, from their Gram matrices `(N, N)`; 1 for equal ones."""
    normaliser = math.sqrt(max(_hsic(first, first) * _hsic(second, second), 0.0))
    return _hsic(first, second) / normaliser if normaliser else 0.0


def _hsic(first: Tensor, second: Tensor) -> float:
    n = len(first)
    k, m = first - first.diag().diag(), second - second.diag().diag()
    cross = (k * m).sum() + k.sum() * m.sum() / ((n - 1) * (n - 2)) - 2 / (n - 2) * (k.sum(0) @ m.sum(0))
    return float(cross) / (n * (n - 3))


@torch.inference_mode()
def skip_drops(network: Network, batches: Batches) -> list[float | None]:
    """The drop of the final exit's accuracy (a fraction) when one block is replaced by its shortcut, for every block.

    All other blocks stay unchanged, batch norm included (Veit et al. 2016, arXiv 1605.06431). Of a block that changes
    the shape the projection is left; None for a block without a shortcut.
    """
    head = [*network.heads.values()][-1]
    lost: list[int | None] = [0] * len(network.blocks)
    total = 0
    for images, labels in batches:
        total += len(labels)
        inputs = [network.stem(images)]
        for block in network.blocks:
            inputs.append(block(inputs[-1].clone()))  # a block may overwrite its input
        whole = (head(inputs[-1]).argmax(dim=1) == labels).sum()
        for number, block in enumerate(network.blocks):
            skip = getattr(block, "skip", None)  # the output of the shortcut alone; None where there is no shortcut
            features = skip(inputs[number].clone()) if skip else None
            if features is None:
                lost[number] = None
                continue
            for later in network.blocks[number + 1 :]:
                features = later(features)
            lost[number] = (lost[number] or 0) + int(whole - (head(features).argmax(dim=1) == labels).sum())
    return [None if count is None else count / total for count in lost]
