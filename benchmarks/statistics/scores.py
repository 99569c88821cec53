"""Scores: which test images a network got right, seed by seed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

CONFIDENCE = 0.95  # of every interval
ENOUGH_SEEDS = 3  # with fewer a finding is preliminary


@dataclass(frozen=True, kw_only=True)
class Scores:
    """What a network got right: a row a seed, in the order of `seeds`, a column an image: bools, or shares.

    Attributes:
        right: `(seeds, images)`.
    """

    seeds: tuple[int, ...]
    right: np.ndarray

    @classmethod
    def of(cls, right: Mapping[int, np.ndarray]) -> Scores:
        """From what was right for every seed, `(images,)` each."""
        seeds = tuple(sorted(right))
        return cls(seeds=seeds, right=np.stack([right[seed] for seed in seeds]))
