"""Claims: the verdicts that complete blocks carry, in the sequence declared, with hand-worked numbers."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest
from scipy import stats

from benchmarks.results.claim_verdicts import Step, judge_claims
from benchmarks.results.claims import Claim
from benchmarks.results.rulings import rulings
from benchmarks.statistics.scores import CONFIDENCE, Scores
from compress.errors import UsageError

IMAGES, BASE = 10_000, 0.8
# Differences to ResNet-110, seed by seed, with 95% intervals of 0.7 to 3.3, -1.9 to 3.9, and -0.18 to 0.18 points.
MORE, UNKNOWN, SAME = [0.01, 0.02, 0.03, 0.02], [-0.01, 0.02, 0.03, 0.0], [0.001, -0.001, 0.001, -0.001]
DEEP = [0.0, 0.0, 0.0, 0.0]


def judged(claims: Sequence[Claim], more: Mapping[str, Sequence[float]], **validation: float) -> list[Step]:
    """The steps of networks that are so much more accurate than 80%, seed by seed, and as `validation` says there."""
    scores = {
        name: Scores(
            seeds=tuple(range(len(differences))),
            right=np.stack([np.arange(IMAGES) < round((BASE + value) * IMAGES) for value in differences]),
        )
        for name, differences in more.items()
    }
    return judge_claims(
        claims, scores, {name: dict.fromkeys(range(9), accuracy) for name, accuracy in validation.items()}
    )


def claim(of: str | tuple[str, ...], against: str | tuple[str, ...], **more: Any) -> Claim:
    of, against = ((names,) if isinstance(names, str) else names for names in (of, against))
    return Claim(claim=f"{of} against {against}", of=of, against=against, **more)


@pytest.mark.parametrize(
    ("differences", "decision"),
    [
        (MORE, "for"),
        ([-value for value in MORE], "against"),
        (UNKNOWN, "open"),
        (SAME, "equivalent"),
        ([0.03], "open"),  # one block
        ([0.0101, 0.0099], "for"),  # t = 12.7 with two, but they agree: 0.0100 +- 0.0013
        ([0.02, 0.0], "open"),  # 0.01 +- 0.127
    ],
)
def test_an_interval_over_blocks_decides(differences: list[float], decision: str) -> None:
    [step] = judged([claim("net", "deep")], {"net": differences, "deep": DEEP[: len(differences)]})
    [part] = step.parts
    assert part.decision == decision
    assert part.given.estimate == pytest.approx(np.mean(differences), abs=1e-4)
    assert part.over.interval()[0] < part.given.estimate < part.over.interval()[1]
    assert step.holds == (decision == "for")
    assert step.confirmatory


def test_a_margin_is_the_claims_own() -> None:
    more = {"net": SAME, "deep": DEEP}
    assert [judged([claim("net", "deep", margin=margin)], more)[0].parts[0].decision for margin in (0.1, 0.2)] == [
        "open", "equivalent",
    ]  # fmt: skip


def test_only_seeds_count_in_which_every_network_of_the_step_has_a_run() -> None:
    """The fourth seed is worse by far, and the network that only the second claim needs lacks it."""
    more = {"net": [0.02, 0.021, 0.019, -0.2], "deep": [0.0] * 5, "own": [0.01, 0.011, 0.009]}
    both, alone = judged([claim("net", "deep"), claim("net", "own", joined=True), claim("net", "deep")], more)
    assert (both.seeds, both.begun, alone.seeds) == ((0, 1, 2), 5, (0, 1, 2, 3))
    assert [part.decision for part in both.parts] == ["for", "for"]
    assert [part.decision for part in alone.parts] == ["open"]
    [nothing] = judged([claim("net", "gone")], more)
    assert (nothing.seeds, nothing.parts, nothing.holds) == ((), (), False)


def test_the_best_of_several_is_chosen_on_validation_images_alone() -> None:
    more = {"narrow": MORE, "wide": SAME, "deep": DEEP, "narrow-bp": DEEP, "wide-bp": MORE}
    claims = [claim(("narrow", "wide"), "deep"), claim(("narrow", "wide"), ("narrow-bp", "wide-bp"), joined=True)]
    [step] = judged(claims, more, narrow=0.5, wide=0.6)
    assert [(part.network, part.against) for part in step.parts] == [("wide", "deep"), ("wide", "wide-bp")]
    assert [part.decision for part in step.parts] == ["equivalent", "against"]
    [tied] = judged(claims, more, narrow=0.5, wide=0.5)
    assert [(part.network, part.against) for part in tied.parts] == [("narrow", "deep"), ("narrow", "narrow-bp")]
    [blind] = judged(claims, more, narrow=0.5)  # no validation images for one of them
    assert (blind.seeds, blind.parts) == ((0, 1, 2, 3), ())


@pytest.mark.parametrize(
    ("differences", "alone", "of_two"),
    [
        ([0.02, 0.01, 0.02, 0.005], "for", "open"),  # t = 3.67, between 3.18 and 4.18
        ([0.0012, -0.0012, 0.0012, -0.0012], "equivalent", "open"),
    ],
)
def test_one_chosen_of_two_is_tested_at_half_the_level(differences: list[float], alone: str, of_two: str) -> None:
    more = {"net": differences, "other": UNKNOWN, "deep": DEEP}
    [single] = judged([claim("net", "deep")], more)[0].parts
    [chosen] = judged([claim(("net", "other"), "deep")], more, net=0.6, other=0.5)[0].parts
    assert (single.confidence, chosen.confidence) == pytest.approx((0.95, 0.975))
    assert (single.decision, chosen.decision) == (alone, of_two)


@pytest.mark.parametrize("seeds", [5, 10, 24])
def test_the_better_of_two_networks_like_the_reference_is_seldom_decided_for(seeds: int) -> None:
    """A seed moves a run by 0.25 points on all images, and validation images add 0.27: at most 2.5% are decided for."""
    [part] = judged([claim(("a", "b"), "deep")], dict.fromkeys(("a", "b", "deep"), DEEP), a=0.5, b=0.5)[0].parts
    rng, studies = np.random.default_rng(0), 40_000
    nets, reference = rng.normal(0, 0.25, (studies, 2, seeds)), rng.normal(0, 0.25, (studies, seeds))
    validation = (nets + rng.normal(0, 0.27, nets.shape)).mean(axis=2)
    values = nets[np.arange(studies), validation.argmax(axis=1)] - reference
    t = values.mean(axis=1) / values.std(axis=1, ddof=1) * math.sqrt(seeds)
    found, at_full_level = (
        (t > stats.t.ppf((1 + level) / 2, seeds - 1)).mean() for level in (part.confidence, CONFIDENCE)
    )
    assert found < 0.023
    assert at_full_level > 0.035


def test_the_first_step_that_does_not_hold_ends_the_confirmation() -> None:
    more = {"won": MORE, "open": UNKNOWN, "deep": DEEP}
    won, unknown = claim("won", "deep"), claim("open", "deep")
    assert [step.confirmatory for step in judged([won, won, won], more)] == [True, True, True]
    assert [step.confirmatory for step in judged([won, unknown, won, won], more)] == [True, True, False, False]
    joined = claim("open", "deep", joined=True)
    assert [step.confirmatory for step in judged([won, joined, won], more)] == [True, False]
    assert [step.confirmatory for step in judged([claim("gone", "deep"), won], more)] == [True, False]


@pytest.mark.parametrize(
    ("against_deep", "against_own", "holds", "meaning", "tested"),
    [
        (MORE, MORE, True, "", [True, True]),
        (MORE, SAME, False, "the exits come free", [True, True]),
        (MORE, UNKNOWN, False, "", [True, True]),
        (SAME, SAME, False, "", [True, False]),
        (UNKNOWN, MORE, False, "", [True, False]),
        ([-value for value in MORE], SAME, False, "", [True, False]),
    ],
)
def test_a_conjunction_needs_both_and_says_what_equivalence_means(
    against_deep: list[float], against_own: list[float], holds: bool, meaning: str, tested: list[bool]
) -> None:
    """A part behind one that is not decided for is exploratory: the conjunction alone is protected."""
    own = [first - second for first, second in zip(against_deep, against_own, strict=True)]
    claims = [claim("net", "deep"), claim("net", "own", joined=True, if_equivalent="the exits come free")]
    [step] = judged(claims, {"net": against_deep, "deep": DEEP, "own": own})
    assert (step.holds, step.meaning) == (holds, meaning)
    assert [step.tests(part) for part in step.parts] == tested
    assert len(rulings([step])) == 2 * sum(tested)
    assert not any(dataclasses.replace(step, confirmatory=False).tests(part) for part in step.parts)


@pytest.mark.parametrize(
    ("of", "against", "more", "message"),
    [
        ((), "deep", {}, "one or more different runs"),
        (("a", "a"), "deep", {}, "one or more different runs"),
        (("a", "b"), ("c", "d", "e"), {}, "one run, or one for each of a, b"),
        ("a", "a", {}, "not 'a' twice"),
        ("a", "b", {"margin": 0.0}, "points above 0"),
        ("a", "b", {"margin": float("inf")}, "points above 0"),
    ],
)
def test_what_is_no_contrast_is_refused(of: Any, against: Any, more: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        claim(of, against, **more)
