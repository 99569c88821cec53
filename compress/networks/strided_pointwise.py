"""1x1 convolutions with a stride, computed as a subsampling and a convolution with stride 1.

The function and the weights are the same. It avoids a bug of oneDNN (oneDNN#6035, in torch 2.14.1 and 2.15.0): on CPUs
with AVX2 and without AVX-512, the weight gradient of such a layer writes past its workspace if the input has fewer than
8 channels, in channels-last format. The heap is corrupted, or gradients are silently wrong. Shortcuts of narrow first
stages are such layers.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn import functional

Pair = tuple[int, int]
CONVOLUTIONS = (functional.conv2d, torch.conv2d)  # two names of a function, in most releases of torch


class SubsampledConv2d(nn.Conv2d):
    """A 1x1 convolution, unpadded, with a stride: `(N, C, H, W)` -> `(N, out, H/stride, W/stride)`, rounded up."""

    def subsample(self, x: Tensor) -> Tensor:
        """Select the pixels that the convolution uses."""
        return _subsample(x, self.stride)

    def forward(self, x: Tensor) -> Tensor:
        return functional.conv2d(self.subsample(x), self.weight, self.bias, groups=self.groups)


def subsampled_conv2d(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: int | Pair = 1,
    padding: int | Pair | str = 0,
    dilation: int | Pair = 1,
    groups: int = 1,
) -> Tensor:
    """`torch.nn.functional.conv2d` for a 1x1 kernel without padding; dilation has no effect."""
    return functional.conv2d(_subsample(x, stride), weight, bias, groups=groups)


def subsample_modules(model: nn.Module) -> None:
    """Make a network's strided 1x1 convolutions subsample; they remain the same objects, with the same weights."""
    for module in model.modules():
        # A subclass may have a forward of its own; where that can be traced, `subsample_call` finds its convolution.
        if type(module) is nn.Conv2d and _strided_pointwise(module.kernel_size, module.stride, module.padding):
            module.__class__ = SubsampledConv2d


def subsample_call(node: fx.Node, kernel: tuple[int, ...]) -> None:
    """Make a strided 1x1 `torch.nn.functional.conv2d` in a graph subsample, given its weight's shape."""
    called = dict(zip(("x", "weight", "bias", "stride", "padding"), node.args, strict=False)) | node.kwargs
    if _strided_pointwise(kernel[2:], called.get("stride", 1), called.get("padding", 0)):
        named = {("x" if name == "input" else name): value for name, value in node.kwargs.items()}
        node.target, node.kwargs = subsampled_conv2d, named


def _subsample(x: Tensor, stride: int | tuple[int, ...]) -> Tensor:
    # A mean over one pixel. Slicing would take 1.6 times as long, as the convolution copies, and
    # torch-pruning would have to follow the slices.
    return functional.avg_pool2d(x, 1, stride)


def _strided_pointwise(kernel: tuple[int, ...], stride: Any, padding: Any) -> bool:
    strided = max(_pair(stride)) > 1
    return strided and tuple(kernel) == (1, 1) and (padding == "valid" or _pair(padding) == (0, 0))


def _pair(value: Any) -> tuple[int, ...]:
    """A number as a pair; values that are known only when the graph runs count as 1."""
    pair = (value, value) if not isinstance(value, list | tuple) else tuple(value)
    return tuple(number if isinstance(number, int) else 1 for number in pair)
