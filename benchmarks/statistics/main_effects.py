"""Main effects: what every two-level factor of a screen changes on average, by a linear model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from benchmarks.statistics.scores import CONFIDENCE


@dataclass(frozen=True, kw_only=True)
class Effect:
    """The mean response at a factor's high level minus that at its low level.

    Attributes:
        half_width: half of the 95% interval by Student's t; None where no degree of freedom is left for the error.
    """

    estimate: float
    half_width: float | None

    @property
    def positive(self) -> bool:
        """Whether the whole interval lies above zero; False without one."""
        return self.half_width is not None and self.estimate > self.half_width


def main_effects(levels: Sequence[Sequence[int]], responses: Sequence[float]) -> list[Effect] | None:
    """The effect of every factor by least squares; None where the runs do not tell the factors apart.

    The model has a mean and an effect for every factor. Interactions are not in it and count as error, so that they
    widen the intervals.

    Args:
        levels: -1 or 1 of every factor, for each run.
        responses: of the runs.
    """
    design: NDArray[np.float64] = np.column_stack([np.ones(len(levels)), np.array(levels, dtype=float)])
    runs, terms = design.shape
    if np.linalg.matrix_rank(design) < terms:
        return None
    found, *_ = np.linalg.lstsq(design, np.array(responses), rcond=None)
    residual, free = np.array(responses) - design @ found, runs - terms
    half_widths: list[float | None] = [None] * terms
    if free:
        variances = np.linalg.inv(design.T @ design).diagonal() * (residual @ residual) / free
        half_widths = [float(width) for width in stats.t.ppf((1 + CONFIDENCE) / 2, free) * np.sqrt(variances)]
    return [  # from low to high is two steps of the level
        Effect(estimate=2 * float(value), half_width=None if width is None else 2 * width)
        for value, width in zip(found[1:], half_widths[1:], strict=True)
    ]
