"""Images to choose, to certify and to measure policies on: three parts that no training has seen, without copies."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from compress.data import Labelled, Part, Split
from compress.data.catalogue import FOLDER
from compress.data.own_images import without_copies
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

    Of class folders that fit in memory, calibration images are left out whose pixels another image has: a network knows
    copies of its training images by heart.

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
        if run.record.data["name"].startswith(FOLDER) and isinstance(split.calibration, Labelled):
            seen, what = (split.train, split.validation, split.test), f"calibration images of {run.id}"
            return replace(split, calibration=without_copies(split.calibration, seen, what))
        return split
    return replace(split, calibration=own_images(run, split, calibration, data_dir, labelled=labelled))


def given_weights(config: Mapping[str, Any]) -> bool:
    """Whether a run, or one that it was made from or taught by, began with weights from a file or a publisher."""
    before = (config.get(name) for name in ("reference", "teacher_reference"))
    return bool(config.get("initial")) or any(given_weights(each) for each in before if each)


def digest_of_part(part: Part) -> str:
    """SHA-256 (hex) of a part's images and labels."""
    sha = hashlib.sha256()
    for piece in part.content():
        sha.update(piece)
    return sha.hexdigest()
