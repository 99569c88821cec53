"""The registry of architectures: `create("resnet44", exits=5)` and the spec it stands for."""

from collections.abc import Sequence

from compress.errors import UsageError, nearest
from compress.networks.heads import HEADS, WIDENING
from compress.networks.names import PUBLISHED, Name, parse, published_exits
from compress.networks.network import Network
from compress.networks.placement import place_exits
from compress.networks.spec import ExitSpec, Spec
from compress.networks.trunks import auxiliary_head, final_head, trunk

Exits = int | str | Sequence[int | str]


def create(
    arch: str,
    *,
    exits: Exits | None = None,
    width: int = 1,
    blocks: Sequence[int] | str = (),
    widths: Sequence[int] | str = (),
    form: str = "",
    head: str | None = None,
    input_shape: tuple[int, int, int] = (3, 32, 32),
    classes: int = 10,
) -> Network:
    """A freshly initialised network; torch's global random state decides its weights.

    Args:
        arch: ``resnetN`` with N = 6n+2 (pre-activation, the trunk of the MW-BP paper), ``resnetNv1`` (the original
            post-activation form, with 1x1 convolutions as projection shortcuts) or ``resnetNnl`` (norm-last);
            ``resnet26x10`` says the width too; ``wrn-28-10`` is the same net; ``mobilenetv2`` in its form for small
            images. Names with exits in them, ``MwResNet-56-5``, ``MwMobileNetV2-5``, have the published ones where
            there are any.
        exits: how many, or at which blocks (see `place_exits`), or ``paper``; None: those of the name, else one.
        width: factor on the channels of all stages.
        blocks, widths: blocks and channels of every stage instead, as in ``"3,3,3"`` and ``"25,50,100"``.
        form: of a ResNet's blocks: pre-activation, post-activation or norm-last.
        head: of auxiliary exits, a key of `HEADS`; None: what suits the blocks. The last exit keeps the
            architecture's own.
        input_shape: `(C, H, W)` of one image.
        classes: number of classes.

    Raises:
        UsageError: an unknown name, a depth that is not 6n+2, options that do not fit, or exits that cannot be placed.
    """
    return Network(
        spec_of(
            arch,
            exits=exits,
            width=width,
            blocks=blocks,
            widths=widths,
            form=form,
            head=head,
            input_shape=input_shape,
            classes=classes,
        )
    )


def spec_of(
    arch: str,
    *,
    exits: Exits | None = None,
    width: int = 1,
    blocks: Sequence[int] | str = (),
    widths: Sequence[int] | str = (),
    form: str = "",
    head: str | None = None,
    input_shape: tuple[int, int, int] = (3, 32, 32),
    classes: int = 10,
) -> Spec:
    """The spec that `create` builds; same arguments and errors."""
    name = parse(arch, width=width, blocks=blocks, widths=widths, form=form)
    if head is not None and head not in HEADS:
        raise UsageError(f"head {head!r}: {nearest(head, HEADS)}")
    stem, parts = trunk(name)
    placed = _placed(arch, name, exits, len(parts))
    heads = [head or auxiliary_head(name)] * (len(placed) - 1) + [final_head(name)]
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


def exits_in_name(arch: str) -> int | None:
    """The number of exits that a name asks for, as ``MwResNet-56-5`` does, or None."""
    return parse(arch).exits


def default_head(arch: str) -> str:
    """The head that auxiliary exits of an architecture have where none is asked for."""
    return auxiliary_head(parse(arch))


def display_name(spec: Spec) -> str:
    """The network's name as the field writes it: ``ResNet-110``, ``MwResNet-44-5``, ``MwResNet-26-2x10``."""
    try:
        return parse(spec.arch).display(len(spec.exits))
    except UsageError:  # made in Python, from parts
        return spec.arch


def _placed(arch: str, name: Name, exits: Exits | None, blocks: int) -> tuple[int, ...]:
    """The exits' blocks. Those published are what `paper` means, and what a name with its exits in it means."""
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
