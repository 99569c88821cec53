"""Budgeted batches: shares that cost the budget, thresholds that give the shares, points measured on other images."""

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from compress.errors import UsageError
from compress.inference import Policy, budget_curve, budget_shares, leave, leaving_macs, policy_of_shares
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


def test_the_curve_spends_its_budgets(network: Network, logits: NDArray[Any], policy: Policy) -> None:
    macs = leaving_macs(network)
    budgets = list(np.linspace(macs[0], macs[-1], 5))
    labels = logits[-1].argmax(axis=-1)
    on_itself = budget_curve(policy, budgets, macs, logits, (logits, labels))
    step = float(macs[-1] - macs[0]) / logits.shape[1]
    for point, budget in zip(on_itself, budgets, strict=True):
        assert point.mean_macs == pytest.approx(budget, abs=2 * step)  # shares are rounded to images
        assert (point.budget, point.policy.weights) == (budget, policy.weights)
    assert on_itself[-1].accuracy == 1.0  # all leave at the last exit
    assert on_itself[0].accuracy == float((logits[0].argmax(axis=-1) == labels).mean()) < 1


def test_thresholds_are_chosen_on_validation_images_alone(logits: NDArray[Any], policy: Policy) -> None:
    labels = np.zeros(logits.shape[1], dtype=np.int64)
    (point,) = budget_curve(policy, [60], MACS, logits, (logits, labels))
    (other,) = budget_curve(policy, [60], MACS, logits, (np.zeros_like(logits), labels))
    assert other.policy == point.policy
    assert (other.mean_macs, other.accuracy) == (100.0, 1.0)  # no zero is confident, and all are class 0
