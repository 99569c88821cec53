"""Simulation of early exit: what a policy answers, from stored logits of all exits."""

from __future__ import annotations

from typing import Any, Generic, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from compress.inference.policy import Policy, leave

Array = TypeVar("Array")


class Exited(NamedTuple, Generic[Array]):
    """What N images are answered, as NumPy arrays or tensors.

    Attributes:
        labels: the most probable class, int64 `(N,)`.
        exits: the exit (1-based) that each image left at, int64 `(N,)`.
        probabilities: `softmax(logits / temperature)` of that exit, fp32 `(N, classes)`.
    """

    labels: Array
    exits: Array
    probabilities: Array


def simulate(logits: NDArray[Any], policy: Policy) -> Exited[NDArray[Any]]:
    """What early exit answers, from the logits `(exits, N, classes)` of every exit.

    Raises:
        UsageError: the policy is for another number of exits.
    """
    exits = leave(logits, policy)
    return answers(logits[exits - 1, np.arange(len(exits))], exits, policy)


def answers(logits: NDArray[Any], exits: NDArray[np.int64], policy: Policy) -> Exited[NDArray[Any]]:
    """What images are answered, from the logits `(N, classes)` of the exit (1-based) that each leaves at."""
    temperatures = np.array(policy.temperatures)[exits - 1, None]
    scaled = logits.astype(np.float64) / temperatures
    powers = np.exp(scaled - scaled.max(axis=-1, keepdims=True))
    probabilities = (powers / powers.sum(axis=-1, keepdims=True)).astype(np.float32)
    # The largest logit, since two classes' probabilities may be rounded to the same number.
    return Exited(logits.argmax(axis=-1), exits, probabilities)
