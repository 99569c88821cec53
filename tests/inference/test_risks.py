"""Losses, tests and bounds of both risks on hand-worked cases."""

import numpy as np
import pytest
from scipy import stats

from compress.errors import UsageError
from compress.inference.risks import RISKS, bets, log_wealth, risk_named, uncertain

A, B = [2.0, 0.0], [0.0, 2.0]
LOGITS = np.array([[A, A, B, B], [A, B, A, B]])  # (exits, N, classes)
LABELS = np.array([0, 1, 1, 0])


def test_losses_are_against_the_last_exit() -> None:
    assert RISKS["agreement"].losses(LOGITS, None).tolist() == [[0, 1, 1, 0], [0, 0, 0, 0]]
    assert RISKS["drop"].losses(LOGITS, LABELS).tolist() == [[0, 1, -1, 0], [0, 0, 0, 0]]


def test_classes_that_rounding_may_swap_count_as_the_larger_loss() -> None:
    close = np.array([[[1.0, 0.99999]], [A]])
    assert uncertain(close, 1e-4).tolist() == [[True], [False]]
    for risk in RISKS.values():
        assert risk.losses(close, np.array([0]), 1e-4).tolist() == [[1], [0]]
        assert risk.losses(close, np.array([0])).tolist() == [[0], [0]]


def test_agreement_is_binomial_and_its_bound_inverts_the_test() -> None:
    agreement, losses = RISKS["agreement"], np.array([1] * 3 + [0] * 497, dtype=np.int8)
    bound = agreement.bound(losses, 0.05, 0.05)
    assert stats.binom.cdf(3, 500, bound) == pytest.approx(0.05)
    assert agreement.passes(losses, bound + 1e-6, 0.05)
    assert not agreement.passes(losses, bound - 1e-6, 0.05)


@pytest.mark.parametrize("risk", RISKS.values(), ids=RISKS)
@pytest.mark.parametrize("epsilon", [0.001, 0.01, 0.2])
def test_the_needed_images_are_the_fewest_that_pass_without_a_loss(risk, epsilon) -> None:  # type: ignore[no-untyped-def]
    needed = risk.needed(np.zeros(7, dtype=np.int8), epsilon, 0.05)
    assert risk.passes(np.zeros(needed, dtype=np.int8), epsilon, 0.05)
    assert not risk.passes(np.zeros(needed - 1, dtype=np.int8), epsilon, 0.05)


MIXES = {
    "drop": np.array([1, 1, -1] + [0] * 197, dtype=np.int8),
    "agreement": np.array([1] + [0] * 199, dtype=np.int8),
}  # of 200 images, with a risk of half a point; those that cost wealth come first, so that it is largest at the end


@pytest.mark.parametrize(("name", "without_loss"), [("drop", 450), ("agreement", 299)])
def test_the_needed_images_follow_from_the_losses_observed(name: str, without_loss: int) -> None:
    risk, losses = RISKS[name], MIXES[name]
    needed = risk.needed(losses, 0.01, 0.05)
    assert needed is not None
    assert needed > 2 * without_loss
    few, enough = (np.tile(losses, count) for count in (needed // 200, needed // 200 + 1))
    assert not risk.passes(few, 0.01, 0.05)
    assert risk.passes(enough, 0.01, 0.05)
    assert risk.needed(enough, 0.01, 0.05) == needed  # it depends on the mix alone


@pytest.mark.parametrize("name", RISKS)
def test_where_the_risk_observed_is_not_below_epsilon_no_number_of_images_would_do(name: str) -> None:
    risk, losses = RISKS[name], MIXES[name]
    assert risk.needed(losses, float(losses.mean()), 0.05) is None
    assert risk.needed(losses, 0.004, 0.05) is None
    assert risk.needed(losses, 0.006, 0.05) is not None


def test_bets_that_would_not_grow_need_images_without_end() -> None:
    assert RISKS["drop"].needed(np.array([1] * 99 + [-1] * 99 + [0] * 2, dtype=np.int8), 0.01, 0.05) is None


def test_wealth_is_the_product_of_the_bets_and_the_mean_of_those_of_constant_bets() -> None:
    losses, epsilon = np.random.default_rng(0).choice([-1, 0, 1], 200).astype(np.int8), 0.1
    product = np.cumprod(1 - bets(losses, epsilon) * (losses - epsilon))
    assert np.exp(log_wealth(losses, epsilon)) == pytest.approx(product)
    constant = np.linspace(0.05, 0.95, 10)[:, None] / (1 - epsilon)
    assert product == pytest.approx(np.cumprod(1 - constant * (losses - epsilon), axis=1).mean(axis=0))


def test_a_bet_depends_on_the_images_before_alone() -> None:
    losses = np.random.default_rng(0).choice([-1, 0, 1], 50).astype(np.int8)
    changed = losses.copy()
    changed[20:] = -changed[20:]
    assert (bets(losses, 0.1)[:21] == bets(changed, 0.1)[:21]).all()
    assert (bets(losses, 0.1)[21:] != bets(changed, 0.1)[21:]).any()


def test_the_bound_of_the_drop_lies_between_what_was_observed_and_epsilon() -> None:
    losses = np.random.default_rng(0).choice([-1, 0, 1], 3000, p=[0.01, 0.98, 0.01]).astype(np.int8)
    assert RISKS["drop"].passes(losses, 0.02, 0.05)
    assert losses.mean() < RISKS["drop"].bound(losses, 0.02, 0.05) < 0.02


def test_an_unknown_risk_is_refused() -> None:
    with pytest.raises(UsageError, match="did you mean 'drop'"):
        risk_named("drp")
