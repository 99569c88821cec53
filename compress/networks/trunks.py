"""Trunks of this package's architectures: the stem and blocks for a name."""

from compress.networks.architecture_names import FORMS, Name
from compress.networks.blocks import BlockSpec
from compress.networks.spec import StemSpec

RESNET_WIDTHS = (16, 32, 64)
# Stages of MobileNetV2: expansion, channels, blocks, stride of the first block (Sandler et al. 2018, table 2, with
# stride 1 in the stem and in stage 2, as is usual for images of 32 pixels).
MOBILENET_STAGES = (
    *((1, 16, 1, 1), (6, 24, 2, 1), (6, 32, 3, 2), (6, 64, 4, 2)),
    *((6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1)),
)
MOBILENET_STEM, MOBILENET_LAST = 32, 1280


def trunk(name: Name) -> tuple[StemSpec, tuple[BlockSpec, ...]]:
    """The stem and the blocks of an architecture."""
    return _mobilenetv2(name) if name.family == "mobilenetv2" else _resnet(name)


def final_head(name: Name) -> str:
    """The head of an architecture's last exit."""
    return "bn-relu-gap-fc" if name.family == "resnet" and name.form != "v1" else "gap-fc"


def auxiliary_head(name: Name) -> str:
    """The default head of auxiliary exits; only post-activation blocks end with an activation."""
    return "gap-fc" if name.form == "v1" else "bn-relu-gap-fc"


def _resnet(name: Name) -> tuple[StemSpec, tuple[BlockSpec, ...]]:
    kind = FORMS[name.form]
    widths = name.widths or tuple(base * name.width for base in RESNET_WIDTHS)
    per_stage = name.blocks or ((name.depth - 2) // 6,) * len(widths)
    blocks = [
        BlockSpec(
            kind=kind,
            width=channels,
            out=channels,
            stride=2 if position == 0 and stage > 0 else 1,
            projection=position == 0 and stage > 0,
            opens_stage=position == 0 and kind == "pre-activation",
        )
        for stage, (channels, count) in enumerate(zip(widths, per_stage, strict=True))
        for position in range(count)
    ]
    stem = "conv-bn-relu" if kind == "post-activation" else "conv"
    return StemSpec(kind=stem, out=widths[0]), tuple(blocks)


def _mobilenetv2(name: Name) -> tuple[StemSpec, tuple[BlockSpec, ...]]:
    widths = name.widths or tuple(channels * name.width for _, channels, _, _ in MOBILENET_STAGES)
    counts = name.blocks or tuple(count for _, _, count, _ in MOBILENET_STAGES)
    inputs = MOBILENET_STEM * name.width
    stem, blocks = StemSpec(kind="conv-bn-relu6", out=inputs), []
    for (expansion, _, _, first_stride), out, count in zip(MOBILENET_STAGES, widths, counts, strict=True):
        for position in range(count):
            stride = first_stride if position == 0 else 1
            if expansion == 1:
                kind = "separable"
            else:
                kind = "inverted-residual" if stride == 1 and inputs == out else "inverted"
            blocks.append(BlockSpec(kind=kind, width=expansion * inputs, out=out, stride=stride))
            inputs = out
    last = MOBILENET_LAST * name.width
    return stem, (*blocks, BlockSpec(kind="pointwise", width=last, out=last))
