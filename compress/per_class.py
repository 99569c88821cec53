"""Results by class: what a record holds of the test images where classes are uneven."""

from __future__ import annotations

from typing import Annotated

from compress.errors import UsageError
from compress.schema import Meta, Struct

Count = Annotated[int, Meta(ge=0)]
Share = Annotated[float, Meta(ge=0, le=1)]


class PerClass(Struct, frozen=True, kw_only=True):
    """Accuracies of every class on test images; computed by `compress.training.evaluation`.

    Attributes:
        train_images, test_images: number of images of every class.
        balanced_accuracy: of every exit (or of an ensemble alone): the mean of the accuracies of the classes.
        accuracy: of every class, for every exit; None for a class without test images.
        confusion: of the last exit (or of an ensemble): test images by their class (rows) and the predicted one
            (columns); None for many classes.
    """

    train_images: tuple[Count, ...]
    test_images: tuple[Count, ...]
    balanced_accuracy: tuple[Share, ...]
    accuracy: tuple[tuple[Share | None, ...], ...]
    confusion: tuple[tuple[Count, ...], ...] | None

    def check(self, exits: int, classes: int) -> None:
        """Raise UsageError if there are not as many numbers as exits and classes."""
        by_exit = {len(self.balanced_accuracy), len(self.accuracy)}
        by_class = {len(row) for row in (self.train_images, self.test_images, *self.accuracy, *(self.confusion or ()))}
        if by_exit != {exits} or by_class != {classes} or len(self.confusion or self.train_images) != classes:
            raise UsageError(f"results.per_class: not the numbers of {exits} exits and {classes} classes")
