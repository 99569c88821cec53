"""The spec: everything that rebuilds a network, as plain data that round-trips through JSON."""

import json
from dataclasses import asdict, dataclass
from itertools import accumulate
from typing import Any

from compress.errors import UsageError
from compress.networks.blocks import BLOCKS, STEMS, BlockSpec, check_types
from compress.networks.heads import HEADS, WIDENING


@dataclass(frozen=True, kw_only=True)
class StemSpec:
    """The stem: a key of `STEMS` and its output channels."""

    kind: str
    out: int

    def __post_init__(self) -> None:
        check_types(self)


@dataclass(frozen=True, kw_only=True)
class ExitSpec:
    """An exit: the block it follows (1-based) and its head, a key of `HEADS`.

    `width` is the number of channels of the head's own convolution, 0 for a head without one.
    """

    block: int
    head: str
    width: int = 0

    def __post_init__(self) -> None:
        check_types(self)


@dataclass(frozen=True, kw_only=True)
class Spec:
    """A network in plain data: `Network(spec)` rebuilds it, `to_json` and `from_json` round-trip.

    Attributes:
        arch: the architecture's name, as `create` takes it.
        input_shape: `(C, H, W)` of one image.
        classes: number of classes.

    Raises:
        UsageError: from construction, when the parts do not fit one another.
    """

    arch: str
    input_shape: tuple[int, int, int]
    classes: int
    stem: StemSpec
    blocks: tuple[BlockSpec, ...]
    exits: tuple[ExitSpec, ...]

    def __post_init__(self) -> None:
        check_types(self)
        if len(self.input_shape) != 3 or any(type(size) is not int for size in self.input_shape):
            raise UsageError(f"{self.arch}: input_shape {self.input_shape!r} is not three whole numbers (C, H, W)")
        numbers = [self.stem.out, *(number for b in self.blocks for number in (b.width, b.out, b.stride))]
        if min(*self.input_shape, self.classes, *numbers) < 1:
            raise UsageError(f"{self.arch}: image shape, classes, widths and strides must be positive")
        numbers = [exit.block for exit in self.exits]
        if not numbers or numbers != sorted(set(numbers)) or numbers[0] < 1 or numbers[-1] != len(self.blocks):
            raise UsageError(f"{self.arch}: exits {numbers} must ascend within 1 to {len(self.blocks)} and end there")
        for known, used in (
            (set(STEMS), {self.stem.kind}),
            (set(BLOCKS), {block.kind for block in self.blocks}),
            (set(HEADS), {exit.head for exit in self.exits}),
        ):
            if used - known:
                raise UsageError(f"{self.arch}: no such part {', '.join(used - known)}; known: {', '.join(known)}")
        self._check_shapes()

    def _check_shapes(self) -> None:
        inputs = self.stem.out
        for number, block in enumerate(self.blocks, start=1):
            kind = BLOCKS[block.kind]
            if kind.has_shortcut and not block.projection and (block.stride != 1 or block.out != inputs):
                raise UsageError(f"{self.arch}: block {number} changes the shape but has no projection shortcut")
            if block.projection and not kind.has_shortcut:
                raise UsageError(f"{self.arch}: block {number}, {block.kind}, has no shortcut to project")
            if not kind.has_width and block.width != (inputs if kind.layers > 1 else block.out):
                raise UsageError(f"{self.arch}: block {number}, {block.kind}, has no width of its own: {block.width}")
            inputs = block.out
        for exit in self.exits:
            if (exit.width > 0) != (exit.head in WIDENING):
                raise UsageError(f"{self.arch}: head {exit.head} at block {exit.block} with width {exit.width}")

    @property
    def depths(self) -> tuple[int, ...]:
        """Depth of every exit, as the field counts it: convolutions in sequence; the last with its classifier."""
        after = list(accumulate((BLOCKS[block.kind].layers for block in self.blocks), initial=1))
        depths = [after[exit.block] for exit in self.exits]
        return (*depths[:-1], depths[-1] + 1)

    @property
    def shapes(self) -> tuple[tuple[int, int, int], ...]:
        """`(C, H, W)` of the features after every block, for an image of `input_shape`."""
        _, height, width = self.input_shape
        shapes = []
        for block in self.blocks:  # kernels of 3 padded by 1, and of 1 unpadded: the size is divided, rounded up
            height, width = -(-height // block.stride), -(-width // block.stride)
            shapes.append((block.out, height, width))
        return tuple(shapes)

    def to_json(self) -> dict[str, Any]:
        """The spec as JSON-ready data."""
        data: dict[str, Any] = json.loads(json.dumps(asdict(self)))  # tuples as JSON has them: lists
        return data

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> "Spec":
        """The spec that `to_json` wrote.

        Raises:
            UsageError: keys are missing, unknown, or of the wrong form.
        """
        try:
            parts: dict[str, Any] = {
                "input_shape": tuple(data["input_shape"]),
                "stem": StemSpec(**data["stem"]),
                "blocks": tuple(BlockSpec(**block) for block in data["blocks"]),
                "exits": tuple(ExitSpec(**exit) for exit in data["exits"]),
            }
            return cls(**(data | parts))
        except (KeyError, TypeError, ValueError) as error:
            if isinstance(error, UsageError):
                raise
            raise UsageError(f"not a network spec: {type(error).__name__}: {error}") from error
