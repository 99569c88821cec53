"""Late gain: how much a network still learnt in the last epochs of its training, by its validation accuracy."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd

LATE = 10  # the last epochs are one in so many, at least one
ENOUGH = 1.0  # points; what gains less has finished


@dataclass(frozen=True, kw_only=True)
class LateGain:
    """A validation accuracy that was still rising.

    Attributes:
        late, epochs: the number of last epochs, and that of all.
        before, after: accuracy in per cent before the last epochs and after them; means over seeds.
    """

    late: int
    epochs: int
    before: float
    after: float

    def __str__(self) -> str:
        """As in ``in the last of 5 epochs by 2.67 points, from 84.67 to 87.33%``."""
        last = "the last" if self.late == 1 else f"the last {self.late}"
        return (
            f"in {last} of {self.epochs} epochs by {self.after - self.before:.2f} points, from {self.before:.2f} to "
            f"{self.after:.2f}%"
        )


def late_gain(epochs: pd.DataFrame, series: str) -> LateGain | None:
    """The gain of a series in the last tenth of its epochs, if that is a point or more and the loss fell with it.

    A schedule that ends at rate zero flattens the end of every curve: what still rises there is not finished, and what
    does not need not be. None where it did not rise, and where nobody can tell: without images held out, without a
    second epoch, or without a history.

    Args:
        epochs: by `read_epochs`.
    """
    if epochs.empty:
        return None
    means = epochs[epochs["series"] == series].groupby("epoch")[["val_accuracy", "val_loss"]].mean()
    late = -(-len(means) // LATE)
    if len(means) <= late:
        return None
    before, after = means.iloc[-1 - late], means.iloc[-1]
    gain, fall = after["val_accuracy"] - before["val_accuracy"], before["val_loss"] - after["val_loss"]
    if not (gain >= ENOUGH and fall > 0):
        return None
    return LateGain(late=late, epochs=len(means), before=before["val_accuracy"], after=after["val_accuracy"])
