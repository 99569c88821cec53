"""Paired differences: Student's t over seeds, on given test images, with hand-worked numbers."""

import dataclasses
import math

import numpy as np
import pytest
from scipy import stats

from benchmarks.statistics.paired_difference import PairedDifference
from benchmarks.statistics.scores import Scores

MARGIN = 0.002


def test_an_interval_is_students_over_the_seeds() -> None:
    """Mean 0.02, deviation 0.008165, standard error 0.0040825, and t = 3.1824 with three degrees of freedom."""
    found = PairedDifference(values=np.array([0.01, 0.02, 0.03, 0.02]))
    assert found.estimate == pytest.approx(0.02)
    assert found.interval() == pytest.approx((0.02 - 0.012992, 0.02 + 0.012992), abs=1e-6)


def test_seeds_are_paired_and_images_taken_as_given() -> None:
    first = Scores(seeds=(3, 7), right=np.array([[True, True, True, False], [True, True, False, False]]))
    second = Scores(seeds=(3, 7), right=np.array([[True, True, False, False], [True, False, False, False]]))
    found = PairedDifference.of(first, second)
    assert found.values.tolist() == [0.25, 0.25]
    assert found.step == 0.25
    assert PairedDifference(values=found.values).interval() == (0.25, 0.25)  # whatever the images: all seeds agree


def test_two_seeds_that_agree_to_the_image_scatter_as_rounding_does() -> None:
    """A step of 0.001 has the deviation 0.00028868; its standard error is 0.00020412, and t = 12.7062."""
    found = PairedDifference(values=np.array([0.02, 0.02]), step=0.001)
    assert found.interval() == pytest.approx((0.02 - 0.0025937, 0.02 + 0.0025937), abs=1e-7)
    apart = PairedDifference(values=np.array([0.02, 0.021]))
    assert dataclasses.replace(apart, step=0.001).interval() == apart.interval()


def test_rounding_to_few_images_does_not_decide_for_networks_that_are_alike() -> None:
    """Two seeds, whose differences scatter by two images of 1,000: without the step 5% are found above zero."""
    counts = np.rint(np.random.default_rng(0).normal(0, 2, (4000, 2)))
    found = [PairedDifference(values=each / 1000, step=0.001).interval()[0] > 0 for each in counts]
    assert np.mean(found) < 0.02


def test_equivalence_takes_the_interval_of_90_per_cent() -> None:
    """Mean 0, standard error 0.00057735, and t = 2.3534: 0.0013587 to either side."""
    found = PairedDifference(values=np.array([0.001, -0.001, 0.001, -0.001]))
    assert found.equivalent(0.00136)
    assert not found.equivalent(0.00135)


def test_one_seed_tells_nothing_of_others() -> None:
    found = PairedDifference(values=np.array([0.1]))
    assert found.interval() == (-math.inf, math.inf)
    assert not found.equivalent(1.0)


def test_equivalence_is_that_of_two_one_sided_t_tests() -> None:
    verdicts = []
    for spread in (1e-4, 4e-4, 8e-4, 1.2e-3, 3e-3):
        first = np.array([0.91, 0.91 + spread, 0.91 - spread, 0.91 + 2 * spread])
        second = np.array([0.91, 0.91, 0.91, 0.91])
        above = stats.ttest_1samp(first - second, -MARGIN, alternative="greater").pvalue
        below = stats.ttest_1samp(first - second, MARGIN, alternative="less").pvalue
        verdicts.append(max(above, below) < 0.05)
        assert PairedDifference(values=first - second).equivalent(MARGIN) == verdicts[-1]
    assert verdicts == [True, True, True, False, False]


def test_equivalence_is_claimed_of_networks_a_margin_apart_once_in_twenty() -> None:
    rng = np.random.default_rng(2)
    claims = [PairedDifference(values=rng.normal(MARGIN, 2e-4, 5)).equivalent(MARGIN) for _ in range(2000)]
    assert 0.035 <= np.mean(claims) <= 0.065
