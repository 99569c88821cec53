"""Evidence: what a choice of channels or blocks may look at, and what looking at it costs."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from compress.data import Normalisation, Part, Split
from compress.training import Objective

# Of the training images, judged on where the recipe holds out none, and so many at most. The network has learnt them,
# so that a loss says less of new images; networks made of it are still ranked on the same ones, and test images stay
# unseen.
SEEN_SHARE, SEEN = 0.1, 5000


@dataclass(kw_only=True)
class Evidence:
    """Images to score and to judge on, on the network's device; never those for calibration or the test.

    Attributes:
        train: training images.
        judging: validation images, on which losses are compared; where there are none, some training images.
        objective: what the reference was trained by.
        label_smoothing: of its losses.
        seed: of whatever is drawn.
        macs: multiply-accumulates that choosing has taken so far; who runs a network adds them.
        seconds: what measurements that were kept from an earlier choice took then.
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
    def of(cls, parts: Split, objective: Objective, label_smoothing: float, seed: int) -> Evidence:
        """The evidence in a split."""
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
