"""Candidates: factors of a screen that are worth confirming, by a rule that was fixed before the first screen ran."""

from __future__ import annotations

from benchmarks.statistics.main_effects import Effect

LAST_EXIT, EARLY_EXITS = 0.004, 0.02  # least effects on accuracy, fractions
RULE = (
    "A factor is a *candidate by the last exit* if its effect there is at least "
    f"{100 * LAST_EXIT:+g} points and its interval lies above zero. It is one *by early exits* if its effect on the "
    f"mean of the auxiliary exits is at least {100 * EARLY_EXITS:+g} points, its interval lies above zero, and the "
    "estimate for the last exit is not below zero; this does not show that there is no loss."
)


def candidate(last: Effect | None, auxiliary: Effect | None) -> tuple[str, ...]:
    """By what a factor is a candidate: ``last exit``, ``early exits``, both or neither.

    Args:
        last, auxiliary: the factor's effects on the last exit and on the mean of the auxiliary exits; None where they
            are not known.
    """
    found = []
    if last and _gains(last, LAST_EXIT):
        found.append("last exit")
    if last and auxiliary and _gains(auxiliary, EARLY_EXITS) and _rounded(last.estimate) >= 0:
        found.append("early exits")
    return tuple(found)


def _gains(effect: Effect, least: float) -> bool:
    return effect.positive and _rounded(effect.estimate) >= least


def _rounded(value: float) -> float:
    """Without what sums of fractions leave: an effect of 0.4 points is not below 0.4 points."""
    return round(value, 9)
