"""Batch norm's statistics: synchronised over processes, and re-estimated.

torch's `SyncBatchNorm` refuses tensors on the CPU; the layer here does the same there.
"""

from __future__ import annotations

import copy
import math
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from compress.data import AugmentationDraw, Normalisation, Part, normalise
from compress.errors import UsageError
from compress.hardware import repeatable
from compress.network_cost import cost
from compress.networks import Network, evaluating


def check_one_image(network: Network) -> None:
    """Refuse to train on batches of one image where batch norm would see one value of a channel.

    Raises:
        UsageError: it would.
    """
    trial, like = copy.deepcopy(network).train(), next(network.parameters())
    blank = torch.zeros(1, *network.spec.input_shape, device=like.device, dtype=like.dtype)
    try:
        with torch.random.fork_rng(), torch.no_grad():  # dropout draws random numbers
            trial(blank)
    except ValueError as error:
        raise UsageError(
            f"batch-size 1: batch norm needs two values of a channel, where {network.spec.arch} leaves one: take more "
            "images, or larger ones"
        ) from error


class _MeanOverRanks(torch.autograd.Function):
    """The mean of a tensor over all processes; backward is the same, as gradients are of the sum of all losses."""

    @staticmethod
    def forward(ctx: Any, tensor: Tensor) -> Tensor:
        return _mean_over_ranks(tensor)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return _mean_over_ranks(gradient)


def _mean_over_ranks(tensor: Tensor) -> Tensor:
    total = tensor.clone(memory_format=torch.contiguous_format)
    dist.all_reduce(total)
    return total / dist.get_world_size()


