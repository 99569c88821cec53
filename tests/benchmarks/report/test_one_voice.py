"""One voice: no section says of a pair that was declared in the study's file anything but what was decided."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from benchmarks.report.group import Group
from benchmarks.report.sections.confounds import confounds_section
from benchmarks.report.sections.primary_contrasts import primary_section
from benchmarks.report.sections.verdicts import DECLARED, verdicts_section
from benchmarks.results.caveats import SINGLE
from benchmarks.results.cells import MISSING
from benchmarks.results.claim_verdicts import judge_claims
from benchmarks.results.claims import Claim
from benchmarks.results.contrasts import judge
from benchmarks.results.predictions import of_last_exits
from benchmarks.results.rulings import rulings
from benchmarks.statistics.scores import Scores
from tests.benchmarks.report.conftest import answers, network, table_of, texts_of

IMAGES = 1000
CLAIMS = [Claim(claim="Exits help", of=("net",), against=("trunk",))]


def group_of(summed_up: Callable[..., Group], more: list[int]) -> Group:
    """A network by MW-BP that gets so many images more right than its trunk, seed by seed, and a deeper one."""
    seeds = len(more)
    right = {"net": [800 + each for each in more], "trunk": [800] * seeds, "deep": [700] * seeds}
    rows = [
        *network("deep", [253e6], [0.7], seeds, spec={"arch": "deep", "blocks": 9, "exits": [1]}),
        *network("net", [24e6, 97e6], [0.5, float(np.mean(right["net"])) / IMAGES], seeds, method="mwbp"),
        *network("trunk", [97e6], [0.8], seeds, spec={"arch": "net", "blocks": 3, "exits": [1]}),
    ]
    group = summed_up(rows, "deep")
    scores = dict(group.scores) | {
        (name, 2 if name == "net" else 1): Scores(
            seeds=tuple(range(seeds)), right=np.arange(IMAGES) < np.array(own)[:, None]
        )
        for name, own in right.items()
    }
    last = of_last_exits(scores)
    steps = judge_claims(CLAIMS, last, {})
    return replace(
        group, scores=scores, steps=steps, verdicts=judge(group.summary, last, "deep", rulings=rulings(steps))
    )


@pytest.mark.parametrize(
    ("more", "decided", "others", "answer"),
    [
        # McNemar: p = 2 to the power of -39, of these two networks.
        ([40], "open (preliminary)", "these two trained networks: more accurate",
         "these two trained networks: not shown to differ from 1 of 1 other"),
        # 4 points, +-5.1 by t = 12.7
        ([36, 44], "open (preliminary)", "more accurate (preliminary)",
         "not shown to differ from 1 of 1 other (preliminary)"),
        # 4 points, +-0.2 by t = 2.78
        ([38, 39, 40, 41, 42], "more accurate", "more accurate", "more accurate than the other one"),
    ],
)  # fmt: skip
def test_all_sections_say_what_was_decided(
    summed_up: Callable[..., Group], more: list[int], decided: str, others: str, answer: str
) -> None:
    group = group_of(summed_up, more)
    [primary] = table_of(primary_section(group))
    assert primary["verdict"] == decided.replace("more accurate", "for")
    verdicts = {(row["network"], row["against"]): row for row in table_of(verdicts_section(group))}
    trunk = verdicts["trunk", "net (exit 2)"]
    assert (trunk["verdict"], trunk["p, adjusted"]) == (
        f"primary contrast 1: {decided.replace('more', 'less')}",
        MISSING,
    )
    assert verdicts["net (exit 2)", "deep"]["verdict"] == others
    assert verdicts["net (exit 2)", "deep"]["p, adjusted"] != MISSING
    texts = texts_of(verdicts_section(group))
    assert texts[0] == DECLARED
    assert (SINGLE in texts) == (len(more) == 1)
    [control] = table_of(confounds_section(group))
    assert (control["compared with"], control["verdict"]) == ("trunk", f"primary contrast 1: {decided}")
    best = {row["best network"]: row["against the others"] for row in answers(group)}
    assert best["net (exit 2)"] == answer


def test_a_declared_pair_is_judged_at_other_budgets_too(summed_up: Callable[..., Group]) -> None:
    group = group_of(summed_up, [38, 39, 40, 41, 42])
    dearer = group.summary.assign(macs=group.summary["macs"].where(group.summary["series"] != "trunk", 110e6))
    [control] = table_of(confounds_section(replace(group, summary=dearer)))
    assert (control["its MACs"], control["verdict"]) == ("113%", "primary contrast 1: more accurate")
