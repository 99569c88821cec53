"""Held-out images for int8: calibration or validation images, whichever are more, to calibrate on; and test images."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from compress.data import Part, Split, in_order
from compress.data.catalogue import FOLDER, available, find_folder
from compress.data.own_images import read_own_images, without_copies
from compress.data.preparation import Preparation
from compress.errors import UsageError
from compress.recipes import Recipe
from compress.runs import Run
from compress.training import data_of
from compress.training.plan import split_by

CALIBRATION_IMAGES = 256  # at most
TEST_BATCH = 250
OWN = "own"


class NoImagesError(UsageError):
    """A run has no held-out images: its data are not here, or it held nothing out."""


@dataclass(frozen=True, kw_only=True, eq=False)
class HeldOut:
    """Images that no training has seen.

    Attributes:
        name: the part that the calibration images are drawn from.
        calibration: drawn at random, equal for all runs.
        test: all test images.
    """

    name: str
    calibration: Part
    test: Part

    @property
    def calibration_images(self) -> Tensor:
        """The calibration images, uint8 `(N, C, H, W)`."""
        [images] = self.calibration.batches([torch.arange(len(self.calibration))])
        return images

    def test_accuracy(self, infer: Callable[[Tensor], Tensor]) -> float:
        """The share of test images that a function from `test_batch` uint8 images to logits classifies correctly.

        This is a measurement after all choices: nothing is selected on it.
        """
        indices, correct = in_order(len(self.test), self.test_batch), 0
        for chosen, images in zip(indices, self.test.batches(indices), strict=True):
            logits = infer(padded(images, self.test_batch))[: len(chosen)]
            correct += int((logits.argmax(dim=1) == self.test.labels[chosen]).sum())
        return correct / len(self.test)

    @property
    def test_batch(self) -> int:
        """Batch size of the pass over the test set."""
        return min(TEST_BATCH, len(self.test))


def open_held_out(
    runs: Sequence[Run], data_dir: Path | None = None, *, download: bool = True, calibration: str | None = None
) -> HeldOut:
    """The runs' calibration or validation images, whichever are more, calibration if equal, and the test images.

    Args:
        calibration: "folder:PATH", to calibrate on images of one's own instead.

    Raises:
        NoImagesError: the data are not here, where `data_dir` says nothing else; or nothing was held out.
        UsageError: the data are damaged or others, or not in `data_dir`, or the runs' data or splits differ.
    """
    first = runs[0]
    for run in runs:
        if any(run.record.data[key] != first.record.data[key] for key in ("digest", "split")):
            raise UsageError(f"runs {first.id} and {run.id} have different data or splits: bench their int8 apart")
    recipe = Recipe.from_json(first.record.config["recipe"])
    try:
        dataset = data_of(first, data_dir, download=download)
    except UsageError as error:
        if data_dir is not None or _is_here(first.record.data["name"]):
            raise
        raise NoImagesError(str(error)) from error
    parts = split_by(recipe, dataset)
    own = None if calibration is None else own_images(first, parts, calibration, data_dir, labelled=False)
    ours = sorted(
        (("calibration", parts.calibration), ("validation", parts.validation)), key=lambda each: -len(each[1])
    )
    for name, part in ((OWN, own), *ours):
        if part is not None and len(part):
            order = torch.from_numpy(np.random.default_rng(0).permutation(len(part)))
            return HeldOut(name=name, calibration=part.subset(order[:CALIBRATION_IMAGES]), test=parts.test)
    raise NoImagesError(
        f"int8 is calibrated on held-out images, and the {len(dataset.train)} training images of {first.id} leave none "
        f"at recipe {recipe.name}'s shares: use --precision fp32, or train anew on more images or by another recipe"
    )


def _is_here(name: str) -> bool:
    """Whether files of a data set are where it is looked for, be they whole or damaged."""
    if not name.startswith(FOLDER):
        return any(row.name == name and row.where != "not here" for row in available())
    try:
        return find_folder(name, announce=False).is_dir()
    except UsageError:
        return False


def own_images(run: Run, parts: Split, name: str, data_dir: Path | None, *, labelled: bool) -> Part:
    """The images of "folder:PATH", prepared as the run's own, without copies of those; its calibration images aside.

    Args:
        labelled: whether they are in folders of the run's classes; otherwise they have no labels.

    Raises:
        UsageError: there is no such folder, it has other classes, or an image does not fit.
    """
    root = find_folder(name, data_dir)
    preparation = Preparation.of(run.record.data.get("preprocessing"), run.spec.input_shape)
    images = read_own_images(root, preparation, run.record.data["classes"] if labelled else None)
    return without_copies(images, (parts.train, parts.validation, parts.test), root)


def padded(images: Tensor, count: int) -> Tensor:
    """`count` images: the given ones, repeated from the first."""
    return images[torch.arange(count) % len(images)]
