"""Rulings: what the primary contrasts decided is what every section says of the pair, whatever its own test says."""

from collections.abc import Mapping

import numpy as np
import pytest

from benchmarks.results.caveats import with_caveat
from benchmarks.results.claim_verdicts import Step, judge_claims
from benchmarks.results.claims import Claim
from benchmarks.results.contrasts import Contrast, compare
from benchmarks.results.rulings import rulings
from benchmarks.statistics.scores import Scores

IMAGES = 1000


def scores_of(right: Mapping[str, list[int]]) -> dict[str, Scores]:
    """Scores of networks that got the first so many of 1,000 images right, seed by seed."""
    return {
        name: Scores(seeds=tuple(range(len(own))), right=np.arange(IMAGES) < np.array(own)[:, None])
        for name, own in right.items()
    }


def decided(right: Mapping[str, list[int]], *claims: Claim) -> list[Step]:
    return judge_claims(claims, scores_of(right), {})


def contrast(right: Mapping[str, list[int]], claim: Claim, *pair: str) -> Contrast:
    [found] = compare([(pair[0], pair[1])], scores_of(right), rulings(decided(right, claim)))
    return found


WINS = Claim(claim="A wins", of=("A",), against=("B",))


@pytest.mark.parametrize(
    ("more", "ruling", "otherwise"),
    [
        # 40 images won and none lost: McNemar's p is 2 to the power of -39, and one training tells nothing of others.
        ([40], "open (preliminary)", "these two trained networks: more accurate"),
        # 4 points on average, with t = 12.7 and a standard error of 0.4: -1.1 to 9.1.
        ([36, 44], "open (preliminary)", "not distinguishable (preliminary)"),
        # The same with a standard error of 0.1: 2.7 to 5.3.
        ([39, 41], "more accurate (preliminary)", "more accurate (preliminary)"),
        # With t = 2.78 and a standard error of 0.07: 3.8 to 4.2.
        ([38, 39, 40, 41, 42], "more accurate", "more accurate"),
    ],
)
def test_a_declared_pair_has_its_ruling_and_another_one_the_test_of_its_section(
    more: list[int], ruling: str, otherwise: str
) -> None:
    right = {"A": [800 + each for each in more], "B": [800] * len(more)}
    assert contrast(right, WINS, "A", "B").verdict == f"primary contrast 1: {ruling}"
    [exploratory] = compare([("A", "B")], scores_of(right))
    assert exploratory.verdict == otherwise
    assert contrast(right, WINS, "A", "B").distinguishable == ("more" in ruling)


def test_a_ruling_is_turned_with_its_pair() -> None:
    right = {"A": [838, 840, 842], "B": [800] * 3}
    turned = contrast(right, WINS, "B", "A")
    assert (turned.verdict, turned.sign) == ("primary contrast 1: less accurate", -1)
    assert (turned.reversed.verdict, turned.reversed.sign) == ("primary contrast 1: more accurate", 1)
    refuted = Claim(claim="B wins", of=("B",), against=("A",))
    assert contrast(right, refuted, "A", "B").verdict == "primary contrast 1: more accurate"


def test_what_is_alike_or_not_compared_is_said_to_be_so() -> None:
    unmade = Claim(claim="D wins", of=("D", "E"), against=("B",))
    right = {"A": [800] * 5, "B": [800] * 5}
    alike = {pair: str(ruling) for pair, ruling in rulings(decided(right, WINS, WINS)).items()}
    assert alike == dict.fromkeys([("A", "B"), ("B", "A")], "primary contrast 1: equivalent within 0.2 points")
    found = rulings(decided(right, unmade))
    assert str(found["D", "B"]) == str(found["B", "E"]) == "primary contrast 1: not compared"
    assert rulings([]) == {}


def test_a_caveat_is_that_of_the_network_with_the_fewest_seeds() -> None:
    said = {seeds: with_caveat("alike", seeds) for seeds in ((1, 1), (1, 5), (5, 2), (3, 5))}
    assert said == {
        (1, 1): "these two trained networks: alike",
        (1, 5): "alike (preliminary: one seed of some networks)",
        (5, 2): "alike (preliminary)",
        (3, 5): "alike",
    }


def test_a_pair_behind_a_failed_step_is_judged_as_any_other() -> None:
    right = {"A": [800] * 5, "B": [800] * 5, "C": [838, 839, 840, 841, 842]}
    found = rulings(decided(right, WINS, Claim(claim="C wins", of=("C",), against=("B",))))
    assert {*found} == {("A", "B"), ("B", "A")}
    scores = scores_of(right)
    [declared], [plain] = compare([("C", "B")], scores, found), compare([("C", "B")], scores)
    assert declared.verdict == plain.verdict == "more accurate"
