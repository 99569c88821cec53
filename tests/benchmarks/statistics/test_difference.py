"""Statistics: published and hand-worked values, and error rates that hold when it is simulated."""

from collections.abc import Sequence

import numpy as np
import pytest
from scipy import stats

from benchmarks.statistics.difference import DRAWS, Difference, difference, holm, mcnemar_p, p_value
from benchmarks.statistics.scores import Scores


def scores(right: np.ndarray, first: int = 0) -> Scores:
    return Scores(seeds=tuple(range(first, first + len(right))), right=right)


def alike(accuracies: Sequence[float], first: int = 0) -> Scores:
    """A network for which all images are alike: what it scores depends on the seed alone."""
    return scores(np.repeat(np.array(accuracies)[:, None], 1000, axis=1), first)


def difference_of(draws: np.ndarray) -> Difference:
    return Difference(estimate=float(draws.mean()), draws=draws, seeds=(3, 3))


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """A tenth of the draws: simulations take hundreds of intervals."""
    monkeypatch.setattr("benchmarks.statistics.difference.DRAWS", DRAWS // 10)


def test_mcnemar_is_the_binomial_test_of_the_images_on_which_two_networks_differ() -> None:
    # Discordant pairs 1 and 6: 2 (1 + 7) / 2^7, by hand.
    first = np.array([True] * 1 + [False] * 6 + [True] * 40 + [False] * 9)
    second = np.array([False] * 1 + [True] * 6 + [True] * 40 + [False] * 9)
    assert mcnemar_p(first, second) == pytest.approx(0.125)
    assert mcnemar_p(second, first) == pytest.approx(0.125)
    assert mcnemar_p(first, first) == 1


def test_holms_example() -> None:
    """By hand: the smallest of four times 4, the next times 3, then 2, and never below one before it."""
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([]) == []


def test_seeds_alone_give_students_paired_interval() -> None:
    first, second = [0.912, 0.915, 0.909, 0.914], [0.908, 0.913, 0.910, 0.909]
    found = difference(alike(first), alike(second))
    by_scipy = stats.ttest_rel(first, second)
    expected = by_scipy.confidence_interval(0.95)
    assert found.estimate == pytest.approx(0.0025)
    assert found.interval() == pytest.approx((expected.low, expected.high), abs=2e-4)
    assert found.p == pytest.approx(by_scipy.pvalue, abs=0.015)


def test_images_alone_give_the_paired_interval_of_proportions() -> None:
    """One seed: the standard error of a mean of 2,000 differences, 160 of them +1 and 100 of them -1."""
    first = np.array([True] * 160 + [False] * 100 + [True] * 1740)[None]
    second = np.array([False] * 160 + [True] * 100 + [True] * 1740)[None]
    found = difference(scores(first), scores(second, first=7))
    half = 1.96 * ((260 / 2000 - 0.03**2) / 2000) ** 0.5
    assert found.interval() == pytest.approx((0.03 - half, 0.03 + half), abs=6e-4)
    assert found.seeds == (1, 1)
    assert p_value(scores(first), scores(second), found) == pytest.approx(2 * stats.binom.cdf(100, 260, 0.5))


def test_seeds_are_paired_where_both_have_the_same_and_else_apart() -> None:
    together, elsewhere = alike([0.90, 0.92, 0.94]), alike([0.90, 0.92, 0.94], first=3)
    assert difference(together, together).interval() == (0, 0)
    low, high = difference(together, elsewhere).interval()
    assert low < -0.03
    assert high > 0.03
    fewer = difference(together, alike([0.92]))
    assert fewer.seeds == (3, 1)
    assert fewer.interval()[1] == pytest.approx(stats.t.ppf(0.975, 2) * 0.02 / 3**0.5, rel=0.06)


def test_a_p_value_is_never_zero_and_never_above_one() -> None:
    assert difference_of(np.ones(DRAWS)).p == pytest.approx(2 / (DRAWS + 1))
    assert difference_of(np.zeros(DRAWS)).p == 1


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize(("seeds", "by_seed", "luck"), [(1, 0.0, 0.5), (3, 0.0, 0.8), (3, 0.3, 0.5), (5, 0.1, 0.8)])
def test_intervals_cover(seeds: int, by_seed: float, luck: float) -> None:
    """Trained anew and tested on new images 300 times: from images alone mattering to seeds mattering most."""
    rng = np.random.default_rng(1)
    held = []
    for _ in range(300):
        difficulty = rng.normal(1.5, 1, 500)
        networks = [
            difficulty + mean + rng.normal(0, by_seed, (seeds, 1)) + rng.normal(0, luck, (seeds, 500))
            for mean in (0.0, 0.2)
        ]
        low, high = difference(*(scores(network > 0) for network in networks)).interval()
        sd = (1 + by_seed**2 + luck**2) ** 0.5
        held.append(low <= stats.norm.cdf(1.5 / sd) - stats.norm.cdf(1.7 / sd) <= high)
    assert 0.92 <= np.mean(held) <= 0.99


@pytest.mark.usefixtures("quick")
def test_holm_keeps_a_family_of_true_hypotheses() -> None:
    """Ten comparisons of networks that differ by seed alone: uncorrected, four families in ten claim a difference."""
    rng = np.random.default_rng(3)
    families = [
        [difference(alike(rng.normal(0.9, 0.01, 4).tolist()), alike([0.9] * 4)).p for _ in range(10)] for _ in range(60)
    ]
    assert np.mean([min(family) < 0.05 for family in families]) > 0.25
    assert np.mean([min(holm(family)) < 0.05 for family in families]) < 0.12
