"""Probe file: `probe.json` in a run directory, what probing measured of every block."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from compress.console import console
from compress.documents import read_kept
from compress.errors import UsageError
from compress.records import Number, Share
from compress.runs import PROBE, Run
from compress.schema import Meta, Struct

SCHEMA_VERSION = 1
MEND = "delete it, compress probe measures again"


class Block(Struct, frozen=True, kw_only=True):
    """Measures of one block, None where one does not apply; `right` packs which held-out images its probe got right."""

    block: Number
    depth: Number
    features: Number
    probe_accuracy: Share
    gradient_share: float | None
    cka_to_next: float | None
    skip_drop: float | None
    right: Annotated[str, Meta(pattern="^([0-9a-f]{2})*$")]


class Retrained(Struct, frozen=True, kw_only=True):
    """The validation accuracy after retraining behind `block` frozen blocks."""

    block: Number
    epochs: Number
    retrained_accuracy: Share


class Images(Struct, frozen=True, kw_only=True):
    """The part, and the numbers of images, that were measured on."""

    part: str
    seen_in_training: bool
    held_out: Number
    fit: Number
    skip: Number


class ProbeFile(Struct, frozen=True, kw_only=True):
    """The content of `probe.json`."""

    schema_version: Literal[1]
    sample: dict[str, int]
    images: Images
    accuracy: Share
    blocks: list[Block]
    retrained: list[Retrained]

    def __post_init__(self) -> None:
        for number, block in enumerate(self.blocks, start=1):
            if block.block != number or len(block.right) != 2 * -(-self.images.held_out // 8):
                raise UsageError(f"blocks[{number - 1}]: not block {number}, or right not of {self.images.held_out}")


def read_probe(run: Run) -> dict[str, Any] | None:
    """The content of the run's `probe.json`; None where there is no file, or none that can be read."""
    kept = read_kept(run.path / PROBE, ProbeFile, MEND)
    if kept and len(kept[1].blocks) != len(run.spec.blocks):
        console.print(f"skipped: {run.path / PROBE} has {len(kept[1].blocks)} blocks, the run others; {MEND}")
        return None
    return kept[0] if kept else None
