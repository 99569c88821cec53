"""Paired difference: how much two networks' accuracies differ seed by seed, on test images that are taken as given."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy import stats

from benchmarks.statistics.difference import ALPHA
from benchmarks.statistics.scores import CONFIDENCE, Scores


@dataclass(frozen=True, kw_only=True)
class PairedDifference:
    """One network's accuracies minus another's, fractions.

    Attributes:
        values: a difference for each seed, `(seeds,)`.
        step: the share of one test image, to which accuracies are rounded; 0 for none.
    """

    values: np.ndarray
    step: float = 0.0

    @classmethod
    def of(cls, first: Scores, second: Scores) -> PairedDifference:
        """How much more accurate the first network is; both have the same seeds and images."""
        assert first.seeds == second.seeds
        return cls(values=first.right.mean(axis=1) - second.right.mean(axis=1), step=1 / first.right.shape[1])

    @property
    def estimate(self) -> float:
        """The mean over seeds."""
        return float(self.values.mean())

    def interval(self, confidence: float = CONFIDENCE) -> tuple[float, float]:
        """The interval of the mean over further seeds by Student's t; a single seed tells nothing: it is infinite.

        Seeds scatter at least as rounding to images does: two that agree to the image, by chance, prove nothing.
        """
        seeds = len(self.values)
        if seeds == 1:
            return -math.inf, math.inf
        scatter = max(float(self.values.std(ddof=1)), self.step / math.sqrt(12))
        half = float(stats.t.ppf((1 + confidence) / 2, seeds - 1)) * scatter / math.sqrt(seeds)
        return self.estimate - half, self.estimate + half

    def equivalent(self, margin: float, alpha: float = ALPHA) -> bool:
        """Whether two one-sided tests at level alpha find it within the margin; at 5%, whether its 90% interval is."""
        low, high = self.interval(1 - 2 * alpha)
        return -margin < low and high < margin
