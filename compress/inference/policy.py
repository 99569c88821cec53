"""The early-exit policy: at which exit an image leaves a network; the one definition of that decision."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from compress.documents import fitted
from compress.errors import UsageError, checked

NEVER = 1.0  # threshold that no confidence exceeds
CLOSE = 1e-6  # to a threshold: far more than two ways to compute a confidence in float64 differ by


@checked
@dataclass(frozen=True, kw_only=True)
class Policy:
    """When images leave: at the first exit whose confidence is above its threshold, and at the last exit otherwise.

    The confidence of an exit is the largest probability of `softmax(logits / temperature)`. Thresholds are exceeded,
    not reached: an image whose confidence is rounded to 1.0 does not pass the threshold 1.0, which nothing passes.

    Attributes:
        temperatures: above 0, one for every exit, shallow to deep.
        thresholds: from 0 to 1, one for every exit but the last.
        weights: SHA-256 (hex) of the weights that the policy was chosen for, see `digest_of_weights`.
    """

    temperatures: tuple[float, ...]
    thresholds: tuple[float, ...]
    weights: str

    def __post_init__(self) -> None:
        if len(self.thresholds) != len(self.temperatures) - 1:
            raise UsageError(
                f"policy: {len(self.thresholds)} thresholds for {len(self.temperatures)} exits; the last exit has none"
            )
        if not all(temperature > 0 for temperature in self.temperatures):
            raise UsageError(f"policy: temperatures {self.temperatures} must be above 0")
        if not all(0 <= threshold <= 1 for threshold in self.thresholds):
            raise UsageError(f"policy: thresholds {self.thresholds} must be from 0 to 1")

    @property
    def exits(self) -> int:
        """The number of exits of the network that the policy fits."""
        return len(self.temperatures)

    @property
    def digest(self) -> str:
        """SHA-256 (hex) of the policy."""
        return hashlib.sha256(json.dumps(self.to_json(), sort_keys=True).encode()).hexdigest()

    def to_json(self) -> dict[str, Any]:
        """The fields as JSON-ready data."""
        return {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(self).items()}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Policy:
        """Read what `to_json` returned.

        Raises:
            UsageError: a field is missing, has another type, or is out of its range.
        """
        return fitted(data, cls, "policy")


def confidences(logits: NDArray[Any], temperature: float) -> NDArray[np.float64]:
    """The confidence `(N,)` of an exit from its logits `(N, classes)`, computed in float64."""
    scaled = logits.astype(np.float64) / temperature
    return np.asarray(1 / np.exp(scaled - scaled.max(axis=-1, keepdims=True)).sum(axis=-1))


def exceeds(logits: Sequence[float], temperature: float, threshold: float) -> bool:
    """Whether the confidence of one image, from its logits at an exit, is above a threshold; exactly as `confidences`.

    It is decided in Python's own floats unless it is close: between two layers of a network NumPy's functions have left
    the CPU's caches, and take as long as a layer.
    """
    confidence = 1 / sum(powers(logits, temperature))
    if abs(confidence - threshold) > CLOSE:
        return confidence > threshold
    return bool(confidences(np.array([logits]), temperature)[0] > threshold)


def powers(logits: Sequence[float], temperature: float) -> list[float]:
    """`exp((logits - the largest) / temperature)` of one image's logits."""
    largest = max(logits)
    return [math.exp((value - largest) / temperature) for value in logits]


def leave(logits: NDArray[Any], policy: Policy) -> NDArray[np.int64]:
    """The exit (1-based), int64 `(N,)`, at which each image leaves, from the logits `(exits, N, classes)`.

    Raises:
        UsageError: the policy is for another number of exits.
    """
    if len(logits) != policy.exits:
        raise UsageError(f"policy: it is for {policy.exits} exits, the network has {len(logits)}")
    exits = np.full(logits.shape[1], policy.exits, dtype=np.int64)
    for exit in reversed(range(1, policy.exits)):
        exits[confidences(logits[exit - 1], policy.temperatures[exit - 1]) > policy.thresholds[exit - 1]] = exit
    return exits
