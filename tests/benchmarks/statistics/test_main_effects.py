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


def test_without_a_degree_of_freedom_there_is_no_interval() -> None:
    found = main_effects([(-1, -1), (1, -1), (-1, 1)], [0.1, 0.2, 0.4])
    assert found is not None
    assert [(round(effect.estimate, 9), effect.half_width) for effect in found] == [(0.1, None), (0.3, None)]


def test_factors_that_always_change_together_are_not_told_apart() -> None:
    assert main_effects([(-1, -1), (1, 1), (1, 1)], [0.1, 0.2, 0.3]) is None
    assert main_effects([], []) is None
