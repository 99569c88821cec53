"""Fronts: which points nothing dominates, and the hypervolume that points dominate."""

from __future__ import annotations

import numpy as np


def on_front(costs: np.ndarray, accuracies: np.ndarray) -> np.ndarray:
    """Which points are on the front, `(draws, points)`, of costs `(points,)` and accuracies `(draws, points)`.

    Points alike in both do not dominate one another.
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
    """The share of the box from the floor to 1 and from no cost to the limit that points dominate, `(draws,)`.

    Args:
        costs: `(points,)`; accuracies: `(draws, points)`; those drawn above 1, as Student's t does, count as 1.
        limit, floor: the reference point; what is costlier or less accurate adds nothing.
    """
    order = np.argsort(costs, kind="stable")
    above = np.maximum.accumulate(np.clip(accuracies[:, order] - floor, 0, 1 - floor), axis=1)
    widths = np.diff(np.append(np.clip(costs[order], None, limit), limit))
    return np.asarray(above @ widths / (limit * (1 - floor)), dtype=float)
