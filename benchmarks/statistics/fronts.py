"""Fronts: which points no other point dominates, and the hypervolume that points dominate."""

from __future__ import annotations

import numpy as np


def on_front(costs: np.ndarray, accuracies: np.ndarray) -> np.ndarray:
    """Which points are on the front, `(draws, points)`, for costs `(points,)` and accuracies `(draws, points)`.

    Points equal in both do not dominate one another.
    """
    order = np.argsort(costs, kind="stable")
    _, first, group = np.unique(costs[order], return_index=True, return_inverse=True)
    drawn = accuracies[:, order]
    best = np.maximum.reduceat(drawn, first, axis=1)  # at every cost
    cheaper = np.maximum.accumulate(best, axis=1)[:, :-1]
    cheaper = np.concatenate([np.full((len(drawn), 1), -np.inf), cheaper], axis=1)
    found = np.empty(drawn.shape, dtype=bool)
    found[:, order] = (drawn == best[:, group]) & (drawn > cheaper[:, group])
    return found


def hypervolume(costs: np.ndarray, accuracies: np.ndarray, *, limit: float, floor: float) -> np.ndarray:
    """The share `(draws,)` that points dominate of the box from `floor` to accuracy 1 and from cost 0 to `limit`.

    Args:
        costs: `(points,)`.
        accuracies: `(draws, points)`; draws above 1, which Student's t allows, count as 1.
        limit, floor: the reference point; points that cost more, or are less accurate, add nothing.
    """
    order = np.argsort(costs, kind="stable")
    above = np.maximum.accumulate(np.clip(accuracies[:, order] - floor, 0, 1 - floor), axis=1)
    widths = np.diff(np.append(np.clip(costs[order], None, limit), limit))
    return np.asarray(above @ widths / (limit * (1 - floor)), dtype=float)
