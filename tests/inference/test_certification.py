"""Certified risks hold on 1,000 re-splits of stored logits, and planted faults are found.

`fashion_mini_logits.npz` has the fp32 logits of MwResNet-8-3 (quick recipe, 10 epochs, seed 0: 87 to 88% accurate) of
the 300 validation images of fashion-mini, which choose the path here, and of its 2,000 test images. These are the
whole population: images are drawn from them independently, so every policy's true risk is known.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from compress.inference import Policy, certification, risks
from compress.inference.certification import worst_losses
from compress.inference.policy import NEVER, leave
from compress.inference.policy_path import choose_path
from compress.inference.risks import RISKS, Losses, Risk

STORED = Path(__file__).parent / "fashion_mini_logits.npz"
MACS = (3.7e6, 6.5e6, 9.3e6)
TEMPERATURES = (1.0, 1.0, 1.0)
CHOOSING, IMAGES = 300, 500  # images that choose the path, and that certify
DELTA, EPSILON = 0.1, 0.02
MARGIN = 1e-4
ALLOWED = float(stats.binom.ppf(0.999, 1000, DELTA)) / 1000  # share of violations, with binomial noise


@dataclass(frozen=True)
class Images:
    """Stored logits `(exits, N, classes)` and labels `(N,)`."""

    logits: NDArray[np.float32]
    labels: NDArray[np.int64]

    def path(self, risk: Risk, levels: int) -> list[Policy]:
        return choose_path(
            self.logits, self.labels, risk, macs=MACS, temperatures=TEMPERATURES, weights="", levels=levels
        )

    def true_risks(
        self, path: list[Policy], risk: Risk, served: Callable[..., NDArray[np.int64]] = leave
    ) -> list[float]:
        """The risk of every policy, from the labels that its images really get."""
        found = []
        for policy in path:
            exits = served(self.logits, policy)
            labels = self.logits[exits - 1, np.arange(len(self.labels))].argmax(axis=1)
            last = self.logits[-1].argmax(axis=1)
            wrong = (
                labels != last if risk.name == "agreement" else (last == self.labels) * 1.0 - (labels == self.labels)
            )
            found.append(float(wrong.mean()))
        return found

    def worst(self, path: list[Policy], risk: Risk) -> Losses:
        """The losses `(policies, N)` that certification counts."""
        at_exits = risk.losses(self.logits, self.labels, MARGIN)
        return np.array([worst_losses(policy, self.logits, at_exits, MARGIN) for policy in path])


@pytest.fixture(scope="module")
def stored() -> tuple[Images, Images]:
    """The images that choose, and the population."""
    with np.load(STORED) as arrays:
        logits, labels = arrays["logits"], arrays["labels"].astype(np.int64)
    return (
        Images(logits[:, :CHOOSING], labels[:CHOOSING]),
        Images(logits[:, CHOOSING:], labels[CHOOSING:]),
    )


def violations(
    losses: Losses, true: list[float], risk: Risk, *, epsilon: float = EPSILON, images: int = IMAGES, splits: int = 1000
) -> float:
    """The share of re-splits whose certified policy has a risk above epsilon."""
    draws = np.random.default_rng(0).integers(losses.shape[1], size=(splits, images))
    violated = 0
    for chosen in draws:
        step = certification.last_passed(
            (each[chosen] for each in losses), lambda losses: risk.passes(losses, epsilon, DELTA)
        )
        violated += step is not None and true[step] > epsilon
    return violated / splits


@pytest.mark.parametrize("risk", RISKS.values(), ids=RISKS)
def test_the_certified_risk_is_violated_in_at_most_delta_of_1000_re_splits(
    stored: tuple[Images, Images], risk: Risk
) -> None:
    """By `certify_path`, and where faults in it show: a policy is just above epsilon, and files that err come last."""
    choosing, population = stored
    path = choosing.path(risk, levels=8)[::3]
    true = population.true_risks(path, risk)
    assert true[0] == 0
    above = next(place for place, value in enumerate(true) if value > EPSILON)
    epsilon, reached = true[above] - 1e-9, 0
    last_ones_err = np.argsort(population.worst(path[-1:], risk)[0], kind="stable")
    logits, labels = population.logits[:, last_ones_err], population.labels[last_ones_err]
    violated = 0
    draws = np.sort(np.random.default_rng(0).integers(len(labels), size=(1000, IMAGES)), axis=1)
    for seed, drawn in enumerate(draws):
        limits: dict[str, Any] = {"epsilon": epsilon, "delta": DELTA, "margin": MARGIN, "seed": seed}
        found = certification.certify_path(path, logits[:, drawn], labels[drawn], risk, **limits)
        assert found is not None
        violated += true[found[0]] > epsilon
        reached += found[0] == above - 1
    assert violated / 1000 <= ALLOWED
    assert reached / 1000 > ALLOWED  # so that one step more would be seen


@pytest.mark.parametrize("risk", RISKS.values(), ids=RISKS)
def test_a_walk_that_returns_the_first_uncertified_policy_is_found(
    stored: tuple[Images, Images], risk: Risk, monkeypatch: pytest.MonkeyPatch
) -> None:
    def first_failed(losses: Iterable[Losses], passes: Callable[[Losses], bool]) -> int | None:
        place = -1
        for each in losses:
            place += 1
            if not passes(each):
                break
        return place

    choosing, population = stored
    path = choosing.path(risk, levels=8)
    losses, true = population.worst(path, risk), population.true_risks(path, risk)
    epsilon = next(value for value in true if value > EPSILON / 2) - 1e-9  # a policy is just above it
    assert violations(losses, true, risk, epsilon=epsilon, images=1000) <= ALLOWED
    monkeypatch.setattr(certification, "last_passed", first_failed)
    assert violations(losses, true, risk, epsilon=epsilon, images=1000) > ALLOWED


def test_a_bet_that_knows_its_own_image_is_found(
    stored: tuple[Images, Images], monkeypatch: pytest.MonkeyPatch
) -> None:
    choosing, population = stored
    risk = RISKS["drop"]
    path = choosing.path(risk, levels=20)
    true = population.true_risks(path, risk)
    place = next(place for place, value in enumerate(true) if value > EPSILON)
    alone = population.worst(path[place : place + 1], risk), true[place : place + 1], risk
    epsilon = true[place] - 1e-9  # the policy is just above it
    assert violations(*alone, epsilon=epsilon, images=1000) <= ALLOWED
    monkeypatch.setattr(risks, "earned_before", lambda gains: gains.cumsum(axis=-1))
    assert violations(*alone, epsilon=epsilon, images=1000) > ALLOWED


def test_serving_policies_that_reach_their_threshold_is_found(stored: tuple[Images, Images]) -> None:
    """Ties at confidence 1.0: a network so sure that softmax rounds, of which none may leave at the threshold 1.0."""

    def reached(logits: NDArray[np.float32], policy: Policy) -> NDArray[np.int64]:
        below = tuple(max(0.0, float(np.nextafter(threshold, 0))) for threshold in policy.thresholds)
        return leave(logits, replace(policy, thresholds=below))  # confidence >= threshold

    choosing, population = (Images(images.logits * 40, images.labels) for images in stored)
    risk = RISKS["agreement"]
    path = choosing.path(risk, levels=12)
    losses = population.worst(path, risk)
    assert path[0].thresholds == (NEVER, NEVER)
    assert not losses[0].any()
    assert violations(losses, population.true_risks(path, risk), risk) <= ALLOWED
    assert violations(losses, population.true_risks(path, risk, reached), risk) > ALLOWED


@pytest.mark.parametrize("risk", RISKS.values(), ids=RISKS)
def test_choosing_on_the_calibration_images_is_found(
    stored: tuple[Images, Images], risk: Risk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Thresholds set to the most eager ones with a tolerable risk on the images, as greedy methods do."""
    choosing, population = stored
    path = choosing.path(risk, levels=12)
    monkeypatch.setattr(type(risk), "passes", lambda _, losses, epsilon, delta: losses.mean() <= epsilon)
    assert violations(population.worst(path, risk), population.true_risks(path, risk), risk) > ALLOWED
