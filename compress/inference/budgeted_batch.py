"""Budgeted batch classification: the policy that spends a number of MACs an image on average (Huang et al. 2018).

As for MSDNet: the shares of images that leave at the exits are geometric, their ratio fits the budget, and thresholds
are set one by one, shallow to deep, so that these shares of the validation images leave.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.special import softmax

from compress.errors import UsageError
from compress.inference.policy import NEVER, Policy, confidences

STEEPEST = 40.0  # of the logarithm of two neighbouring shares' ratio: the smaller is nothing


def budget_shares(budget: float, macs: NDArray[np.int64]) -> NDArray[np.float64]:
    """The shares of images `(exits,)`, each the same multiple of the one before, whose mean MACs are the budget.

    Raises:
        UsageError: the budget is below the first exit's MACs, or above those of leaving at the last.
    """
    if not macs[0] <= budget <= macs[-1]:
        raise UsageError(
            f"budget {budget:,.0f} MACs: leaving costs from {macs[0]:,} (exit 1) to {macs[-1]:,} (the last)"
        )

    def shares(steepness: float) -> NDArray[np.float64]:
        return np.asarray(softmax(steepness * np.arange(len(macs))))

    def excess(steepness: float) -> float:
        return float(shares(steepness) @ macs - budget)

    ends = (-STEEPEST, STEEPEST)
    within = excess(ends[0]) < 0 < excess(ends[1])  # else it is one of the ends, or there is one exit
    return shares(brentq(excess, *ends) if within else min(ends, key=lambda end: abs(excess(end))))


def policy_of_shares(policy: Policy, shares: NDArray[np.float64], logits: NDArray[Any]) -> Policy:
    """The policy with thresholds by which a share of images leaves at every exit, from logits `(exits, N, classes)`.

    Thresholds lie halfway between two images' confidences. Images of equal confidence leave together or not at all, and
    the share is not exceeded.
    """
    stays = np.ones(logits.shape[1], dtype=np.bool_)
    thresholds = []
    for exit, temperature, share in zip(logits[:-1], policy.temperatures, shares, strict=False):
        confidence = confidences(exit, temperature)
        ranked = np.sort(confidence[stays])[::-1]
        leaving = min(round(share * len(stays)), len(ranked))
        bounds = np.array([NEVER, *ranked, 0.0])[leaving : leaving + 2]  # the last that leaves, the first that stays
        thresholds.append(float(bounds.mean()) if leaving else NEVER)
        stays &= ~(confidence > thresholds[-1])
    return replace(policy, thresholds=tuple(thresholds))
