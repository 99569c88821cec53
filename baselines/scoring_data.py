"""Scoring data: the images that channels and blocks are scored and compared on, and what scoring them costs."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from compress.data import Normalisation, Part, Split
from compress.training import Objective

# Share and greatest number of training images that losses are compared on where the recipe holds out no validation
# images. The network was trained on them, so a loss says less of new images; networks are still ranked on the same
# ones, and test images stay unseen.
SEEN_SHARE, SEEN = 0.1, 5000


@dataclass(kw_only=True)
class ScoringData:
    """Images to score on, on the network's device; none of them is for calibration or the test.

    Attributes:
        train: training images, for gradients and batch norm's statistics.
        judging: validation images, on which losses are compared; training images where there are none.
        objective: the reference's objective, whose weights the exits' losses have.
        label_smoothing: label smoothing of those losses.
        seed: random seed of what is drawn.
        macs: multiply-accumulates spent on scoring so far, which every scoring function adds to.
        seconds: time spent on measurements that were read from an earlier selection's file.
    """

    train: Part
    judging: Part
    normalisation: Normalisation
    objective: Objective
    label_smoothing: float
    seed: int
    macs: int = 0
    seconds: float = 0.0

    @classmethod
    def of(cls, parts: Split, objective: Objective, label_smoothing: float, seed: int) -> ScoringData:
        """Take the scoring data from a split."""
        judging = parts.validation
        if not len(judging):
            drawn = torch.randperm(len(parts.train), generator=torch.Generator().manual_seed(seed))
            judging = parts.train.subset(drawn[: min(math.ceil(SEEN_SHARE * len(drawn)), SEEN)].sort().values)
        return cls(
            train=parts.train,
            judging=judging,
            normalisation=parts.normalisation,
            objective=objective,
            label_smoothing=label_smoothing,
            seed=seed,
        )
