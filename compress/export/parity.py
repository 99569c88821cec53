"""Parity: an exported model answers as eager does, or it is not kept."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from compress.errors import UsageError
from compress.export.agreement import TOLERANCES, deviation
from compress.export.bundle import Infer
from compress.export.subject import Subject

BATCHES = (1, 7, 32)  # sizes in turn, the last one again and again
SMALLEST = 1e-30  # probability; logarithms of smaller ones count as its own


@dataclass(frozen=True, kw_only=True)
class Parity:
    """How an exported model's logits compare with eager's in fp32.

    Attributes:
        part: where the images come from.
        images: number of images.
        deviation: see `compress.export.agreement.deviation`.
        tolerance: the largest deviation that is allowed.
        same_class: share of images that get eager's class.
    """

    part: str
    images: int
    deviation: float
    tolerance: float
    same_class: float

    def to_json(self) -> dict[str, Any]:
        """The fields as JSON-ready data."""
        return asdict(self)


def check_parity(infer: Infer, subject: Subject, what: str) -> Parity:
    """Compare an exported model with eager on the subject's images, in batches of several sizes.

    In fp32 every class must be eager's, unless eager's two best logits are nearer than the tolerance. Probabilities are
    compared as logarithms, which are the logits less a number for each image.

    Raises:
        UsageError: the logits deviate by more than the tolerance, or classes differ.
    """
    found, expected, form = outputs(infer, subject), subject.logits()[-1].double(), subject.form
    if form.output == "probabilities":
        found = found.clamp(min=SMALLEST).log()
        expected = expected.log_softmax(dim=1).clamp(min=math.log(SMALLEST))
    return agreeing(found, expected, subject, what)


def agreeing(found: Tensor, expected: Tensor, subject: Subject, what: str) -> Parity:
    """Compare logits `(N, classes)`, fp64, with those expected of the subject's images; raises as `check_parity`."""
    measured, (tolerance, least) = deviation(found, expected), TOLERANCES[subject.form.precision]
    if not measured <= tolerance:  # true for NaN as well
        raise UsageError(
            f"{what}: logits deviate by {measured:.2g} from eager's, more than {tolerance:g}: nothing is written"
        )
    same = found.argmax(dim=1) == expected.argmax(dim=1)
    best = expected.topk(min(2, expected.shape[1]), dim=1).values
    tied = (best[:, 0] - best[:, -1]) <= tolerance * expected.std()
    share = float(same.double().mean())
    if share < least or (subject.form.precision == "fp32" and not (same | tied).all()):
        raise UsageError(f"{what}: {share:.1%} of {len(same)} images get eager's class: nothing is written")
    return Parity(part=subject.part, images=len(same), deviation=measured, tolerance=tolerance, same_class=share)


def outputs(infer: Infer, subject: Subject) -> Tensor:
    """The model's output for all images of the subject, fp64 `(N, classes)`."""
    images, start, found = subject.taken(subject.images), 0, []
    for size in (*BATCHES, *[BATCHES[-1]] * len(images)):
        if start < len(images):
            found.append(torch.from_numpy(infer(images[start : start + size].numpy())).double())
            start += size
    return torch.cat(found)
