"""Scores: which test images a network classified correctly, seed by seed; packed as text for JSON files."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from compress.accuracy_interval import CONFIDENCE as CONFIDENCE  # of every interval

ENOUGH_SEEDS = 3  # with fewer, a finding is preliminary


@dataclass(frozen=True, kw_only=True)
class Scores:
    """What a network classified correctly.

    Attributes:
        right: `(seeds, images)`, in the order of `seeds`: bools, or shares.
    """

    seeds: tuple[int, ...]
    right: np.ndarray

    @classmethod
    def of(cls, right: Mapping[int, np.ndarray]) -> Scores:
        """The scores from an array `(images,)` for every seed."""
        seeds = tuple(sorted(right))
        return cls(seeds=seeds, right=np.stack([right[seed] for seed in seeds]))


def pack(right: np.ndarray) -> str:
    """Bools `(images,)` as text, eight in two hexadecimal digits."""
    return np.packbits(right).tobytes().hex()


def unpack(text: str, count: int) -> np.ndarray:
    """The `count` bools that `pack` was given."""
    return np.unpackbits(np.frombuffer(bytes.fromhex(text), dtype=np.uint8), count=count).astype(bool)
