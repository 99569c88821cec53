"""Pareto fronts: hand-worked fronts and volumes, and shares that say what is and is not known."""

import numpy as np
import pytest
from scipy import stats

from benchmarks.statistics.difference import accuracy_draws, difference
from benchmarks.statistics.fronts import hypervolume, on_front
from benchmarks.statistics.scores import Scores

COSTS = np.array([4.0, 1.0, 2.0, 2.0, 3.0])


def scores(right: np.ndarray, first: int = 0) -> Scores:
    return Scores(seeds=tuple(range(first, first + len(right))), right=right)


def test_a_front_worked_by_hand() -> None:
    """By cost: 1, 2, 2, 3, 4. What is as accurate as something cheaper is beaten; twins do not beat one another."""
    accuracies = np.array([[0.9, 0.5, 0.7, 0.6, 0.7], [0.4, 0.5, 0.7, 0.7, 0.8]])
    assert on_front(COSTS, accuracies).tolist() == [
        [True, True, True, False, False],
        [False, True, True, True, True],
    ]


def test_a_hypervolume_worked_by_hand() -> None:
    """From cost 1 on 0.4 above the floor, from 2 on 0.6; at 4 the box ends: (1 * 0.4 + 2 * 0.6) / (4 * 0.9)."""
    accuracies = np.array([[0.99, 0.5, 0.7, 0.6, 0.7]])
    assert hypervolume(COSTS, accuracies, limit=4, floor=0.1) == pytest.approx([1.6 / 3.6])
    below = np.array([[0.05, 0.05, 0.05, 0.05, 0.05]])
    assert hypervolume(COSTS, below, limit=4, floor=0.1).tolist() == [0]
    assert hypervolume(np.array([1.0]), np.array([[1.3]]), limit=4, floor=0.1) == pytest.approx([3 / 4])


def test_shares_of_equals_of_the_dominated_and_of_copies() -> None:
    rng = np.random.default_rng(0)
    right = np.stack([np.arange(1000) < 900, np.arange(1000) >= 100, np.arange(1000) < 700])
    first, second, worse = (scores(rng.permuted(row)[None]) for row in right)
    draws = accuracy_draws([first, second, worse, second])
    costs = np.ones(3)
    shares = on_front(costs, draws[:, :3]).mean(axis=0)
    assert shares[:2] == pytest.approx([0.5, 0.5], abs=0.06)
    assert shares[2] == 0
    assert (draws[:, 1] == draws[:, 3]).all()
    assert on_front(np.ones(2), draws[:, [1, 3]]).all()


def test_draws_scatter_as_images_and_seeds_do() -> None:
    rng = np.random.default_rng(1)
    first, second = (scores(rng.permuted(np.arange(1000) < 900)[None]) for _ in range(2))
    draws = accuracy_draws([first, second])
    assert draws.std(axis=0) == pytest.approx([(0.9 * 0.1 / 1000) ** 0.5] * 2, rel=0.06)
    apart = (draws[:, 0] - draws[:, 1]).std()
    assert apart == pytest.approx(difference(first, second).draws.std(), rel=0.06)
    by_seed = [scores(np.repeat(np.array(means)[:, None], 100, axis=1)) for means in ([0.8, 0.9, 0.7], [0.7, 0.8, 0.6])]
    draws = accuracy_draws([*by_seed, scores(by_seed[0].right, first=3)])
    assert np.allclose(draws[:, 0] - draws[:, 1], 0.1)  # the same seeds move both alike
    low, high = np.percentile(draws[:, 0], [2.5, 97.5])
    assert (high - low) / 2 == pytest.approx(stats.t.ppf(0.975, 2) * 0.1 / 3**0.5, rel=0.15)
    assert abs(np.corrcoef(draws[:, 0], draws[:, 2])[0, 1]) < 0.5
