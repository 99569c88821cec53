"""Architectures by name: `create("resnet44", exits=5)`, its spec, and its names."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass

from compress.errors import UsageError, checked, nearest
from compress.networks.architecture_names import PUBLISHED, Name, parse, published_exits
from compress.networks.exit_placement import place_exits
from compress.networks.foreign.parts import foreign_spec
from compress.networks.foreign.zoo import is_foreign
from compress.networks.heads import HEADS, WIDENING, suitable_head
from compress.networks.network import Network
from compress.networks.shared_head import SHARED
from compress.networks.spec import ExitSpec, Spec
from compress.networks.trunks import auxiliary_head, final_head, trunk

Exits = int | str | Sequence[int | str]


@checked
@dataclass(frozen=True)
class Architecture:
    """The name of an architecture, with options that the name leaves open.

    Attributes:
        name: ``resnetN`` with N = 6n+2 (pre-activation, the trunk of the MW-BP paper), ``resnetNv1`` (the original
            post-activation form, with 1x1 convolutions as projection shortcuts) or ``resnetNnl`` (norm-last);
            ``resnet26x10`` includes the width; ``wrn-28-10`` is the same network; ``mobilenetv2`` is the form for
            small images. Names with a number of exits, ``MwResNet-56-5``, ``MwMobileNetV2-5``, have the published
            exits if there are any. Foreign networks: ``torchvision:NAME``, ``timm:NAME``, ``python:MODULE:FACTORY``,
            or a registered name (see `register`).
        width: factor on the channels of all stages.
        blocks, widths: blocks and channels of every stage instead, as in ``"3,3,3"`` and ``"25,50,100"``.
        form: form of a ResNet's blocks: pre-activation, post-activation or norm-last.
        head: head of auxiliary exits, a key of `HEADS`, or ``shared``: the later blocks' shortcuts and the last exit's
            head. None: the default for the blocks. The last exit keeps the architecture's own head.
        image_size: for foreign networks: size in pixels to which the shorter side of smaller images is enlarged; None:
            64 for torchvision and timm, else not enlarged.
    """

    name: str
    _: KW_ONLY
    width: int = 1
    blocks: Sequence[int] | str = ()
    widths: Sequence[int] | str = ()
    form: str = ""
    head: str | None = None
    image_size: int | None = None

    @classmethod
    def of(cls, arch: Architecture | str) -> Architecture:
        """The architecture itself, or the one of that name."""
        return arch if isinstance(arch, Architecture) else cls(arch)


@checked
def create(
    arch: Architecture | str,
    *,
    exits: Exits | None = None,
    input_shape: tuple[int, int, int] = (3, 32, 32),
    classes: int = 10,
) -> Network:
    """Create a network; its initial weights are drawn from torch's global random state.

    Args:
        arch: an architecture, or its name.
        exits: number of exits, their blocks (see `place_exits`), or ``paper``; None: as in the name, else a single
            exit. For foreign networks also module names, as in ``layer1,layer2,end``.
        input_shape: `(C, H, W)` of one image.
        classes: number of classes.

    Raises:
        UsageError: an unknown name, a depth that is not 6n+2, options that do not fit, or exits that cannot be placed.
    """
    return Network(spec_of(arch, exits=exits, input_shape=input_shape, classes=classes))


@checked
def spec_of(
    arch: Architecture | str,
    *,
    exits: Exits | None = None,
    input_shape: tuple[int, int, int] = (3, 32, 32),
    classes: int = 10,
) -> Spec:
    """The spec of the network that `create` builds; same arguments and errors."""
    arch = Architecture.of(arch)
    if is_foreign(arch.name):
        if arch.width != 1 or arch.blocks or arch.widths or arch.form:
            raise UsageError(f"{arch.name}: width, blocks, widths and form are for our own networks; it is as it is")
        return foreign_spec(
            arch.name,
            exits=exits,
            head=arch.head,
            image_size=arch.image_size,
            input_shape=input_shape,
            classes=classes,
        )
    if arch.image_size is not None:
        raise UsageError(f"image size {arch.image_size}: {arch.name} takes images as they are")
    name = parse(arch.name, width=arch.width, blocks=arch.blocks, widths=arch.widths, form=arch.form)
    if arch.head is not None and arch.head not in (*HEADS, SHARED):
        raise UsageError(f"head {arch.head!r}: {nearest(arch.head, [*HEADS, SHARED])}")
    stem, parts = trunk(name)
    placed = _placed(arch.name, name, exits, len(parts))
    heads = [arch.head or auxiliary_head(name)] * (len(placed) - 1) + [final_head(name)]
    return Spec(
        arch=name.canonical,
        input_shape=input_shape,
        classes=classes,
        stem=stem,
        blocks=parts,
        exits=tuple(
            ExitSpec(block=block, head=kind, width=WIDENING.get(kind, 0) * parts[block - 1].out)
            for block, kind in zip(placed, heads, strict=True)
        ),
    )


def canonical(arch: str) -> str:
    """The architecture's name as specs write it: ``resnet26x10`` for ``wrn-28-10``."""
    return arch if is_foreign(arch) else parse(arch).canonical


def exits_in_name(arch: str) -> int | None:
    """The number of exits in a name such as ``MwResNet-56-5``, or None."""
    return None if is_foreign(arch) else parse(arch).exits


def default_heads(spec: Spec) -> list[str]:
    """The default heads of a network's auxiliary exits."""
    if spec.foreign:
        return [suitable_head(spec.shapes[exit.block - 1]) for exit in spec.exits[:-1]]
    return [auxiliary_head(parse(spec.arch))] * (len(spec.exits) - 1)


def display_name(spec: Spec) -> str:
    """The network's name in tables and figures: ``ResNet-110``, ``MwResNet-44-5``, ``MwResNet-26-2x10``."""
    if spec.foreign:
        exits = len(spec.exits)
        name = spec.arch.replace(":", ".")
        return f"Mw-{name}-{exits}" if exits > 1 else name
    try:
        return parse(spec.arch).display(len(spec.exits))
    except UsageError:  # made in Python, from parts
        return spec.arch


def _placed(arch: str, name: Name, exits: Exits | None, blocks: int) -> tuple[int, ...]:
    """The exits' blocks; for `paper`, and for a name with a number of exits, the published ones."""
    if exits is None and name.exits is None:
        return (blocks,)
    if exits == "paper":
        placed = published_exits(name, name.exits)
        if placed is None:
            known = ", ".join(f"resnet{depth}" for depth in sorted(PUBLISHED))
            raise UsageError(f"exits paper: none are published for {arch}; for {known} there are")
        return placed
    if name.exits is not None:
        placed = published_exits(name, name.exits) or place_exits(name.exits, blocks)
        if exits is not None and place_exits(exits, blocks) not in (placed, place_exits(name.exits, blocks)):
            raise UsageError(f"exits {exits}: {arch} has {name.exits} of its own; leave out one of the two")
        return placed
    assert exits is not None
    return place_exits(exits, blocks)
