"""Agreement: an engine's logits are compared with eager's in fp32 before it is timed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from benchmarks.measuring.calibration import padded
from compress.errors import UsageError

CHECKED_IMAGES = 32


@dataclass(frozen=True, kw_only=True)
class Tolerance:
    """How far an engine's logits may be off.

    Attributes:
        deviation: at most: see `deviation`.
        agreement: share of images with the same top class, at least.
    """

    deviation: float
    agreement: float


# Of int8 the accuracy is measured: here a wrong graph must be caught, not a poor quantisation.
TOLERANCES = {
    "fp32": Tolerance(deviation=1e-3, agreement=0.0),
    "fp16": Tolerance(deviation=0.05, agreement=0.9),
    "bf16": Tolerance(deviation=0.2, agreement=0.8),
    "int8": Tolerance(deviation=0.5, agreement=0.5),
}


def deviation(found: Tensor, expected: Tensor) -> float:
    """The root mean square of the logits' differences, relative to that of the expected ones `(N, classes)`.

    Both after every image's mean is taken off, which no prediction depends on.
    """
    found, expected = (logits.double() - logits.double().mean(dim=1, keepdim=True) for logits in (found, expected))
    return float((found - expected).square().mean().sqrt() / expected.square().mean().sqrt())


def check(
    infer: Callable[[Tensor], Tensor], batch_size: int, images: Tensor, expected: Tensor, precision: str, what: str
) -> float:
    """The deviation of what was prepared for a batch size from the logits that are expected of the images.

    Raises:
        UsageError: it is larger than the precision allows, or too few images have the same top class.
    """
    batches = [padded(batch, batch_size) for batch in images.split(batch_size)]
    found = torch.cat([infer(batch) for batch in batches])[: len(images)]
    off, allowed = deviation(found, expected), TOLERANCES[precision]
    same = float((found.argmax(dim=1) == expected.argmax(dim=1)).double().mean())
    if not off <= allowed.deviation:  # nan too
        raise UsageError(f"{what}: logits deviate by {off:.2g} from eager's fp32, more than {allowed.deviation:g}")
    if same < allowed.agreement:
        raise UsageError(f"{what}: {same:.0%} of images have eager's top class, fewer than {allowed.agreement:.0%}")
    return off