class HostSyncBatchNorm(_BatchNorm):
    """`SyncBatchNorm` for the CPU, with the same parameters and buffers, for equal shares of a batch.

    Input and output `(N, C, ...)` have the same type and memory format; statistics are in fp32 or higher.
    """

    def _check_input_dim(self, input: Tensor) -> None:
        """Accept any shape, since this class replaces those of 1, 2 and 3 dimensions."""

    def forward(self, input: Tensor) -> Tensor:
        if not self.training:
            return super().forward(input)
        x = input.to(torch.promote_types(input.dtype, torch.float32))
        dims = [0, *range(2, x.ndim)]
        own_var, own_mean = torch.var_mean(x, dims, correction=0)
        mean: Tensor = _MeanOverRanks.apply(own_mean)
        var: Tensor = _MeanOverRanks.apply(own_var + (own_mean - mean) ** 2)  # precise even if the mean is large
        self._track(mean.detach(), var.detach(), count=x.numel() // x.shape[1] * dist.get_world_size())
        scale = torch.rsqrt(var + self.eps)
        if self.weight is not None:
            scale = scale * self.weight
        shift = torch.zeros_like(mean) if self.bias is None else self.bias
        by_channel = (1, -1, *[1] * (x.ndim - 2))
        centred = x - mean.view(by_channel)
        return torch.addcmul(shift.view(by_channel), centred, scale.view(by_channel)).to(input.dtype)

    @torch.no_grad()
    def _track(self, mean: Tensor, var: Tensor, *, count: int) -> None:
        """Update the running statistics, with the unbiased variance over all `count` values of a channel."""
        if not self.track_running_stats:
            return
        assert self.num_batches_tracked is not None
        assert self.running_mean is not None
        assert self.running_var is not None
        self.num_batches_tracked.add_(1)
        momentum = 1 / float(self.num_batches_tracked) if self.momentum is None else self.momentum
        self.running_mean.lerp_(mean.to(self.running_mean.dtype), momentum)
        self.running_var.lerp_((var * count / (count - 1)).to(self.running_var.dtype), momentum)


SYNCHRONISED = (nn.SyncBatchNorm, HostSyncBatchNorm)


def synchronise(network: nn.Module, device: torch.device) -> None:
    """Synchronise every batch norm (1d, 2d, 3d) of a network over all processes, in place.

    Parameters, buffers, names and behaviour in eval mode do not change.

    Raises:
        UsageError: another kind of layer keeps running statistics, which would be those of a share of the batch.
    """
    plain = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
    for name, layer in network.named_modules():
        if getattr(layer, "running_mean", None) is not None and type(layer) not in (*plain, *SYNCHRONISED):
            raise UsageError(f"{name} ({type(layer).__name__}) is no batch norm of torch's: train in one process")
    if device.type != "cpu":
        nn.SyncBatchNorm.convert_sync_batchnorm(network)
        return
    for layer in network.modules():
        if type(layer) in plain:
            layer.__class__ = HostSyncBatchNorm  # DistributedDataParallel refuses torch's own class on the CPU


# Number of images from which statistics are re-estimated by default, and batch size.
REESTIMATION_IMAGES = 2000
REESTIMATION_BATCH = 250
# Largest weight that the first half of a training may have in settled running statistics.
OUTDATED = 0.01


def steps_to_settle(network: nn.Module) -> float:
    """The number of steps after which running statistics represent the trained weights; 0 without trained batch norm.

    With momentum m, everything before the last half of n steps has weight (1 - m)^(n / 2) in the statistics. They are
    settled when that is at most `OUTDATED`: after 88 steps for torch's 0.1, never for momentum None, the mean over all
    steps.
    """
    momenta = [layer.momentum or 0.0 for layer in _tracking(network) if layer.training]
    slowest = min(momenta, default=1.0)
    if slowest in (0.0, 1.0):
        return 0.0 if slowest else math.inf
    return math.ceil(2 * math.log(OUTDATED) / math.log1p(-slowest))


def reestimate(
    network: Network,
    part: Part,
    normalisation: Normalisation,
    *,
    images: int | None = REESTIMATION_IMAGES,
    batch: int = REESTIMATION_BATCH,
    trained: bool = False,
    augmented: AugmentationDraw | None = None,
) -> int:
    """Set batch norm's running statistics to the mean over batches of a part's images, in place; returns the MACs.

    Modes, momenta and random state do not change. In parallel training every process does all of it by itself.

    Args:
        images: number of images, drawn at random with a fixed seed, as a part may be sorted by class; None: all.
        trained: skip layers in eval mode, whose statistics training does not change.
        augmented: changes the images as in an epoch of a training. Weights that were trained on padded crops want the
            statistics of these: with those of whole images they lose accuracy.
    """
    layers = [layer for layer in _tracking(network) if layer.training or not trained]
    if not layers:
        return 0
    drawn = torch.randperm(len(part), generator=torch.Generator().manual_seed(0))[:images]
    indices = drawn.tensor_split(-(-len(drawn) // batch))  # of about equal sizes, as all batches have the same weight
    crop = augmented.crop if augmented else None
    before = [(layer.__class__, layer.momentum) for layer in layers]
    try:
        with repeatable(part.labels.device), evaluating(network), torch.no_grad():
            for layer in layers:
                layer.__class__ = _Alone if isinstance(layer, SYNCHRONISED) else layer.__class__
                layer.reset_running_stats()
                layer.momentum = None  # the mean over all batches
                layer.train()
            for rows, pixels in zip(indices, part.batches(indices, crop), strict=True):
                network(normalise(augmented(pixels, rows) if augmented else pixels, normalisation))
    finally:
        for layer, (kind, momentum) in zip(layers, before, strict=True):
            layer.__class__, layer.momentum = kind, momentum
    return cost(network).macs * len(drawn)


class _Alone(_BatchNorm):
    """A synchronised batch norm without synchronisation."""

    def _check_input_dim(self, input: Tensor) -> None:
        """Take any shape."""


def _tracking(network: nn.Module) -> list[_BatchNorm]:
    """The batch norms that keep running statistics."""
    layers = [layer for layer in network.modules() if isinstance(layer, _BatchNorm)]
    return [layer for layer in layers if layer.running_mean is not None]
