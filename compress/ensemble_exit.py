"""The exit ensemble of a run: what a record holds of the average of its last exits."""

import re
from typing import Annotated, Literal

from compress.errors import UsageError
from compress.per_class import PerClass
from compress.schema import UNSET, Meta, Struct, UnsetType

ENSEMBLE: Literal["ensemble"] = "ensemble"  # its name where an exit has a number
ExitName = int | Literal["ensemble"]
Share = Annotated[float, Meta(ge=0, le=1)]
ROUNDED = 1e-5  # most by which weights, of six digits, miss the sum 1
Number = Annotated[int, Meta(ge=1)]


class EnsembleExit(Struct, frozen=True, kw_only=True):
    """`results.ensemble`: the mean of the last exits' logits, by weights fitted on validation images.

    Attributes:
        exits: the exits that are averaged (1-based), shallow to deep.
        weights: of their logits, which add up to 1.
        macs, params, activations: of the trunk with the heads of these exits.
        calibration_gain: its accuracy minus the last exit's, on calibration images, which the weights have not seen;
            None without such images, unset in older records.
        per_class: as `results.per_class`, of this one prediction; unset where classes are even, and in older records.
    """

    exit: Literal["ensemble"]
    exits: tuple[Number, ...]
    weights: tuple[Share, ...]
    macs: Number
    params: Number
    activations: Number
    val_accuracy: Share
    test_accuracy: Share
    test_loss: Annotated[float, Meta(ge=0)]
    calibration_gain: Annotated[float, Meta(ge=-1, le=1)] | UnsetType | None = UNSET
    per_class: PerClass | UnsetType = UNSET

    def check(self, exits: int, classes: int) -> None:
        """Raise UsageError unless these are the last of so many exits, each with its weight, of so many classes."""
        count = len(self.weights)
        if count < 2 or self.exits != tuple(range(exits + 1 - count, exits + 1)):
            raise UsageError(f"results.ensemble: exits {self.exits} with {count} weights are not the last of {exits}")
        if abs(sum(self.weights) - 1) > ROUNDED:
            raise UsageError(f"results.ensemble: weights {self.weights} do not add up to 1")
        if self.per_class is not UNSET:
            self.per_class.check(1, classes)


def whole_and_exit(name: str) -> tuple[str, ExitName | None]:
    """What a name such as RUN, RUN:2 or RUN:ensemble means: the whole, and the exit if one is named (None: none is)."""
    whole, _, exit = name.rpartition(":")
    if whole and exit == ENSEMBLE:
        return whole, ENSEMBLE
    return (whole, int(exit)) if whole and re.fullmatch(r"[0-9]{1,9}", exit) else (name, None)
