"""Blocks, the parts of a trunk, each built from a spec with all widths."""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor, nn
from torch.nn import functional

from compress.errors import UsageError, checked
from compress.networks.strided_pointwise import SubsampledConv2d

SEGMENT = "segment"


@checked
@dataclass(frozen=True, kw_only=True)
class BlockSpec:
    """Everything that rebuilds a block; pruning changes only `width` and `out`.

    Attributes:
        kind: a key of `BLOCKS`.
        width: channels between the first and the last convolution.
        out: output channels.
        stride: stride of the first spatial convolution and of the shortcut.
        projection: whether the shortcut is a 1x1 convolution (else the identity).
        opens_stage: pre-activation only: batch norm and ReLU come before the split, so the shortcut is activated too.
    """

    kind: str
    width: int
    out: int
    stride: int = 1
    projection: bool = False
    opens_stage: bool = False

    @property
    def layers(self) -> int:
        """Convolutions in sequence, as depth is counted."""
        return BLOCKS[self.kind].layers

    def shape_after(self, before: tuple[int, ...]) -> tuple[int, ...]:
        """The shape `(C, H, W)` of the output, given the shape of the input."""
        # With kernels of 3 padded by 1, and of 1 unpadded, the size is divided by the stride and rounded up.
        return (self.out, *(-(-size // self.stride) for size in before[1:]))


@checked
@dataclass(frozen=True, kw_only=True)
class SegmentSpec(BlockSpec):
    """A block of a foreign network: what it runs between two of its modules.

    Attributes:
        kind: ``segment``; `width`, `stride`, `projection` and `opens_stage` are not used.
        module: name of the module at the end; ``end`` for the input of the network's own head.
        shape: shape of one image's features there: `(C, H, W)`, or `(positions, C)` where channels come last.
        depth: convolutions and linear layers on the longest path through it.
    """

    kind: str = SEGMENT
    width: int = 1
    module: str
    shape: tuple[int, ...]
    depth: int

    def __post_init__(self) -> None:
        if len(self.shape) not in (2, 3) or min(self.shape) < 1:
            raise UsageError(f"block {self.module}: shape {self.shape!r} is neither (C, H, W) nor (positions, C)")
        if self.out != self.shape[0 if len(self.shape) == 3 else 1] or self.depth < 0:
            raise UsageError(f"block {self.module}: {self.out} channels of shape {self.shape}, {self.depth} layers")

    @property
    def layers(self) -> int:
        """Convolutions and linear layers in sequence."""
        return self.depth

    def shape_after(self, before: tuple[int, ...]) -> tuple[int, ...]:
        """The shape of one image's features at the end of the block."""
        return self.shape


def convolution(inputs: int, out: int, kernel: int, stride: int = 1) -> nn.Conv2d:
    """A square convolution without bias whose padding keeps the size at stride 1."""
    kind = SubsampledConv2d if kernel == 1 and stride > 1 else nn.Conv2d
    return kind(inputs, out, kernel, stride, padding=kernel // 2, bias=False)


class Block(nn.Module):
    """`(N, inputs, H, W)` -> `(N, out, H/stride, W/stride)`.

    Attributes:
        layers: convolutions in sequence, as depth is counted.
        has_shortcut: whether the input is added to the branch's output.
        has_width: whether `width` is free (else it equals the input or output channels).
        kernel: kernel size of the convolutions over all channels.
        drop: probability of dropping an image's branch in training (stochastic depth, Huang et al. 2016).
    """

    layers: ClassVar[int] = 2
    has_shortcut: ClassVar[bool] = True
    has_width: ClassVar[bool] = True
    kernel: ClassVar[int] = 3
    drop = 0.0
    shortcut: nn.Module

    def add(self, branch: Tensor, shortcut: Tensor) -> Tensor:
        """Branch plus shortcut; in training, branches are dropped at random and scaled to the same expectation."""
        if self.training and self.drop:
            kept = functional.dropout(branch.new_ones(len(branch), 1, 1, 1), self.drop)
            return branch * kept + shortcut
        return branch.add_(shortcut)  # in place: the branch's last layer needs its output no more

    @property
    def shortcut_alone(self) -> nn.Module:
        """The layers, shared with the block, that `skip` runs."""
        return self.shortcut

    def skip(self, x: Tensor) -> Tensor | None:
        """The output of the shortcut alone; None where the block has no shortcut. May change `x` in place."""
        output: Tensor | None = self.shortcut(x) if self.has_shortcut else None
        return output

    @property
    def widths(self) -> tuple[int, int]:
        """`width` and `out` of the layers, which pruning may have changed."""
        return len(self.get_parameter("conv1.weight")), len(self.get_parameter(f"conv{self.layers}.weight"))


class PreActivationBlock(Block):
    """Batch norm and ReLU before each of two 3x3 convolutions (He et al. 2016b, as the MW-BP authors use it).

    The sum is not activated.
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
        return self.add(branch, self.shortcut(activated if self.opens_stage else x))

    @property
    def shortcut_alone(self) -> nn.Module:
        return nn.Sequential(self.norm1, self.relu, self.shortcut) if self.opens_stage else self.shortcut

    def skip(self, x: Tensor) -> Tensor:
        output: Tensor = self.shortcut(self.relu(self.norm1(x)) if self.opens_stage else x)
        return output


class PostActivationBlock(Block):
    """Two 3x3 convolutions, each followed by batch norm; ReLU after the first and after the sum (He et al. 2016a).

    A projection shortcut has its own batch norm.
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
        output: Tensor = self.relu(self.add(branch, self.shortcut(x)))
        return output

    @property
    def shortcut_alone(self) -> nn.Module:
        return nn.Sequential(self.shortcut, nn.ReLU())

    def skip(self, x: Tensor) -> Tensor:
        output: Tensor = self.shortcut(x).relu()  # not in place: the identity's output is x itself
        return output


class NormLastBlock(Block):
    """Batch norm, convolution, batch norm, ReLU, convolution, batch norm: no first ReLU (Han et al. 2017, PyramidNet).

    The sum is not activated. A projection shortcut is a convolution alone.
    """

    def __init__(self, inputs: int, spec: BlockSpec) -> None:
        super().__init__()
        self.norm1 = nn.BatchNorm2d(inputs)
        self.conv1 = convolution(inputs, spec.width, 3, spec.stride)
        self.norm2 = nn.BatchNorm2d(spec.width)
        self.conv2 = convolution(spec.width, spec.out, 3)
        self.norm3 = nn.BatchNorm2d(spec.out)
        self.shortcut = convolution(inputs, spec.out, 1, spec.stride) if spec.projection else nn.Identity()
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        branch = self.norm3(self.conv2(self.relu(self.norm2(self.conv1(self.norm1(x))))))
        return self.add(branch, self.shortcut(x))


class InvertedBlock(Block):
    """1x1 expansion to `width`, 3x3 depthwise convolution, 1x1 projection (Sandler et al. 2018, MobileNetV2).

    Batch norm after each, ReLU6 after the first two: the output is linear.
    """

    layers = 3
    has_shortcut = False
    kernel = 1

    def __init__(self, inputs: int, spec: BlockSpec) -> None:
        super().__init__()
        self.conv1 = convolution(inputs, spec.width, 1)
        self.norm1 = nn.BatchNorm2d(spec.width)
        self.conv2 = nn.Conv2d(spec.width, spec.width, 3, spec.stride, padding=1, groups=spec.width, bias=False)
        self.norm2 = nn.BatchNorm2d(spec.width)
        self.conv3 = convolution(spec.width, spec.out, 1)
        self.norm3 = nn.BatchNorm2d(spec.out)
        self.relu = nn.ReLU6(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.relu(self.norm2(self.conv2(self.relu(self.norm1(self.conv1(x))))))
        output: Tensor = self.norm3(self.conv3(hidden))
        return output


class InvertedResidualBlock(InvertedBlock):
    """An `InvertedBlock` whose input is added to its output."""

    has_shortcut = True

    def __init__(self, inputs: int, spec: BlockSpec) -> None:
        super().__init__(inputs, spec)
        # MobileNetV2 has no projections, but they let every block with a shortcut change its shape.
        self.shortcut = convolution(inputs, spec.out, 1, spec.stride) if spec.projection else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return self.add(super().forward(x), self.shortcut(x))


class SeparableBlock(Block):
    """3x3 depthwise convolution, batch norm, ReLU6, 1x1 convolution, batch norm: MobileNetV2's first block.

    `width` is the number of input channels.
    """

    has_shortcut = False
    has_width = False
    kernel = 1

    def __init__(self, inputs: int, spec: BlockSpec) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, inputs, 3, spec.stride, padding=1, groups=inputs, bias=False)
        self.norm1 = nn.BatchNorm2d(inputs)
        self.conv2 = convolution(inputs, spec.out, 1)
        self.norm2 = nn.BatchNorm2d(spec.out)
        self.relu = nn.ReLU6(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        output: Tensor = self.norm2(self.conv2(self.relu(self.norm1(self.conv1(x)))))
        return output


class PointwiseBlock(Block):
    """1x1 convolution, batch norm, ReLU6: MobileNetV2's last layer before pooling. `width` is `out`."""

    layers = 1
    has_shortcut = False
    has_width = False
    kernel = 1

    def __init__(self, inputs: int, spec: BlockSpec) -> None:
        super().__init__()
        self.conv1 = convolution(inputs, spec.out, 1, spec.stride)
        self.norm1 = nn.BatchNorm2d(spec.out)
        self.relu = nn.ReLU6(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        output: Tensor = self.relu(self.norm1(self.conv1(x)))
        return output


BLOCKS: dict[str, type[Block]] = {
    "pre-activation": PreActivationBlock,
    "post-activation": PostActivationBlock,
    "norm-last": NormLastBlock,
    "inverted-residual": InvertedResidualBlock,
    "inverted": InvertedBlock,
    "separable": SeparableBlock,
    "pointwise": PointwiseBlock,
}
