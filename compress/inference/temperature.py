"""Temperature scaling: one number an exit that makes its confidences honest (Guo et al. 2017)."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from scipy.special import logsumexp

SMALLEST, LARGEST = 0.05, 20.0


def fit_temperature(logits: NDArray[Any], labels: NDArray[Any]) -> float:
    """The temperature of the least cross-entropy of `softmax(logits / temperature)`, from 0.05 to 20.

    A weak prior, `1/T + log T` nats against one cross-entropy for every image, keeps it near 1 where images are few, or
    all right, where cross-entropy alone has no minimum. The sum is convex in 1/T.

    Args:
        logits: `(N, classes)`, of held-out images.
        labels: `(N,)`.
    """
    logits = logits.astype(np.float64)
    right = logits[np.arange(len(labels)), labels]

    def objective(inverse: float) -> float:
        cross_entropies = logsumexp(logits * inverse, axis=-1) - right * inverse
        return float(cross_entropies.sum() + inverse - np.log(inverse))

    return float(1 / minimize_scalar(objective, bounds=(1 / LARGEST, 1 / SMALLEST), method="bounded").x)


def fit_temperatures(logits: NDArray[Any], labels: NDArray[Any]) -> tuple[float, ...]:
    """The temperature of every exit, from logits `(exits, N, classes)` and labels `(N,)` of held-out images."""
    return tuple(fit_temperature(exit, labels) for exit in logits)
