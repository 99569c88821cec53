"""Stems, the first part of a trunk: a 3x3 convolution, with or without batch norm and an activation."""

from collections.abc import Callable
from functools import partial

from torch import nn

from compress.networks.blocks import convolution


def bare_stem(inputs: int, out: int) -> nn.Sequential:
    """A 3x3 convolution; pre-activation blocks begin with batch norm."""
    return nn.Sequential(convolution(inputs, out, 3))


def activated_stem(inputs: int, out: int, activation: type[nn.Module] = nn.ReLU) -> nn.Sequential:
    """A 3x3 convolution, batch norm and an activation: ReLU, or ReLU6 as in MobileNetV2."""
    return nn.Sequential(convolution(inputs, out, 3), nn.BatchNorm2d(out), activation(inplace=True))


STEMS: dict[str, Callable[[int, int], nn.Module]] = {
    "conv": bare_stem,
    "conv-bn-relu": activated_stem,
    "conv-bn-relu6": partial(activated_stem, activation=nn.ReLU6),
}
