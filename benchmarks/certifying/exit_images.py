"""Images to choose, to certify and to measure policies on: three parts that no training has seen."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

from compress.data import Part, Split
from compress.errors import UsageError
from compress.export.held_out import own_images
from compress.recipes import Recipe
from compress.runs import Run
from compress.training import data_of
from compress.training.plan import split_by


def open_images(
    run: Run, data_dir: Path | None = None, *, calibration: str | None = None, labelled: bool = True
) -> Split:
    """The run's own split: validation images choose, calibration images certify, test images are measured at the end.

    Args:
        calibration: "folder:PATH", images that certify in place of those that the run held out.
        labelled: whether those need labels: the run's class folders.

    Raises:
        UsageError: the data are not here, the recipe held out too little, or images of `calibration` do not fit: those
            that took part in training or choosing certify nothing.
    """
    held = run.record.data["split"]
    for part, purpose in (("validation", "the policies are chosen on"), ("calibration", "they are certified on")):
        if not held[part] and not (part == "calibration" and calibration):
            raise UsageError(
                f"run {run.id} (recipe {run.record.config['recipe']['name']}) held out no {part} images, which "
                f"{purpose}: train it by a recipe that holds out both, such as quick or short; images that "
                "took part in training or choosing certify nothing"
                + ("; --calibration folder:PATH names others" if part == "calibration" else "")
            )
    split = split_by(Recipe.from_json(run.record.config["recipe"]), data_of(run, data_dir))
    if calibration is None:
        return split
    return replace(split, calibration=own_images(run, split, calibration, data_dir, labelled=labelled))


def digest_of_part(part: Part) -> str:
    """SHA-256 (hex) of a part's images and labels."""
    sha = hashlib.sha256()
    for piece in part.content():
        sha.update(piece)
    return sha.hexdigest()
