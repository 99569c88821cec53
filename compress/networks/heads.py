"""Heads: the layers that turn a block's features into logits at an exit."""

from collections.abc import Callable
from math import prod

from torch import Tensor, nn

Shape = tuple[int, ...]  # one image's features: (C, H, W), or (positions, C) if channels are last
FOR_POSITIONS = "ln-mean-fc"  # the only head for features with channels last
OWN = "own"  # the head of a foreign network


def linear(shape: Shape, classes: int, width: int) -> nn.Sequential:
    """Global average pooling and one linear layer."""
    return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(shape[0], classes))


def rectified_linear(shape: Shape, classes: int, width: int) -> nn.Sequential:
    """ReLU before the linear head."""
    # Not in place, since the features are also the next block's input.
    return nn.Sequential(nn.ReLU(), *linear(shape, classes, width))


def activated_linear(shape: Shape, classes: int, width: int) -> nn.Sequential:
    """Batch norm and ReLU before the linear head, for the features of pre-activation blocks (MW-BP, v6)."""
    return nn.Sequential(*_activation(shape[0]), *linear(shape, classes, width))


def flattened(shape: Shape, classes: int, width: int) -> nn.Sequential:
    """Batch norm, ReLU and one linear layer over all positions, without pooling."""
    return nn.Sequential(*_activation(shape[0]), nn.Flatten(), nn.Linear(prod(shape), classes))


def convolutional(shape: Shape, classes: int, width: int) -> nn.Sequential:
    """A 3x3 convolution of stride 2 to `width` channels before pooling, batch norm and ReLU around it.

    It uses more than the mean of every channel, which is weak in narrow early stages.
    """
    convolution = nn.Conv2d(shape[0], width, 3, stride=2, padding=1, bias=False)
    return nn.Sequential(*_activation(shape[0]), convolution, *activated_linear((width,), classes, 0))


class ChannelsLast(nn.Module):
    """`(N, C, H, W)` -> `(N, H, W, C)`."""

    def forward(self, features: Tensor) -> Tensor:
        return features.movedim(1, -1)


class MeanOfPositions(nn.Module):
    """`(N, tokens, C)` or `(N, H, W, C)` -> `(N, C)`."""

    def forward(self, features: Tensor) -> Tensor:
        return features.flatten(1, -2).mean(dim=1)


def normalised_mean(shape: Shape, classes: int, width: int) -> nn.Sequential:
    """Layer norm over the channels of every position, the mean over positions, one linear layer: for transformers."""
    channels, order = (shape[1], []) if len(shape) == 2 else (shape[0], [ChannelsLast()])
    return nn.Sequential(*order, nn.LayerNorm(channels), MeanOfPositions(), nn.Linear(channels, classes))


def _activation(channels: int) -> list[nn.Module]:
    return [nn.BatchNorm2d(channels), nn.ReLU(inplace=True)]


HEADS: dict[str, Callable[[Shape, int, int], nn.Module]] = {
    "bn-relu-gap-fc": activated_linear,
    "gap-fc": linear,
    "bn-relu-flatten-fc": flattened,
    "relu-gap-fc": rectified_linear,
    "bn-relu-conv-gap-fc": convolutional,
    FOR_POSITIONS: normalised_mean,
}
# Heads with a convolution, and its default number of channels per channel of the features.
WIDENING = {"bn-relu-conv-gap-fc": 2}


def suitable_head(shape: Shape) -> str:
    """The default head of auxiliary exits in a foreign network."""
    return "bn-relu-gap-fc" if len(shape) == 3 else FOR_POSITIONS
