"""Names of architectures: `create("resnet44", exits=5)` and the spec it stands for."""

import re
from collections.abc import Sequence

from compress.errors import UsageError, nearest
from compress.networks.blocks import BlockSpec
from compress.networks.network import Network
from compress.networks.placement import place_exits
from compress.networks.spec import ExitSpec, Spec, StemSpec

STAGE_WIDTHS = (16, 32, 64)
NAMED = ("resnet20", "resnet26", "resnet32", "resnet44", "resnet56", "resnet110", "resnet20v1", "resnet56v1")


def create(
    arch: str,
    *,
    exits: int | str | Sequence[int | str] = 1,
    width: int = 1,
    input_shape: tuple[int, int, int] = (3, 32, 32),
    classes: int = 10,
) -> Network:
    """A freshly initialised network; torch's global random state decides its weights.

    Args:
        arch: ``resnetN`` with N = 6n+2 (pre-activation, the trunk of the MW-BP paper) or ``resnetNv1`` (the original
            post-activation form, with 1x1 convolutions as projection shortcuts); ``resnet26x10`` says the width too.
        exits: how many, or at which blocks: see `place_exits`.
        width: factor on the 16, 32 and 64 channels of the three stages.
        input_shape: `(C, H, W)` of one image.
        classes: number of classes.

    Raises:
        UsageError: an unknown name, a depth that is not 6n+2, or exits that cannot be placed.
    """
    return Network(spec_of(arch, exits=exits, width=width, input_shape=input_shape, classes=classes))


def spec_of(
    arch: str,
    *,
    exits: int | str | Sequence[int | str] = 1,
    width: int = 1,
    input_shape: tuple[int, int, int] = (3, 32, 32),
    classes: int = 10,
) -> Spec:
    """The spec that `create` builds; same arguments and errors."""
    depth, original, width = _parse(arch, width)
    per_stage = (depth - 2) // 6
    kind = "post-activation" if original else "pre-activation"
    head = "gap-fc" if original else "bn-relu-gap-fc"
    stages = [base * width for base in STAGE_WIDTHS]
    blocks = [
        BlockSpec(
            kind=kind,
            width=channels,
            out=channels,
            stride=2 if position == 0 and stage > 0 else 1,
            projection=position == 0 and stage > 0,
            opens_stage=position == 0 and not original,
        )
        for stage, channels in enumerate(stages)
        for position in range(per_stage)
    ]
    return Spec(
        arch=f"resnet{depth}" + ("v1" if original else "") + (f"x{width}" if width > 1 else ""),
        input_shape=input_shape,
        classes=classes,
        stem=StemSpec(kind="conv-bn-relu" if original else "conv", out=stages[0]),
        blocks=tuple(blocks),
        exits=tuple(ExitSpec(block=block, head=head) for block in place_exits(exits, len(blocks))),
    )


def display_name(spec: Spec) -> str:
    """The network's name as the field writes it: ``ResNet-110``, ``MwResNet-44-5``, ``MwResNet-26-2x10``."""
    match = re.fullmatch(r"resnet(\d+(?:v1)?)(x\d+)?", spec.arch)
    if not match:
        return spec.arch
    exits = f"-{len(spec.exits)}" if len(spec.exits) > 1 else ""
    return f"{'Mw' if exits else ''}ResNet-{match[1]}{exits}{match[2] or ''}"


def _parse(arch: str, width: int) -> tuple[int, bool, int]:
    """Depth, whether it is the original post-activation form, and width."""
    match = re.fullmatch(r"resnet(\d{1,4})(v1)?(?:x(\d{1,4}))?", arch.lower())
    if not match:
        raise UsageError(f"architecture {arch!r}: {nearest(arch, NAMED)}; any resnetN or resnetNv1 with N = 6n+2")
    depth = int(match[1])
    if depth < 8 or (depth - 2) % 6:
        lower = max(8, depth - (depth - 2) % 6)
        raise UsageError(f"architecture {arch!r}: depth {depth} is not 6n+2; the nearest are {lower} and {lower + 6}")
    named = int(match[3] or width)
    if type(width) is not int or named < 1 or width not in (1, named):
        raise UsageError(f"width {width} of {arch}: a factor on the channels, 1 or more, said once")
    return depth, match[2] is not None, named
