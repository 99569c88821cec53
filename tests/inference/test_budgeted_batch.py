"""Budgeted batches: shares that cost the budget, thresholds that give the shares, points measured on other images."""

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from compress.errors import UsageError
from compress.inference import Policy, budget_shares, leave, leaving_macs, mean_macs, policy_of_shares
from compress.networks import Network

MACS = np.array([10, 30, 100])
NEVER = Policy(temperatures=(1.0, 1.0, 1.0), thresholds=(1.0, 1.0), weights="")


def with_confidences(*exits: list[float]) -> NDArray[Any]:
    """Logits `(exits, N, 2)` of these confidences, each of class 0."""
    confidences = np.array(exits)
    return np.stack([np.log(confidences), np.log1p(-confidences)], axis=-1)


@pytest.mark.parametrize("budget", [10, 11, 30, 140 / 3, 90, 100])
def test_shares_are_geometric_and_cost_the_budget(budget: float) -> None:
    shares = budget_shares(budget, MACS)
    assert shares.sum() == pytest.approx(1)
    assert shares @ MACS == pytest.approx(budget)
    if 10 < budget < 100:
        assert shares[1] / shares[0] == pytest.approx(shares[2] / shares[1])


def test_a_budget_that_no_shares_cost_is_refused() -> None:
    for budget in (9.9, 101):
        with pytest.raises(UsageError, match=r"from 10 \(exit 1\) to 100 \(the last\)"):
            budget_shares(budget, MACS)


def test_thresholds_lie_between_the_last_that_leaves_and_the_first_that_stays() -> None:
    logits = with_confidences([0.9, 0.8, 0.6, 0.7], [0.99, 0.98, 0.7, 0.9], [0.5 + 1e-9] * 4)
    policy = policy_of_shares(NEVER, np.array([0.25, 0.5, 0.25]), logits)
    # The first image leaves; of the other three the second and the fourth, whose confidences at exit 2 are largest.
    assert policy.thresholds == pytest.approx((0.85, 0.8))
    assert leave(logits, policy).tolist() == [1, 2, 3, 2]


def test_none_or_all_may_leave() -> None:
    logits = with_confidences([0.9, 0.8], [0.6, 0.7], [0.6, 0.6])
    assert policy_of_shares(NEVER, np.array([0, 0, 1.0]), logits).thresholds == (1.0, 1.0)
    assert leave(logits, policy_of_shares(NEVER, np.array([1.0, 0, 0]), logits)).tolist() == [1, 1]


@pytest.mark.parametrize("confidence", [0.8, 1 - 1e-16])
def test_equal_confidences_do_not_exceed_the_share(confidence: float) -> None:
    logits = with_confidences([confidence] * 3 + [0.6], [0.6] * 4, [0.6] * 4)
    if confidence > 0.9:
        logits[0, :3] = [40.0, 0.0]  # rounded to 1.0
    exits = leave(logits, policy_of_shares(NEVER, np.array([0.5, 0, 0.5]), logits))
    assert exits.tolist() == [3] * 4


def test_budgets_are_spent(network: Network, logits: NDArray[Any], policy: Policy) -> None:
    macs = leaving_macs(network)
    step = float(macs[-1] - macs[0]) / logits.shape[1]
    for budget in np.linspace(macs[0], macs[-1], 5):
        fitted = policy_of_shares(policy, budget_shares(budget, macs), logits)
        assert mean_macs(leave(logits, fitted), macs) == pytest.approx(budget, abs=2 * step)  # rounded to images
        assert (fitted.weights, fitted.temperatures) == (policy.weights, policy.temperatures)
