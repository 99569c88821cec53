"""Primary contrasts: a sentence on every claim that says no more than its blocks carry, and their table."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from benchmarks.report.group import Group
from benchmarks.report.sections.primary_contrasts import primary_section
from benchmarks.results.claim_verdicts import judge_claims
from benchmarks.results.claims import Claim
from benchmarks.statistics.scores import Scores
from tests.benchmarks.report.conftest import network, table_of, texts_of

IMAGES = 1000
ROWS = [*network("deep", [253], [0.8]), *network("net", [24, 97], [0.5, 0.82]), *network("own", [97], [0.81])]
CLAIMS = [
    Claim(claim="A net of <44> layers wins", of=("net",), against=("deep",)),
    Claim(claim="It wins again", of=("net",), against=("deep",)),
    Claim(claim="It beats its trunk", of=("net",), against=("own",), joined=True, if_equivalent="The exits are free"),
]


def group_of(
    summed_up: Callable[..., Group], claims: list[Claim], validation: dict[str, float] | None = None, **right: list[int]
) -> Group:
    """A group of networks that got so many of 1,000 images right, seed by seed, judged by these claims."""
    accuracies = {name: dict.fromkeys(range(9), accuracy) for name, accuracy in (validation or {}).items()}
    scores = {
        name: Scores(seeds=tuple(range(len(own))), right=np.arange(IMAGES) < np.array(own)[:, None])
        for name, own in right.items()
    }
    return replace(summed_up(ROWS, "deep"), steps=judge_claims(claims, scores, accuracies))


def test_every_claim_has_a_sentence_and_a_row(summed_up: Callable[..., Group]) -> None:
    """20, 21 and 19 images more: 2 points, +-0.248; as many as its trunk: +-0.717 images, by rounding."""
    group = group_of(summed_up, CLAIMS, deep=[800, 800, 800], net=[820, 821, 819], own=[820, 821, 819, 820])
    section = primary_section(group)
    assert texts_of(section)[1:] == [
        "1. A net of \\<44\\> layers wins: **decided for**. net (exit 2) has +2.00 points against deep, 95%: 1.75 to "
        "2.25, in 3 complete blocks.",
        "2. It wins again: **decided for**. net (exit 2) has +2.00 points against deep, 95%: 1.75 to 2.25, in 3 "
        "complete blocks.",
        "2. It beats its trunk: **equivalent within 0.2 points**. net (exit 2) has +0.00 points against own, 90%: "
        "-0.05 to 0.05, in 3 complete blocks.",
        "2. All 2 are needed: not decided for.",
        "2. The exits are free.",
    ]
    rows = table_of(section)
    assert [row["verdict"] for row in rows] == ["for", "for", "equivalent"]
    assert [row["blocks"] for row in rows] == ["3", "3 of 4 begun", "3 of 4 begun"]
    assert list(rows[0].values())[1:5] == ["net (exit 2)", "deep", "38%", "38%"]
    assert (rows[0]["confidence"], rows[0]["interval over seeds, which decides"]) == ("95%", "1.75 to 2.25")


def test_an_exit_that_a_claim_names_has_its_own_accuracy_and_macs(summed_up: Callable[..., Group]) -> None:
    claims = [Claim(claim="Early is enough", of=("net:1",), against=("deep",))]
    right = {"deep": [800, 800, 800], "net": [700, 700, 700], "net:1": [820, 821, 819]}
    section = primary_section(group_of(summed_up, claims, None, **right))
    assert texts_of(section)[1].startswith("1. Early is enough: **decided for**. net (exit 1) has +2.00 points against")
    assert list(table_of(section)[0].values())[1:5] == ["net (exit 1)", "deep", "9%", "38%"]


def test_of_two_networks_the_interval_shown_is_the_one_that_decides(summed_up: Callable[..., Group]) -> None:
    """20, 21 and 19 images more, with t = 6.205 for 97.5%: 2 points, +-0.358; at 95% it would be +-0.248."""
    claims = [Claim(claim="The best wins", of=("net", "own"), against=("deep",))]
    right = {"deep": [800, 800, 800], "net": [820, 821, 819], "own": [790, 790, 790]}
    section = primary_section(group_of(summed_up, claims, {"net": 0.9, "own": 0.8}, **right))
    assert texts_of(section)[1] == (
        "1. The best wins: **decided for**. net (exit 2), the best of 2 on validation images, has +2.00 points against "
        "deep, 97.5%: 1.64 to 2.36, in 3 complete blocks."
    )
    [row] = table_of(section)
    assert (row["confidence"], row["interval over seeds, which decides"]) == ("97.5%", "1.64 to 2.36")


def test_one_block_has_no_interval_over_test_sets_that_would_lack_the_scatter_of_seeds(
    summed_up: Callable[..., Group],
) -> None:
    [row] = table_of(primary_section(group_of(summed_up, CLAIMS[:1], deep=[800], net=[820])))
    assert list(row.values())[5:] == ["1", "+2.00", "95%", "open (preliminary)"]


def test_what_follows_a_step_that_is_not_shown_is_exploratory(summed_up: Callable[..., Group]) -> None:
    group = group_of(summed_up, CLAIMS, deep=[800, 800], net=[790, 830], own=[700, 700])
    texts = texts_of(primary_section(group))
    assert texts[1] == (
        "1. A net of \\<44\\> layers wins: **open**. net (exit 2) has +1.00 points against deep, 95%: -24.41 to 26.41, "
        "in 2 complete blocks, preliminary."
    )
    assert texts[2].startswith(
        "2. Exploratory, as an earlier step is not decided for. It wins again: not confirmed; open."
    )
    assert [row["verdict"] for row in table_of(primary_section(group))] == [
        "open (preliminary)",
        "open (preliminary), exploratory",
        "open (preliminary), exploratory",
    ]


def test_an_exploratory_step_confirms_nothing(summed_up: Callable[..., Group]) -> None:
    """Step 1 is decided against; that of step 2 is above zero, and as accurate as its trunk, but that is too late."""
    claims = [replace(CLAIMS[0], of=("deep",), against=("net",)), *CLAIMS[1:]]
    group = group_of(summed_up, claims, deep=[800, 800, 800], net=[820, 821, 819], own=[820, 821, 819])
    first, *others = texts_of(primary_section(group))[1:]
    assert "**decided against**" in first
    assert [text.partition(". net")[0].partition("decided for. ")[2] for text in others] == [
        "It wins again: not confirmed; the difference is above zero",
        "It beats its trunk: not confirmed; equivalent within 0.2 points",
    ]


def test_a_difference_within_the_margin_is_said_to_be_small(summed_up: Callable[..., Group]) -> None:
    """One image more of 1,000 in every seed: 0.1 points, +-0.07 by rounding, and other images may show none."""
    [text] = texts_of(primary_section(group_of(summed_up, CLAIMS[:1], deep=[800, 800, 800], net=[801, 801, 801])))[1:]
    assert text.startswith("1. A net of \\<44\\> layers wins: **decided for**. net (exit 2) has +0.10 points")
    assert text.endswith("blocks; with other test images it may be none; it is within 0.2 points.")


def test_what_cannot_be_compared_is_said(summed_up: Callable[..., Group]) -> None:
    group = group_of(summed_up, CLAIMS, deep=[800], net=[820])
    assert texts_of(primary_section(group))[1:] == [
        "1. A net of \\<44\\> layers wins: **open**. net (exit 2) has +2.00 points against deep, in 1 complete block, "
        "preliminary, which gives no interval.",
        "2. Exploratory, as an earlier step is not decided for. It wins again: not compared, no seed has a run, "
        "with predictions, of every network.",
        "2. Exploratory, as an earlier step is not decided for. It beats its trunk: not compared, no seed has a run, "
        "with predictions, of every network.",
    ]
    several = [Claim(claim="The best wins", of=("net", "own"), against=("deep",))]
    blind = group_of(summed_up, several, deep=[800], net=[820], own=[810])
    assert texts_of(primary_section(blind))[1] == "1. The best wins: not compared, no validation images to choose on."
    assert primary_section(group_of(summed_up, [], deep=[800])) is None
