"""Agreement: before an engine is timed, its logits are compared with eager's in fp32."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from compress.errors import UsageError
from compress.export.held_out import padded

# By precision the largest deviation, and the smallest share of images with the same top class, that are allowed. The
# accuracy of int8 is measured; its tolerance is to catch a wrong graph, not poor quantisation.
TOLERANCES = {"fp32": (1e-3, 0.0), "fp16": (0.05, 0.9), "bf16": (0.2, 0.8), "int8": (0.5, 0.5)}


def deviation(found: Tensor, expected: Tensor) -> float:
    """Root mean square of the difference of two sets of logits `(N, classes)`, relative to that of the expected ones.

    Each image's mean is subtracted first, since predictions do not depend on it.
    """
    found, expected = (logits.double() - logits.double().mean(dim=1, keepdim=True) for logits in (found, expected))
    return float((found - expected).square().mean().sqrt() / expected.square().mean().sqrt())


def check_logits(
    infer: Callable[[Tensor], Tensor], batch_size: int, images: Tensor, expected: Tensor, *, precision: str, what: str
) -> float:
    """The deviation of the logits of a network, prepared for a batch size, from the expected ones.

    Raises:
        UsageError: it is larger than the precision allows, or too few images have the same top class.
    """
    batches = [padded(batch, batch_size) for batch in images.split(batch_size)]
    found = torch.cat([infer(batch) for batch in batches])[: len(images)]
    measured, (largest, smallest) = deviation(found, expected), TOLERANCES[precision]
    same = float((found.argmax(dim=1) == expected.argmax(dim=1)).double().mean())
    if not measured <= largest:  # true for NaN as well
        raise UsageError(f"{what}: logits deviate by {measured:.2g} from eager's fp32, more than {largest:g}")
    if same < smallest:
        raise UsageError(f"{what}: {same:.0%} of images have eager's top class, fewer than {smallest:.0%}")
    return measured
