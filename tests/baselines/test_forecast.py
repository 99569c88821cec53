"""Forecasts: what they foretell is what pruning then does, and nothing is trained for them."""

from pathlib import Path

import pytest

from baselines import Budget, Technique, carry_out, foresee
from baselines.removal_order import Size
from compress.data import Dataset
from compress.errors import UsageError
from compress.recipes import Recipe
from compress.runs import Run, load
from tests.baselines.jobs import job_of


@pytest.mark.parametrize(
    "technique",
    [
        Technique(method="lamp"),
        Technique(method="depth-cut", nearest=True),
        Technique(method="shallow", nearest=True),
    ],
    ids=lambda technique: technique.label,
)
def test_what_is_foretold_is_what_pruning_does(
    technique: Technique, small: Dataset, quick: Recipe, runs: Path, reference: Run
) -> None:
    asked = job_of("resnet14", small, quick, runs, technique=technique)
    before = sorted(runs.iterdir())
    forecast = foresee(asked)
    assert sorted(runs.iterdir()) == before
    assert forecast.trained
    assert forecast.whole == Size.of(load(reference))
    assert forecast.achieved is not None
    assert forecast.smallest.macs <= forecast.achieved.macs < forecast.whole.macs
    assert forecast.achieved.macs <= forecast.largest.macs < forecast.whole.macs
    assert forecast.requested == "--speedup 2"
    assert forecast.refused is None
    assert forecast.seconds is not None
    assert forecast.seconds > 0
    assert forecast.achieved == Size.of(load(carry_out(asked)))


def test_the_ends_are_those_that_pruning_reaches_and_names(
    small: Dataset, quick: Recipe, runs: Path, reference: Run
) -> None:
    beyond = job_of("resnet14", small, quick, runs, budget=Budget(speedup=1e6))
    forecast = foresee(beyond)
    assert (forecast.achieved, forecast.seconds) == (None, None)
    with pytest.raises(UsageError) as refused:
        carry_out(beyond)
    assert forecast.refused == str(refused.value)
    assert f"{forecast.smallest.macs:,} MACs" in str(refused.value)
    smallest = carry_out(job_of("resnet14", small, quick, runs, budget=Budget(macs=forecast.smallest.macs)))
    assert Size.of(load(smallest)) == forecast.smallest


def test_without_a_reference_sizes_are_right_and_its_training_is_counted(
    small: Dataset, quick: Recipe, tmp_path: Path, runs: Path, reference: Run
) -> None:
    unknown = foresee(job_of("resnet14", small, quick, tmp_path, technique=Technique(ranking="uniform", nearest=True)))
    known = foresee(job_of("resnet14", small, quick, runs, technique=Technique(ranking="uniform", nearest=True)))
    assert not list(tmp_path.iterdir())
    assert (unknown.trained, known.trained) == (False, True)
    # Uniform widths do not depend on weights.
    assert (unknown.whole, unknown.smallest, unknown.achieved) == (known.whole, known.smallest, known.achieved)
    assert unknown.seconds is not None
    assert known.seconds is not None
    assert unknown.seconds > known.seconds  # five epochs more
