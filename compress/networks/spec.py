"""The spec: everything that rebuilds a network, as plain data that round-trips through JSON."""

import json
from dataclasses import asdict, dataclass
from typing import Any

from compress.errors import UsageError
from compress.networks.blocks import BLOCKS, STEMS, BlockSpec, check_types
from compress.networks.heads import HEADS

# A residual block of two convolutions; so depth after block b is 1 + 2b, as the field counts it.
LAYERS_PER_BLOCK = 2


@dataclass(frozen=True, kw_only=True)
class StemSpec:
    """The stem: a key of `STEMS` and its output channels."""

    kind: str
    out: int

    def __post_init__(self) -> None:
        check_types(self)


@dataclass(frozen=True, kw_only=True)
class ExitSpec:
    """An exit: the block it follows (1-based) and its head, a key of `HEADS`."""

    block: int
    head: str

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
        inputs = self.stem.out
        for number, block in enumerate(self.blocks, start=1):
            if not block.projection and (block.stride != 1 or block.out != inputs):
                raise UsageError(f"{self.arch}: block {number} changes the shape but has no projection shortcut")
            inputs = block.out
        for known, used in (
            (set(STEMS), {self.stem.kind}),
            (set(BLOCKS), {block.kind for block in self.blocks}),
            (set(HEADS), {exit.head for exit in self.exits}),
        ):
            if used - known:
                raise UsageError(f"{self.arch}: no such part {', '.join(used - known)}; known: {', '.join(known)}")

    @property
    def depths(self) -> tuple[int, ...]:
        """Depth of every exit, as the field counts it: 2b+1 after block b, one more (the classifier) for the last."""
        depths = [1 + LAYERS_PER_BLOCK * exit.block for exit in self.exits]
        return (*depths[:-1], depths[-1] + 1)

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
