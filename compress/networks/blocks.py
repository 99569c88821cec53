"""Stems and residual blocks: the trunk's parts, each built from a spec that states every width."""

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any

from torch import Tensor, nn

from compress.errors import UsageError


def check_types(spec: Any) -> None:
    """Refuse a spec whose plain fields are not exactly of their declared types: JSON brings 16.0, "2" and null.

    Raises:
        UsageError: a field is not.
    """
    for field in fields(spec):
        value = getattr(spec, field.name)
        if field.type in (int, str, bool) and type(value) is not field.type:
            raise UsageError(f"{type(spec).__name__}: {field.name} {value!r} is not of type {field.type.__name__}")


@dataclass(frozen=True, kw_only=True)
class BlockSpec:
    """What rebuilds one residual block; pruning changes `width` and `out`, nothing else.

    Attributes:
        kind: a key of `BLOCKS`.
        width: channels between the two convolutions.
        out: channels the block hands on.
        stride: of the first convolution and of the shortcut.
        projection: whether the shortcut is a 1x1 convolution (else the identity).
        opens_stage: pre-activation only: batch norm and ReLU come before the split, so the shortcut is activated too.
    """

    kind: str
    width: int
    out: int
    stride: int = 1
    projection: bool = False
    opens_stage: bool = False

    def __post_init__(self) -> None:
        check_types(self)


def convolution(inputs: int, out: int, kernel: int, stride: int = 1) -> nn.Conv2d:
    """A square convolution without bias whose padding keeps the size at stride 1."""
    return nn.Conv2d(inputs, out, kernel, stride, padding=kernel // 2, bias=False)


class PreActivationBlock(nn.Module):
    """Batch norm and ReLU before each of two 3x3 convolutions (He et al. 2016b, as the MW-BP authors use it).

    `(N, inputs, H, W)` -> `(N, out, H/stride, W/stride)`. The sum is not activated.
    """

    def __init__(self, inputs: int, spec: BlockSpec) -> None:
        super().__init__()
        self.opens_stage = spec.opens_stage
        self.norm1 = nn.BatchNorm2d(inputs)
        self.conv1 = convolution(inputs, spec.width, 3, spec.stride)
        self.norm2 = nn.BatchNorm2d(spec.width)
        self.conv2 = convolution(spec.width, spec.out, 3)
        self.shortcut = convolution(inputs, spec.out, 1, spec.stride) if spec.projection else nn.Identity()
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        activated = self.relu(self.norm1(x))
        branch = self.conv2(self.relu(self.norm2(self.conv1(activated))))
        output: Tensor = branch + self.shortcut(activated if self.opens_stage else x)
        return output


class PostActivationBlock(nn.Module):
    """Two 3x3 convolutions, each followed by batch norm; ReLU after the first and after the sum (He et al. 2016a).

    `(N, inputs, H, W)` -> `(N, out, H/stride, W/stride)`. A projection shortcut has its own batch norm.
    """

    def __init__(self, inputs: int, spec: BlockSpec) -> None:
        super().__init__()
        self.conv1 = convolution(inputs, spec.width, 3, spec.stride)
        self.norm1 = nn.BatchNorm2d(spec.width)
        self.conv2 = convolution(spec.width, spec.out, 3)
        self.norm2 = nn.BatchNorm2d(spec.out)
        self.shortcut: nn.Module = nn.Identity()
        if spec.projection:
            self.shortcut = nn.Sequential(convolution(inputs, spec.out, 1, spec.stride), nn.BatchNorm2d(spec.out))
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        branch = self.norm2(self.conv2(self.relu(self.norm1(self.conv1(x)))))
        output: Tensor = self.relu(branch + self.shortcut(x))
        return output


BLOCKS: dict[str, Callable[[int, BlockSpec], nn.Module]] = {
    "pre-activation": PreActivationBlock,
    "post-activation": PostActivationBlock,
}


def bare_stem(inputs: int, out: int) -> nn.Sequential:
    """One 3x3 convolution: pre-activation blocks bring their own batch norm."""
    return nn.Sequential(convolution(inputs, out, 3))


def activated_stem(inputs: int, out: int) -> nn.Sequential:
    """A 3x3 convolution, batch norm, ReLU."""
    return nn.Sequential(convolution(inputs, out, 3), nn.BatchNorm2d(out), nn.ReLU(inplace=True))


STEMS: dict[str, Callable[[int, int], nn.Module]] = {"conv": bare_stem, "conv-bn-relu": activated_stem}
