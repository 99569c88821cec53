"""Scoring data: the images that channels and blocks are scored and compared on, and what scoring them costs."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from compress.data import Augmentation, AugmentationDraw, Normalisation, Part, Split
from compress.networks import Network
from compress.training import Objective
from compress.training.batchnorm import REESTIMATION_IMAGES, reestimate

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
        augmented: how training images are augmented for batch norm's statistics, as weights know them; None: not.
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
    augmented: AugmentationDraw | None = None
    macs: int = 0
    seconds: float = 0.0

    def reestimate(self, network: Network, images: int | None = REESTIMATION_IMAGES) -> int:
        """Set a network's statistics of batch norm to those of augmented training images; returns the MACs."""
        return reestimate(network, self.train, self.normalisation, images=images, augmented=self.augmented)

    @classmethod
    def of(
        cls,
        parts: Split,
        objective: Objective,
        label_smoothing: float,
        seed: int,
        augmentation: Augmentation | None = None,
    ) -> ScoringData:
        """Take the scoring data from a split; `augmentation` is that of the training which gave the weights."""
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
            augmented=augmentation.draw(0, len(parts.train), parts.train.labels.device) if augmentation else None,
        )
