"""Class weights: how much an image counts in the cross-entropy, by the frequency of its class."""

from __future__ import annotations

import torch
from torch import Tensor

from compress.recipes import ClassWeights


def class_weights(name: ClassWeights, labels: Tensor, classes: int) -> Tensor | None:
    """The weight of every class, `(classes,)` in fp32, from the labels int64 `(N,)` of the training images.

    balanced: N / (classes x images of the class), as scikit-learn has it (King & Zeng 2001). The mean weight of all
    images is one if every class has some. None: no weights.
    """
    if name == "none":
        return None
    counts = torch.bincount(labels, minlength=classes).clamp(min=1)  # the weight of a class without images is not used
    return len(labels) / (classes * counts.float())
