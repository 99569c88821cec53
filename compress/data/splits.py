"""The split of a data set: train, validation, calibration, test."""

from dataclasses import dataclass

import numpy as np
import torch

from compress.data.dataset import Dataset, Part
from compress.data.normalisation import Normalisation, measure
from compress.errors import UsageError


@dataclass(frozen=True, kw_only=True, eq=False)
class Split:
    """Disjoint parts with one purpose each, and the normalisation of them all.

    ``train`` fits weights, ``validation`` tunes and selects, ``calibration`` sets exit thresholds only, ``test`` is
    read once, at the end. Validation and calibration may be empty.
    """

    train: Part
    validation: Part
    calibration: Part
    test: Part
    normalisation: Normalisation

    def to(self, device: torch.device | str) -> "Split":
        """Return the split with all parts on a device."""
        return Split(
            train=self.train.to(device),
            validation=self.validation.to(device),
            calibration=self.calibration.to(device),
            test=self.test.to(device),
            normalisation=self.normalisation,
        )


def split(dataset: Dataset, *, validation: float, calibration: float, seed: int) -> Split:
    """Return the data set with two fractions of its training images held out, every class in proportion.

    Depends on the arguments alone, never on a global random state. A data set's own validation set is used as it is,
    and only calibration images are held out then. The normalisation is the published one, or measured on what is left
    to train on. Raises ``UsageError`` for fractions outside [0, 1) or that leave a class without training images.
    """
    if not (0 <= validation < 1 and 0 <= calibration < 1 and validation + calibration < 1):
        raise UsageError(
            f"validation {validation} and calibration {calibration} must be fractions from 0 that add up to less than 1"
        )
    if seed < 0:
        raise UsageError(f"the seed of a split must be 0 or more, not {seed}")

    labels = dataset.train.labels.cpu().numpy()
    counts = np.bincount(labels, minlength=len(dataset.classes))  # (classes,)
    for_validation = _shares(counts, 0.0 if dataset.validation else validation)
    for_calibration = _shares(counts, calibration)
    held_out = for_validation + for_calibration
    for name, count, held in zip(dataset.classes, counts, held_out, strict=True):
        if 0 < count <= held:
            raise UsageError(
                f"holding out {validation} and {calibration} of {dataset.name} leaves class {name!r} ({count} images) "
                "without training images: it needs more images, or --recipe paper, which holds out none"
            )

    # All images sorted by class, in random order within each; the first of every class are held out.
    order = np.lexsort((np.random.default_rng(seed).random(len(labels)), labels))
    rank = np.arange(len(labels)) - np.repeat(np.cumsum(counts) - counts, counts)
    is_validation = rank < np.repeat(for_validation, counts)
    is_train = rank >= np.repeat(held_out, counts)

    def part(chosen: np.ndarray) -> Part:
        return dataset.train.subset(torch.from_numpy(np.sort(order[chosen])))

    train = part(is_train)
    return Split(
        train=train,
        validation=dataset.validation or part(is_validation),
        calibration=part(~is_validation & ~is_train),
        test=dataset.test,
        normalisation=dataset.normalisation or measure(train.sample()),
    )


def training_images(dataset: Dataset, *, validation: float, calibration: float) -> int:
    """Return how many images ``split`` leaves to train on."""
    every = len(dataset.train)
    held_out = (calibration,) if dataset.validation else (validation, calibration)
    return every - sum(int(np.rint(fraction * every)) for fraction in held_out)


def _shares(counts: np.ndarray, fraction: float) -> np.ndarray:
    """Return how many images of each class to hold out.

    Rounding the running total, not every class, keeps the whole at ``fraction`` (and each class within one image of
    it) even where classes are so small that each alone would round to nothing.
    """
    return np.diff(np.rint(fraction * np.cumsum(counts)).astype(np.int64), prepend=0)
