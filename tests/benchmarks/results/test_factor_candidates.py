"""Candidates of a screen: the rule of choice, on effects just inside and outside of it."""

import pytest

from benchmarks.results.factor_candidates import RULE, candidate
from benchmarks.statistics.main_effects import Effect

ZERO = (0.0, 0.5)


@pytest.mark.parametrize(
    ("last", "auxiliary", "by"),
    [
        ((0.4, 0.3), ZERO, ("last exit",)),
        ((0.39, 0.3), ZERO, ()),
        ((0.4, 0.41), ZERO, ()),
        ((0.0, 0.5), (2.0, 1.9), ("early exits",)),
        ((-0.01, 0.5), (2.0, 1.9), ()),
        ((0.0, 0.5), (1.99, 0.1), ()),
        ((0.0, 0.5), (2.5, 2.6), ()),
        ((0.5, 0.1), (3.0, 1.0), ("last exit", "early exits")),
        ((5.0, None), (5.0, None), ()),
        ((0.5, 0.1), None, ("last exit",)),
        (None, (3.0, 1.0), ()),
    ],
)
def test_a_candidate_has_a_large_enough_effect_and_an_interval_above_zero(
    last: tuple[float, float | None] | None, auxiliary: tuple[float, float | None] | None, by: tuple[str, ...]
) -> None:
    assert candidate(effect(last), effect(auxiliary)) == by


def test_the_rule_as_printed_has_its_own_numbers() -> None:
    assert "at least +0.4 points" in RULE
    assert "at least +2 points" in RULE


def effect(points: tuple[float, float | None] | None) -> Effect | None:
    """An effect that is given in points."""
    if points is None:
        return None
    estimate, half = points
    return Effect(estimate=0.7 + estimate / 100 - 0.7, half_width=None if half is None else half / 100)
