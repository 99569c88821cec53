"""Exits at which an image may leave, if logits are known up to rounding, as that of another batch size."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from compress.inference.policy import Policy

# By precision the largest error of a logit by rounding, relative to the image's largest logit.
MARGINS = {"fp32": 1e-4, "bf16": 3e-2}


def possible_exits(logits: NDArray[Any], policy: Policy, margin: float) -> NDArray[np.bool_]:
    """Whether an image may leave at an exit, `(exits, N)`, if logits `(exits, N, classes)` are known up to a margin.

    The margin is the largest error of a difference of two logits, relative to the image's largest logit. With a margin
    of 0 there is one exit an image, that of `leave`.
    """
    stays = np.ones(logits.shape[1], dtype=np.bool_)
    possible = np.empty(logits.shape[:2], dtype=np.bool_)
    for number, threshold in enumerate(policy.thresholds):
        low, high = confidence_range(logits[number], policy.temperatures[number], margin)
        possible[number] = stays & (high > threshold)
        stays &= ~(low > threshold)
    possible[-1] = stays
    return possible


def confidence_range(
    logits: NDArray[Any], temperature: float, margin: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The smallest and the largest confidence `(N,)` of logits `(N, classes)` that are known up to a margin."""
    scaled = logits.astype(np.float64) / temperature
    error = margin * np.abs(scaled).max(axis=-1)
    others = np.exp(scaled - scaled.max(axis=-1, keepdims=True)).sum(axis=-1) - 1
    return 1 / (1 + others * np.exp(error)), 1 / (1 + others * np.exp(-error))
