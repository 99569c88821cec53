"""Rounds: actions timed in turn, so that what slows the machine slows them all, and ratios taken round by round."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

# Importing torch's timer warns wherever CUDA's compiler is installed without a GPU.
logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)
from torch.utils.benchmark import timer as timer  # noqa: E402 -- seconds; waits for CUDA where there is one

Action = Callable[[], Any]
Ratio = dict[str, float]


def interleaved(actions: Mapping[str, Action], rounds: int) -> dict[str, list[float]]:
    """Seconds of every action in every round, after one untimed call each; every other round goes backwards."""
    for action in actions.values():
        action()
    seconds: dict[str, list[float]] = {name: [] for name in actions}
    for number in range(rounds):
        for name in list(actions)[:: -1 if number % 2 else 1]:
            seconds[name].append(timed(actions[name]))
    return seconds


def timed(action: Action) -> float:
    """Seconds that one call takes."""
    started = timer()
    action()
    return float(timer() - started)


def ratio(over: Sequence[float], under: Sequence[float]) -> Ratio:
    """The median of the ratios of two actions' seconds, round by round, and their quartiles as `low` and `high`."""
    low, median, high = np.percentile(np.array(over) / np.array(under), (25, 50, 75))
    return {"ratio": float(median), "low": float(low), "high": float(high)}
