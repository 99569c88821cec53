"""Paths of policies, exits that are possible within rounding, and the walk along a path."""

import numpy as np
import pytest

from compress.inference import Policy, leave
from compress.inference.certification import certify_path, last_passed, worst_losses
from compress.inference.policy_path import choose_path
from compress.inference.possible_exits import possible_exits
from compress.inference.risks import RISKS

RNG = np.random.default_rng(0)
LABELS = RNG.integers(4, size=600)
LOGITS = RNG.normal(size=(3, 600, 4)) + np.eye(4)[LABELS] * np.array([2.0, 4.0, 6.0])[:, None, None]


@pytest.mark.parametrize("risk", RISKS.values(), ids=RISKS)
def test_every_policy_of_a_path_lets_each_image_leave_no_later_than_the_one_before(risk) -> None:  # type: ignore[no-untyped-def]
    path = choose_path(LOGITS, LABELS, risk, macs=[1, 2, 3], temperatures=[1.5, 1, 1], weights="w", levels=20)
    exits = np.array([leave(LOGITS, policy) for policy in path])
    assert (np.diff(exits, axis=0) <= 0).all()
    assert (exits[0] == 3).all()
    assert (exits[-1] == 1).all()
    assert {policy.temperatures for policy in path} == {(1.5, 1.0, 1.0)}


def test_a_path_saves_more_for_the_same_losses_than_equal_thresholds_do() -> None:
    macs, risk = np.array([1.0, 2.0, 3.0]), RISKS["agreement"]
    logits = LOGITS.copy()
    logits[0] = RNG.normal(size=(600, 4)) * 5  # sure, and never better than chance
    at_exits = risk.losses(logits, None)

    def cheapest(policies: list[Policy]) -> float:
        allowed = [policy for policy in policies if worst_losses(policy, logits, at_exits, 0.0).mean() <= 0.02]
        return min(float(macs[leave(logits, policy) - 1].mean()) for policy in allowed)

    path = choose_path(logits, None, risk, macs=[1, 2, 3], temperatures=[1, 1, 1], weights="")
    equal = [
        Policy(temperatures=(1, 1, 1), thresholds=(float(level), float(level)), weights="")
        for level in np.linspace(0, 1, 200)
    ]
    assert cheapest(path) < cheapest(equal) - 0.5


def test_within_a_margin_of_the_threshold_both_decisions_are_possible() -> None:
    sure = np.log(3.0)  # confidence 0.75 of two classes
    logits = np.array([[[sure, 0.0], [5.0, 0.0], [0.1, 0.0], [50.0, 0.0]], [[1.0, 0.0]] * 4])
    at = Policy(temperatures=(1, 1), thresholds=(0.75,), weights="")
    assert possible_exits(logits, at, 1e-4).T.tolist() == [[True, True], [True, False], [False, True], [True, False]]
    never = Policy(temperatures=(1, 1), thresholds=(1.0,), weights="")
    assert not possible_exits(logits, never, 1e-4)[0].any()  # though the last one's confidence is rounded to 1


def test_without_a_margin_the_possible_exit_is_the_one_left_at() -> None:
    for policy in choose_path(
        LOGITS, LABELS, RISKS["drop"], macs=[1, 2, 3], temperatures=[1, 1, 1], weights="", levels=10
    ):
        assert (possible_exits(LOGITS, policy, 0.0).argmax(axis=0) + 1 == leave(LOGITS, policy)).all()
        assert (possible_exits(LOGITS, policy, 0.0).sum(axis=0) == 1).all()


def test_the_walk_keeps_the_policy_before_the_first_failure() -> None:
    losses = [np.array([value], dtype=np.int8) for value in (0, 0, 1, 0)]
    assert last_passed(losses, lambda each: not each.any()) == 1
    assert last_passed(losses[2:], lambda each: not each.any()) is None
    assert last_passed(losses[:2], lambda each: not each.any()) == 1


@pytest.mark.parametrize("risk", RISKS.values(), ids=RISKS)
def test_too_few_images_certify_nothing(risk) -> None:  # type: ignore[no-untyped-def]
    path = choose_path(LOGITS, LABELS, risk, macs=[1, 2, 3], temperatures=[1, 1, 1], weights="", levels=20)
    limits = {"epsilon": 0.05, "delta": 0.1, "margin": 1e-4}
    few = risk.needed(np.zeros(1, dtype=np.int8), 0.05, 0.1) - 1
    assert certify_path(path, LOGITS[:, :few], LABELS[:few], risk, seed=0, **limits) is None
    found = certify_path(path, LOGITS, LABELS, risk, seed=0, **limits)
    assert found is not None
    assert found[0] > 0


def test_the_seed_gives_the_order_and_images_keep_their_labels() -> None:
    risk = RISKS["drop"]
    path = choose_path(LOGITS, LABELS, risk, macs=[1, 2, 3], temperatures=[1, 1, 1], weights="", levels=20)
    limits = {"epsilon": 0.05, "delta": 0.1, "margin": 1e-4}
    found = [certify_path(path, LOGITS, LABELS, risk, seed=seed, **limits) for seed in (0, 0, 1)]
    (step, losses), (again, same), (other, reordered) = (each for each in found if each)
    assert (step, losses.tolist()) == (again, same.tolist())
    in_file_order = worst_losses(path[step], LOGITS, risk.losses(LOGITS, LABELS, 1e-4), 1e-4)
    assert losses.any()
    assert sorted(losses) == sorted(in_file_order)
    assert losses.tolist() != in_file_order.tolist()
    assert other != step or losses.tolist() != reordered.tolist()
