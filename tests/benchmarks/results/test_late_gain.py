"""Late gain: only what rose by a point or more at the end, and by no luck that the loss does not share."""

import math
from collections.abc import Sequence

import pandas as pd
import pytest

from benchmarks.results.late_gain import late_gain


def epochs_of(*accuracies: Sequence[float], losses: Sequence[float] | None = None) -> pd.DataFrame:
    """The epochs of one series with these accuracies in per cent, seed by seed; the loss falls unless it is given."""
    return pd.DataFrame(
        [
            {"series": "A", "run": str(seed), "epoch": epoch, "val_accuracy": accuracy}
            | {"val_loss": losses[epoch - 1] if losses else 1 / epoch}
            for seed, own in enumerate(accuracies)
            for epoch, accuracy in enumerate(own, start=1)
        ]
    )


def test_the_last_of_few_epochs_and_the_last_tenth_of_many_count() -> None:
    assert str(late_gain(epochs_of([50, 80, 84, 86.5]), "A")) == (
        "in the last of 4 epochs by 2.50 points, from 84.00 to 86.50%"
    )
    many = [50.0] * 18 + [60, 61]
    assert str(late_gain(epochs_of(many), "A")) == "in the last 2 of 20 epochs by 11.00 points, from 50.00 to 61.00%"
    assert str(late_gain(epochs_of([*many, 62]), "A")).startswith("in the last 3 of 21 epochs by 12.00")  # 2.1, up


def test_it_is_one_of_means_over_seeds() -> None:
    """Gains of 3, 1 and 2 points: 2; and of 3, -3 and 1: a third of a point."""
    assert str(late_gain(epochs_of([80, 83], [80, 81], [83, 85]), "A")) == (
        "in the last of 2 epochs by 2.00 points, from 81.00 to 83.00%"
    )
    assert late_gain(epochs_of([80, 83], [80, 77], [83, 84]), "A") is None


@pytest.mark.parametrize(
    "epochs",
    [
        epochs_of([80, 80.9]),  # less than a point
        epochs_of([80, 85], losses=[0.5, 0.6]),  # the loss rose
        epochs_of([80]),  # no second epoch
        epochs_of([math.nan, math.nan], losses=[math.nan, math.nan]),  # no images held out
        pd.DataFrame(),  # no history
        epochs_of([80, 90]).assign(series="B"),
    ],
)
def test_what_did_not_rise_or_cannot_be_known_is_none(epochs: pd.DataFrame) -> None:
    assert late_gain(epochs, "A") is None
