"""The spec: plain data that rebuilds a network and round-trips through JSON."""

import dataclasses
import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import accumulate
from typing import Any, TypeVar

from compress.documents import fitted
from compress.errors import UsageError, checked
from compress.networks.blocks import BLOCKS, SEGMENT, BlockSpec, SegmentSpec
from compress.networks.heads import FOR_POSITIONS, HEADS, OWN, WIDENING, suitable_head
from compress.networks.shared_head import SHARED
from compress.networks.stems import STEMS

T = TypeVar("T", "StemSpec", BlockSpec, "ExitSpec")
ENLARGE, END = "enlarge", "end"
LARGEST = 10**9  # of weights, and of values in one image's features: 4 GB in fp32


@checked
@dataclass(frozen=True, kw_only=True)
class StemSpec:
    """The stem: a key of `STEMS` and its output channels.

    For foreign networks it is ``enlarge``: grey images are repeated to `out` channels, and the shorter side is enlarged
    to `size` pixels (0: not enlarged).
    """

    kind: str
    out: int
    size: int = 0

    def __post_init__(self) -> None:
        if self.size < 0 or (self.size and self.kind != ENLARGE):
            raise UsageError(f"stem {self.kind}: size {self.size}")

    def shape_after(self, before: tuple[int, int, int]) -> tuple[int, int, int]:
        """The shape `(C, H, W)` of the output for an image of a shape."""
        _, height, width = before
        factor = self.size / min(height, width) if self.size else 1
        return self.out, round(height * factor), round(width * factor)


@checked
@dataclass(frozen=True, kw_only=True)
class ExitSpec:
    """An exit: the block it follows (1-based) and its head, a key of `HEADS`.

    `width` is the number of channels of the head's own convolution, 0 for a head without one.
    """

    block: int
    head: str
    width: int = 0


