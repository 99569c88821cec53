"""Tuning: the same factors for every arm, the best by validation accuracy, rates that are the recipe's times them."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from baselines import Budget
from baselines.job import find_reference, training_recipe
from benchmarks.report.best_trial import Factors, Trial, best
from benchmarks.study.entry import Pruned, read_entry
from benchmarks.study.outcomes import Outcomes
from benchmarks.study.tuning_grid import Tuning, untuned_rate
from compress.recipes import Recipe
from compress.runs import Run
from tests.benchmarks.study.conftest import CURVES, DEEP, HEAD, Settings


def entry_of(**keys: Any) -> Pruned:
    """An entry that prunes to three budgets."""
    pruned = {"name": "l1", "command": "prune", "arch": "resnet8", "speedup": [1.5, 2.0, 4.0]}
    entry = read_entry(pruned | keys)
    assert isinstance(entry, Pruned)
    return entry


ENTRY = entry_of()
TRAINED = read_entry({"name": "deep", "command": "train", "arch": "resnet8"})


def trial(run: Run, rate: float, validation: float | None, test: float = 0.5) -> Trial:
    """A trial whose run has these accuracies; None: it failed."""
    if validation is None:
        return Trial.of(ENTRY.name, str(ENTRY.targets[1]), Factors(rate=rate), None)
    exits = [run.exits[-1] | {"val_accuracy": validation, "test_accuracy": test}]
    made = Run(run.path, replace(run.record, results=run.record.results | {"exits": exits}))
    return Trial.of(ENTRY.name, str(ENTRY.targets[1]), Factors(rate=rate), made)


def test_every_rate_is_tried_with_every_decay_lower_rates_first() -> None:
    tuning = Tuning(rates=(3.0, 1.0), decays=(1.0, 0.1))
    assert [(one.rate, one.decay) for one in tuning.factors] == [(1, 0.1), (1, 1), (3, 0.1), (3, 1)]
    assert [str(one) for one in tuning.factors] == ["rate x1, decay x0.1", "rate x1", "rate x3, decay x0.1", "rate x3"]


@pytest.mark.parametrize(("at", "tuned"), [(None, 2.0), (1, 1.5), (3, 4.0)])
def test_the_middle_budget_is_tuned_unless_another_is_named(at: int | None, tuned: float) -> None:
    assert Tuning(at=at).target(ENTRY) == Budget(speedup=tuned)
    assert Tuning(at=at).target(TRAINED) is None


def test_pruned_runs_are_tuned_and_trained_ones_where_all_are() -> None:
    assert [Tuning().includes(ENTRY), Tuning().includes(TRAINED), Tuning(all=True).includes(TRAINED)] == [
        True,
        False,
        True,
    ]


def test_the_best_is_that_on_validation_images_whatever_the_test_says(runs: list[Run]) -> None:
    trials = [trial(runs[3], 0.3, 0.6, test=0.9), trial(runs[3], 1, 0.7, test=0.1), trial(runs[3], 3, None)]
    assert best(trials) is trials[1]


def test_of_equals_the_lowest_rate_is_best_and_of_failures_none(runs: list[Run]) -> None:
    trials = [trial(runs[3], 0.3, None), trial(runs[3], 1, 0.7), trial(runs[3], 3, 0.7)]
    assert best(trials) is trials[1]
    assert best([trial(runs[3], 1, 0.0), trial(runs[3], 3, None)]) is not None
    assert best([trial(runs[3], 1, None), trial(runs[3], 3, None)]) is None


@pytest.mark.parametrize("keys", [{}, {"schedule": "restart"}, {"method": "scratch-e"}])
def test_the_rate_that_factors_multiply_is_the_one_that_pruning_takes(
    keys: dict[str, str], settings: Settings, brief: Recipe, made: list[Run], place: Path
) -> None:
    words = "".join(f", {key} = '{value}'" for key, value in keys.items())
    pruned = f"{{name = 'l1', command = 'prune', from = 'deep', ratio = 0.3{words}}}"
    outcomes = Outcomes(setting=settings(f"{HEAD}\nrun = [{DEEP}, {pruned}]", place / "runs"))
    outcomes.find()
    [_, node] = outcomes.nodes
    untuned, tuned = (
        outcomes.job(replace(node, factors=factors)) for factors in (Factors(), Factors(rate=2.0, decay=3.0))
    )
    before, after = (training_recipe(job, find_reference(job)).to_json() for job in (untuned, tuned))
    assert before["learning_rate"] == untuned_rate(entry_of(**keys), brief)
    assert after["learning_rate"] == 2 * before["learning_rate"]
    assert after["weight_decay"] == pytest.approx(3 * before["weight_decay"])
    assert before == after | {key: before[key] for key in ("learning_rate", "weight_decay")}


def test_trained_runs_take_the_recipe_with_both_multiplied(brief: Recipe) -> None:
    assert Factors().recipe(brief) == brief
    tuned = Factors(rate=2.0, decay=0.5).recipe(brief)
    assert (tuned.learning_rate, tuned.weight_decay) == (2 * brief.learning_rate, 0.5 * brief.weight_decay)
    assert tuned.fine_tune_learning_rate == brief.fine_tune_learning_rate


def test_nothing_is_chosen_while_a_trial_has_no_outcome(
    settings: Settings, reopened: list[Run], tmp_path: Path
) -> None:
    outcomes = Outcomes(setting=settings(CURVES, tmp_path))
    first, second = (node for node in outcomes.nodes if node.trial and node.entry.name == "l1")
    outcomes.runs[first] = reopened[0]
    assert outcomes.run(first.entry, first.target, first.seed) is None
    outcomes.runs[second] = None  # it failed
    assert outcomes.run(first.entry, first.target, first.seed) is reopened[0]
