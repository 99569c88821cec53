"""Main effects of two-level factors, on responses whose effects are known."""

from itertools import product

import numpy as np
import pytest
from scipy import stats

from benchmarks.statistics.main_effects import main_effects

FULL = list(product((-1, 1), repeat=3))


def test_effects_are_differences_of_means() -> None:
    drawn = np.random.default_rng(0)
    responses = [0.8 + 0.02 * a - 0.01 * c + drawn.normal(scale=0.001) for a, _, c in FULL]
    found = main_effects(FULL, responses)
    assert found is not None
    for number, effect in enumerate(found):
        high = [value for row, value in zip(FULL, responses, strict=True) if row[number] > 0]
        low = [value for row, value in zip(FULL, responses, strict=True) if row[number] < 0]
        assert effect.estimate == pytest.approx(np.mean(high) - np.mean(low))
        assert effect.half_width is not None
    assert [abs(effect.estimate) > (effect.half_width or 1) for effect in found] == [True, False, True]


def test_intervals_of_one_factor_are_those_of_a_regression() -> None:
    levels, responses = [[-1], [-1], [1], [1], [1]], [0.1, 0.3, 0.4, 0.5, 0.9]
    found = main_effects(levels, responses)
    assert found is not None
    line = stats.linregress([level for [level] in levels], responses)
    assert found[0].estimate == pytest.approx(2 * line.slope)
    assert found[0].half_width == pytest.approx(2 * line.stderr * stats.t.ppf(0.975, 3))


def test_what_a_seed_changes_in_all_of_its_runs_is_neither_effect_nor_error() -> None:
    noise = np.random.default_rng(1).normal(scale=0.01, size=16)
    responses = [0.02 * a + error for (a, *_), error in zip(FULL * 2, noise, strict=True)]
    shifted = [value + (number >= 8) for number, value in enumerate(responses)]
    seeds = [5] * 8 + [9] * 8
    plain, own, moved, blind = (
        main_effects(FULL * 2, responses),
        main_effects(FULL * 2, responses, seeds),
        main_effects(FULL * 2, shifted, seeds),
        main_effects(FULL * 2, shifted),
    )
    for before, after, same, wide in zip(plain or [], own or [], moved or [], blind or [], strict=True):
        assert before.estimate == pytest.approx(after.estimate)
        assert same.estimate == pytest.approx(after.estimate)
        assert same.half_width == pytest.approx(after.half_width)
        assert (wide.half_width or 0) > 10 * (after.half_width or 1)
    assert plain is not None


def test_runs_of_a_seed_that_is_not_whole_are_compared_with_one_another() -> None:
    # One factor. Seed 0: 1 at the low level, 2 at the high one; seed 1: 10 at the low level, 14 and 15 at the high one.
    # Within seeds, levels less their means are -1, 1 and -4/3, 2/3, 2/3, responses less theirs -1/2, 1/2 and -3, 1, 2:
    # the slope is (1/2 + 1/2 + 4 + 2/3 + 4/3) / (2 + 8/3) = 3/2,
    # residuals are 1, -1 and -1, 0, 1, on 5 - 3 degrees of freedom.
    found = main_effects([[-1], [1], [-1], [1], [1]], [1, 2, 10, 14, 15], [0, 0, 1, 1, 1])
    assert found is not None
    assert found[0].estimate == pytest.approx(3)
    assert found[0].half_width == pytest.approx(2 * stats.t.ppf(0.975, 2) * np.sqrt(4 / 2 / (14 / 3)))


def test_without_a_degree_of_freedom_there_is_no_interval() -> None:
    found = main_effects([(-1, -1), (1, -1), (-1, 1)], [0.1, 0.2, 0.4])
    assert found is not None
    assert [(round(effect.estimate, 9), effect.half_width) for effect in found] == [(0.1, None), (0.3, None)]


def test_factors_that_always_change_together_are_not_told_apart() -> None:
    assert main_effects([(-1, -1), (1, 1), (1, 1)], [0.1, 0.2, 0.3]) is None
    assert main_effects([], []) is None