@checked
@dataclass(frozen=True, kw_only=True)
class Spec:
    """A network as plain data, from which `Network(spec)` builds it; `to_json` and `from_json` round-trip.

    Attributes:
        arch: the architecture's name, as `create` takes it.
        input_shape: `(C, H, W)` of one image.
        classes: number of classes.
        resized: for foreign networks, the parameters and buffers that pruning resized, and their shapes.
        numbers: for foreign networks, the attributes of modules that pruning changed, such as numbers of heads.

    Raises:
        UsageError: the parts do not fit one another.
    """

    arch: str
    input_shape: tuple[int, int, int]
    classes: int
    stem: StemSpec
    blocks: tuple[BlockSpec, ...]
    exits: tuple[ExitSpec, ...]
    resized: tuple[tuple[str, tuple[int, ...]], ...] = ()
    numbers: tuple[tuple[str, int], ...] = ()

    def __post_init__(self) -> None:
        if any(type(size) is not int for size in self.input_shape):
            raise UsageError(f"{self.arch}: input_shape {self.input_shape!r} is not three whole numbers (C, H, W)")
        numbers = [self.stem.out, *(number for b in self.blocks for number in (b.width, b.out, b.stride))]
        if min(*self.input_shape, self.classes, *numbers) < 1:
            raise UsageError(f"{self.arch}: image shape, classes, widths and strides must be positive")
        numbers = [exit.block for exit in self.exits]
        if not numbers or numbers != sorted(set(numbers)) or numbers[0] < 1 or numbers[-1] != len(self.blocks):
            raise UsageError(f"{self.arch}: exits {numbers} must ascend within 1 to {len(self.blocks)} and end there")
        for known, used in (
            ({ENLARGE} if self.foreign else set(STEMS), {self.stem.kind}),
            ({SEGMENT} if self.foreign else set(BLOCKS), {block.kind for block in self.blocks}),
            ({OWN, *HEADS} if self.foreign else {SHARED, *HEADS}, {exit.head for exit in self.exits}),
        ):
            if used - known:
                unknown = ", ".join(map(repr, sorted(used - known)))
                raise UsageError(f"{self.arch}: no such part {unknown}; known: {', '.join(known)}")
        self._check_shapes()
        self._check_size()

    def _check_shapes(self) -> None:
        inputs = self.stem.out
        for number, block in enumerate(self.blocks, start=1):
            if isinstance(block, SegmentSpec):
                continue
            kind = BLOCKS[block.kind]
            if kind.has_shortcut and not block.projection and (block.stride != 1 or block.out != inputs):
                raise UsageError(f"{self.arch}: block {number} changes the shape but has no projection shortcut")
            if block.projection and not kind.has_shortcut:
                raise UsageError(f"{self.arch}: block {number}, {block.kind}, has no shortcut to project")
            if not kind.has_width and block.width != (inputs if kind.layers > 1 else block.out):
                raise UsageError(f"{self.arch}: block {number}, {block.kind}, has no width of its own: {block.width}")
            inputs = block.out
        for exit in self.exits:
            if exit.width < 0 or (exit.width > 0) != (exit.head in WIDENING):
                raise UsageError(f"{self.arch}: head {exit.head} at block {exit.block} with width {exit.width}")
            later = self.blocks[exit.block :] if exit.head == SHARED else ()
            if lacking := [block.kind for block in later if not BLOCKS[block.kind].has_shortcut]:
                raise UsageError(f"{self.arch}: head {SHARED} needs later blocks with shortcuts, not {lacking[0]}")
            if exit.head not in (OWN, FOR_POSITIONS) and len(self.shapes[exit.block - 1]) == 2:
                raise UsageError(
                    f"{self.arch}: head {exit.head} at block {exit.block} takes (C, H, W); channels come last there, "
                    f"so only {FOR_POSITIONS} fits"
                )
        if self.foreign:
            self._check_segments()
        elif self.resized or self.numbers:
            raise UsageError(f"{self.arch}: resized and numbers are for foreign networks alone")

    def _check_size(self) -> None:
        """Refuse networks that are too large for memory; a foreign network's spec does not have all of its weights."""
        inputs, weights = self.stem.out, 9 * self.input_shape[0] * self.stem.out
        for block in self.blocks if not self.foreign else ():
            weights += BLOCKS[block.kind].kernel ** 2 * (inputs * block.width + block.width * block.out)
            inputs = block.out
        weights += self.classes * sum(self.blocks[exit.block - 1].out for exit in self.exits)
        weights += sum(math.prod(shape) for _, shape in self.resized)
        shapes = (self.input_shape, self.stem.shape_after(self.input_shape), *self.shapes)
        for count, what in ((weights, "weights"), (max(map(math.prod, shapes)), "values in the features of one image")):
            if count > LARGEST:
                raise UsageError(f"{self.arch}: about {count:.1e} {what}: too large to build, {LARGEST:,} are the most")

    def _check_segments(self) -> None:
        modules = [getattr(block, "module", None) for block in self.blocks]
        if len(set(modules)) < len(modules) or END in modules[:-1]:
            raise UsageError(f"{self.arch}: blocks {modules} are not each another module, 'end' the last")
        for exit in self.exits:
            if (exit.head == OWN) != (modules[exit.block - 1] == END):
                raise UsageError(
                    f"{self.arch}: head {exit.head} at {modules[exit.block - 1]}: the net's own is at 'end'"
                )
        if 0 < self.stem.size < min(self.input_shape[1:]):
            raise UsageError(
                f"{self.arch}: images of {self.input_shape} are larger than {self.stem.size} pixels already"
            )
        for name, shape in self.resized:
            if any(type(size) is not int or size < 1 for size in shape):
                raise UsageError(f"{self.arch}: resized {name!r} to {shape!r}")
        for name, number in self.numbers:
            if type(number) is not int or number < 1:
                raise UsageError(f"{self.arch}: number {name!r} is {number!r}")

    @property
    def foreign(self) -> bool:
        """Whether it is a network of another package or of the user."""
        return any(isinstance(block, SegmentSpec) for block in self.blocks)

    @property
    def exit_names(self) -> tuple[str, ...]:
        """The exits as `create` takes them: block numbers, or modules of a foreign network; the last is ``end``."""
        chosen = [self.blocks[exit.block - 1] for exit in self.exits[:-1]]
        numbers = [str(exit.block) for exit in self.exits]
        names = [b.module if isinstance(b, SegmentSpec) else number for b, number in zip(chosen, numbers, strict=False)]
        return (*names, END)

    @property
    def depths(self) -> tuple[int, ...]:
        """Depth of every exit: convolutions in sequence, and the classifier at the last exit."""
        stem = int(self.stem.kind != ENLARGE)
        after = list(accumulate((block.layers for block in self.blocks), initial=stem))
        depths = [after[exit.block] for exit in self.exits]
        return (*depths[:-1], depths[-1] + 1)

    @property
    def shapes(self) -> tuple[tuple[int, ...], ...]:
        """Shape of one image's features after every block: `(C, H, W)`; in foreign networks also `(positions, C)`."""
        shapes: list[tuple[int, ...]] = [self.stem.shape_after(self.input_shape)]
        for block in self.blocks:
            shapes.append(block.shape_after(shapes[-1]))
        return tuple(shapes[1:])

    def with_exits(self, blocks: Sequence[int]) -> "Spec":
        """A copy with exits after these blocks; auxiliary exits have some head that fits."""
        last = self.exits[-1]
        heads = [suitable_head(self.shapes[block - 1]) if self.foreign else last.head for block in blocks[:-1]]
        before = (ExitSpec(block=block, head=head) for block, head in zip(blocks, heads, strict=False))
        return dataclasses.replace(self, exits=(*before, last))

    def to_json(self) -> dict[str, Any]:
        """The spec as JSON-ready data; without `numbers` where there are none, as records had it before."""
        data: dict[str, Any] = json.loads(json.dumps(asdict(self)))  # tuples as JSON has them: lists
        return data if self.numbers else {key: value for key, value in data.items() if key != "numbers"}

    @classmethod
    def from_json(cls, data: dict[str, Any], field: str = "") -> "Spec":
        """The spec that `to_json` wrote; `field` is what stands before its own in errors.

        Raises:
            UsageError: keys are missing, unknown, or of the wrong form.
        """
        try:
            parts: dict[str, Any] = {
                "input_shape": tuple(data["input_shape"]),
                "stem": _part(StemSpec, data["stem"], f"{field}stem"),
                "blocks": tuple(_block(block, f"{field}blocks[{i}]") for i, block in enumerate(data["blocks"])),
                "exits": tuple(_part(ExitSpec, exit, f"{field}exits[{i}]") for i, exit in enumerate(data["exits"])),
                "resized": tuple((name, tuple(shape)) for name, shape in data.get("resized", ())),
                "numbers": tuple((name, number) for name, number in data.get("numbers", ())),
            }
            return cls(**(data | parts))
        except (KeyError, TypeError, ValueError) as error:
            if isinstance(error, UsageError):
                raise
            raise UsageError(f"not a network spec: {type(error).__name__}: {error}") from error


def _block(data: dict[str, Any], field: str) -> BlockSpec:
    return _part(SegmentSpec if data["kind"] == SEGMENT else BlockSpec, data, field)


def _part(kind: type[T], data: dict[str, Any], field: str) -> T:
    """Convert data to a part of a spec; unknown keys are errors, since every key may change the network."""
    known = {part.name for part in dataclasses.fields(kind)}
    if unknown := [key for key in data if key not in known]:
        raise UsageError(f"{field}: unknown key {unknown[0]!r}")
    return fitted(data, kind, field)
