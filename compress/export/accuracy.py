"""The accuracy of an exported model on test images, with its interval."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

import torch

from compress.accuracy_interval import accuracy_interval
from compress.export.bundle import Infer
from compress.export.subject import Subject


@dataclass(frozen=True, kw_only=True)
class Accuracy:
    """Share of test images that are classified correctly.

    Attributes:
        measured_with: the bundle itself, or PyTorch after the training.
    """

    test: float
    images: int
    measured_with: Literal["the bundle", "PyTorch"]

    @property
    def interval(self) -> tuple[float, float]:
        """Wilson's 95% interval for images drawn at random."""
        return accuracy_interval(self.test, self.images)

    def to_json(self) -> dict[str, Any]:
        """The fields as JSON-ready data."""
        return asdict(self) | {"interval": list(self.interval), "method": "Wilson, 95%"}


def accuracy_of(subject: Subject, infer: Infer) -> Accuracy:
    """The accuracy of a model: in int8 measured now, with the model; else the record's, as its classes are the same.

    This is a measurement after all choices: nothing is selected on it.
    """
    count = int(subject.run.record.data["split"]["test"])
    share = float(subject.row["test_accuracy"])
    measured = subject.form.precision == "int8"
    if measured:
        assert subject.held_out is not None
        share = subject.held_out.test_accuracy(lambda images: torch.from_numpy(infer(subject.taken(images).numpy())))
    return Accuracy(test=share, images=count, measured_with="the bundle" if measured else "PyTorch")
