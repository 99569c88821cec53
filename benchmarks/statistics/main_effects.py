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


def main_effects(
    levels: Sequence[Sequence[int]], responses: Sequence[float], blocks: Sequence[int] | None = None
) -> list[Effect] | None:
    """The effect of every factor by least squares; None where the runs do not tell the factors apart.

    The model has a mean for every block and an effect for every factor. Interactions are not in it and count as error,
    so that they widen the intervals.

    Args:
        levels: -1 or 1 of every factor, for each run.
        responses: of the runs.
        blocks: the block of each run, as its seed; None for a single one.
    """
    own = np.zeros(len(levels), dtype=int) if blocks is None else np.array(blocks, dtype=int)
    means = own[:, None] == np.unique(own)  # an indicator for each block in place of a column of ones
    design: NDArray[np.float64] = np.column_stack([means, np.array(levels, dtype=float)]).astype(float)
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
        for value, width in zip(found[means.shape[1] :], half_widths[means.shape[1] :], strict=True)
    ]
