"""Evidence: what a choice of channels or blocks may look at, and what looking at it costs."""

from __future__ import annotations

from dataclasses import dataclass

from compress.data import Normalisation, Part, Split
from compress.training import Objective


@dataclass(kw_only=True)
class Evidence:
    """Training and validation images, on the network's device; never those for calibration or the test.

    Attributes:
        objective: what the reference was trained by.
        label_smoothing: of its losses.
        seed: of whatever is drawn.
        macs: multiply-accumulates that choosing has taken so far; who runs a network adds them.
        seconds: what measurements that were kept from an earlier choice took then.
    """

    train: Part
    validation: Part
    normalisation: Normalisation
    objective: Objective
    label_smoothing: float
    seed: int
    macs: int = 0
    seconds: float = 0.0

    @classmethod
    def of(cls, parts: Split, objective: Objective, label_smoothing: float, seed: int) -> Evidence:
        """The evidence in a split."""
        return cls(
            train=parts.train,
            validation=parts.validation,
            normalisation=parts.normalisation,
            objective=objective,
            label_smoothing=label_smoothing,
            seed=seed,
        )
