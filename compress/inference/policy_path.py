"""The path of policies from conservative, by which no image leaves early, to eager, by which all leave at once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from compress.inference.policy import NEVER, Policy, confidences
from compress.inference.risks import Losses, Risk

LEVELS = 100  # thresholds that each exit can have


def choose_path(
    logits: NDArray[Any],
    labels: NDArray[np.int64] | None,
    risk: Risk,
    *,
    macs: Sequence[float],
    temperatures: Sequence[float],
    weights: str,
    levels: int = LEVELS,
) -> list[Policy]:
    """Choose a path on images that are used for nothing else but choosing.

    Every step lowers the threshold of one exit: the one that saves most MACs for the losses that it adds. Thresholds
    never rise, so every policy lets each image leave no later than the one before it.

    Args:
        logits: of the images at every exit, `(exits, N, classes)`.
        labels: of the images `(N,)`; None where the risk needs none.
        macs: up to every exit, those of earlier heads included.
        weights: SHA-256 of the network's weights.
        levels: thresholds of an exit, at equal shares of the images.
    """
    sure = [confidences(exit, temperature) for exit, temperature in zip(logits[:-1], temperatures[:-1], strict=True)]
    ladders = [_ladder(each, levels) for each in sure]
    steps = _greedy(np.array(sure), ladders, risk.losses(logits, labels), np.asarray(macs, dtype=np.float64))
    return [
        Policy(temperatures=tuple(map(float, temperatures)), thresholds=thresholds, weights=weights)
        for thresholds in steps
    ]


def _ladder(confidence: NDArray[np.float64], levels: int) -> list[float]:
    """The thresholds of an exit, falling from 1 to 0; between them are equal shares of the images."""
    shares = np.quantile(confidence, np.linspace(1, 0, levels)[1:-1])
    return [NEVER, *sorted({float(level) for level in shares if 0 < level < NEVER}, reverse=True), 0.0]


def _greedy(
    sure: NDArray[np.float64], ladders: list[list[float]], losses: Losses, macs: NDArray[np.float64]
) -> Iterator[tuple[float, ...]]:
    """The thresholds of every step, from confidences `(exits - 1, N)`, losses `(exits, N)` and MACs `(exits,)`."""
    images = np.arange(sure.shape[1])
    leave_from = [
        np.searchsorted(-np.array(rungs), -each, side="right") for rungs, each in zip(ladders, sure, strict=True)
    ]
    exits, rungs = np.full(len(images), len(macs) - 1), [0] * len(ladders)  # where images leave now
    yield tuple(ladder[0] for ladder in ladders)
    while movable := [exit for exit, ladder in enumerate(ladders) if rungs[exit] + 1 < len(ladder)]:
        worth = {}
        for exit in movable:
            later = exits > exit
            saved = macs[exits] - macs[exit], losses[exit] - losses[exits, images]
            by_rung = [np.bincount(leave_from[exit][later], each[later], len(ladders[exit])) for each in saved]
            macs_saved, added = (each[rungs[exit] + 1 :].cumsum() for each in by_rung)
            worth[exit] = (macs_saved / (1 + np.maximum(added, 0))).max()  # 1: what has no loss here may have one
        best = max(movable, key=lambda exit: worth[exit])
        rungs[best] += 1
        exits[(leave_from[best] <= rungs[best]) & (exits > best)] = best
        yield tuple(ladder[rung] for ladder, rung in zip(ladders, rungs, strict=True))
