"""Heads: what turns a block's features into logits at an exit."""

from collections.abc import Callable

from torch import nn


def linear_head(channels: int, classes: int) -> nn.Sequential:
    """Global average pooling and one linear layer: `(N, channels, H, W)` -> `(N, classes)`."""
    return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, classes))


def activated_linear_head(channels: int, classes: int) -> nn.Sequential:
    """Batch norm and ReLU before the linear head, as features of pre-activation blocks need it (MW-BP, v6)."""
    return nn.Sequential(nn.BatchNorm2d(channels), nn.ReLU(inplace=True), *linear_head(channels, classes))


HEADS: dict[str, Callable[[int, int], nn.Module]] = {
    "bn-relu-gap-fc": activated_linear_head,
    "gap-fc": linear_head,
}
