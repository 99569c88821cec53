"""Foreign networks as networks of this package: their spec, and their parts built from it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, fx, nn
from torch.nn import functional

from compress.errors import UsageError, nearest
from compress.networks.blocks import SegmentSpec
from compress.networks.exit_placement import is_number, place_exits
from compress.networks.foreign.segments import Divisible
from compress.networks.foreign.zoo import build, is_zoo
from compress.networks.heads import HEADS, OWN, WIDENING, suitable_head
from compress.networks.layer_resizing import numbers_of, resize, set_number
from compress.networks.spec import END, ENLARGE, ExitSpec, Spec, StemSpec

IMAGE_SIZE = 64  # smallest size for networks for photographs, which divide height and width by 32
COLOURS = 3


class Enlarge(nn.Module):
    """`(N, C, H, W)` -> `(N, out, H', W')`: repeats grey channels and enlarges images bilinearly."""

    def __init__(self, shape: tuple[int, int, int]) -> None:
        super().__init__()
        self.shape = shape

    def forward(self, images: Tensor) -> Tensor:
        if tuple(images.shape[2:]) != self.shape[1:]:
            images = functional.interpolate(images, size=self.shape[1:], mode="bilinear", align_corners=False)
        return images.expand(-1, self.shape[0], -1, -1)


def foreign_spec(
    arch: str,
    *,
    exits: int | str | Sequence[int | str] | None,
    head: str | None,
    image_size: int | None,
    input_shape: tuple[int, int, int],
    classes: int,
) -> Spec:
    """The spec of a foreign network; arguments and errors as in `create`."""
    if head is not None and head not in HEADS:
        raise UsageError(f"head {head!r}: {nearest(head, HEADS)}")
    with torch.random.fork_rng(devices=[]):  # these weights are discarded
        stem, net = _stem_and_net(arch, input_shape, image_size, classes)
    placed = _placed(net, exits)
    modules = net.with_blocks(placed)
    features = [net.features(module) for module in modules]
    depths = [0, *(feature.depth for feature in features)]
    blocks = tuple(
        SegmentSpec(module=feature.module, out=feature.channels, shape=feature.shape, depth=feature.depth - before)
        for feature, before in zip(features, depths, strict=False)
    )
    return Spec(
        arch=arch,
        input_shape=input_shape,
        classes=classes,
        stem=stem,
        blocks=blocks,
        exits=tuple(_exit(blocks, modules.index(name), head) for name in placed),
    )


@dataclass(frozen=True)
class Parts:
    """The parts of a foreign network, and the attributes of its modules that count channels or heads."""

    stem: Enlarge
    segments: list[fx.GraphModule]
    head: fx.GraphModule
    numbers: dict[str, int]


def foreign_parts(spec: Spec) -> Parts:
    """Build the parts of a foreign network, initialised by its own rules, with the shapes that pruning left.

    The network is resized before it is traced, so that numbers in its graph are right. If it was cut before it was
    pruned, layers behind the cut no longer fit; then the traced parts are resized instead.
    """
    try:
        return _parts(spec, resized=True)
    except UsageError:
        if not spec.resized:
            raise
    parts = _parts(spec, resized=False)
    whole = nn.ModuleDict({"blocks": nn.ModuleList(parts.segments), "heads": nn.ModuleDict()})
    if spec.exits[-1].head == OWN:
        cast(nn.ModuleDict, whole["heads"])[str(spec.exits[-1].block)] = parts.head
    there = {name for name, _ in whole.named_modules()}
    for name, number in spec.numbers:
        if ".".join(name.split(".")[:2]) in there:
            set_number(whole, name, number)
    resize(whole, [(name, shape) for name, shape in spec.resized if ".".join(name.split(".")[:2]) in there])
    return parts


def _parts(spec: Spec, resized: bool) -> Parts:
    shape = spec.stem.shape_after(spec.input_shape)
    model = build(spec.arch, spec.classes, shape)
    for name, number in spec.numbers if resized else ():
        set_number(model, _original(name), number)
    resize(model, [(_original(name), size) for name, size in spec.resized if resized])
    net = Divisible(model, shape)
    modules = [block.module for block in spec.blocks if isinstance(block, SegmentSpec)]
    if unknown := [module for module in modules if module not in (*net.points, END)]:
        raise UsageError(f"{spec.arch} has no module {unknown[0]!r} to be split at: it is another net than it was")
    segments, head = net.split(modules if modules[-1] == END else [*modules, END])
    named = {f"blocks.{index}": segment for index, segment in enumerate(segments[: len(modules)])}
    numbers = {
        f"{part}.{name}": number
        for part, segment in (named | {f"heads.{len(modules)}": head}).items()
        for name, number in numbers_of(model, segment)
    }
    return Parts(Enlarge(shape), list(named.values()), head, numbers)


def _original(name: str) -> str:
    """The name in the foreign network: without block or head."""
    return name.split(".", 2)[-1]


def _stem_and_net(
    arch: str, input_shape: tuple[int, int, int], image_size: int | None, classes: int
) -> tuple[StemSpec, Divisible]:
    """The foreign network, and the stem for its images; grey images are repeated if it needs three channels."""
    zoo, channels, smaller = is_zoo(arch), input_shape[0], min(input_shape[1:])
    if zoo and channels not in (1, COLOURS):
        raise UsageError(f"{arch} takes images of 1 or 3 channels, not of {channels}")
    if image_size is not None and image_size < smaller:
        raise UsageError(
            f"image size {image_size}: images of {smaller} pixels are only enlarged; give {smaller} or more"
        )
    size = image_size or (IMAGE_SIZE if zoo else 0)
    stems = [
        StemSpec(kind=ENLARGE, out=out, size=size if size > smaller else 0)
        for out in ([COLOURS] if zoo else [1, COLOURS] if channels == 1 else [channels])
    ]
    for stem in stems:
        shape = stem.shape_after(input_shape)
        try:
            return stem, Divisible(build(arch, classes, shape), shape)
        except UsageError:
            if stem is stems[-1]:
                raise
    raise AssertionError("there is at least one stem")


def _placed(net: Divisible, exits: int | str | Sequence[int | str] | None) -> tuple[str, ...]:
    """The modules of the exits, given by name, by block number, or as a number of exits at equal steps from the end."""
    if exits is None:
        return (END,)
    if exits == "paper":
        raise UsageError("exits paper: none are published for this net; give their number, or its modules")
    if isinstance(exits, int) or (isinstance(exits, str) and is_number(exits)):
        return tuple(net.blocks[number - 1] for number in place_exits(exits, len(net.blocks)))
    words = [str(word).strip() for word in (exits.split(",") if isinstance(exits, str) else exits)]
    known = dict(net.trace.model.named_modules())
    numbered = {word: is_number(word) and word not in known and 0 < int(word) <= len(net.blocks) for word in words}
    return net.place([net.blocks[int(word) - 1] if numbered[word] else word for word in words])


def _exit(blocks: Sequence[SegmentSpec], index: int, head: str | None) -> ExitSpec:
    block = blocks[index]
    if block.module == END:
        return ExitSpec(block=index + 1, head=OWN)
    kind = head or suitable_head(block.shape)
    return ExitSpec(block=index + 1, head=kind, width=WIDENING.get(kind, 0) * block.out)
