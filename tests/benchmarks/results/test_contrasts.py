"""Contrasts: nothing that the interval does not carry, and nothing across budget classes but with the reference."""

from collections.abc import Mapping

import numpy as np
import pandas as pd

from benchmarks.results.budget_classes import budget_classes
from benchmarks.results.contrasts import Verdicts, judge
from benchmarks.statistics.scores import Scores

IMAGES = 2000


def judged(networks: Mapping[str, tuple[float, float]], seeds: int = 3) -> Verdicts:
    """Verdicts on networks of these accuracies and MACs, alike for all seeds; the first is the reference."""
    summary = pd.DataFrame(
        [
            {"series": name, "network": name, "run": name, "exit": 1, "exits": 1, "last": True, "macs": macs,
             "test_accuracy": accuracy}
            for name, (accuracy, macs) in networks.items()
        ]
    )  # fmt: skip
    scores = {
        name: Scores(seeds=tuple(range(seeds)), right=np.tile(np.arange(IMAGES) < accuracy * IMAGES, (seeds, 1)))
        for name, (accuracy, _) in networks.items()
    }
    return judge(summary, scores, next(iter(networks)))


def test_few_seeds_are_preliminary_and_never_bold() -> None:
    verdict = {1: "these two trained networks: less accurate", 2: "less accurate (preliminary)"}
    for seeds in verdict:
        verdicts = judged({"A": (0.90, 100), "B": (0.80, 100)}, seeds=seeds)
        assert [contrast.verdict for contrast in verdicts.contrasts] == [verdict[seeds]]
        assert verdicts.bold == frozenset()


def test_bold_is_what_cannot_be_told_from_the_best_of_several_of_a_class() -> None:
    verdicts = judged({"A": (0.95, 300), "B": (0.90, 100), "C": (0.9005, 101), "D": (0.80, 99.5)})
    assert verdicts.bold == {"B", "C"}
    assert judged({"A": (0.95, 300), "B": (0.90, 100)}).bold == frozenset()


def test_nothing_is_compared_across_classes_but_with_the_reference() -> None:
    verdicts = judged({"A": (0.95, 300), "B": (0.90, 100), "C": (0.91, 101), "D": (0.93, 150)})
    pairs = [(one.network, one.against) for one in verdicts.contrasts]
    assert sorted(pairs) == [("B", "A"), ("B", "C"), ("C", "A"), ("D", "A")]
    assert {one.family for one in verdicts.contrasts} == {4}


def test_classes_hold_networks_within_two_per_cent_of_one_another() -> None:
    """A chain of steps of 1.5% is not one class: its ends are 3% apart."""
    assert budget_classes(pd.Series([100, 101.5, 103, 150, 152])).tolist() == [1, 2, 2, 3, 3]
    assert budget_classes(pd.Series([100])).tolist() == [1]


def test_holm_takes_back_what_many_comparisons_find_by_chance() -> None:
    """Thirty images won and fifteen lost, p = 0.036: a difference alone, none as one of nine."""
    summary = judged({"A": (0.9, 300)}).last.reset_index()
    rows = pd.concat([summary] + [summary.assign(series=f"N{i}", network=f"N{i}", macs=100 + 10 * i) for i in range(9)])
    base = np.zeros((1, IMAGES), dtype=bool)
    base[:, 30:60] = True
    other = np.zeros((1, IMAGES), dtype=bool)
    other[:, :60] = True
    other[:, 30:45] = False
    scores = {"A": Scores(seeds=(0,), right=base), "N0": Scores(seeds=(0,), right=other)}
    assert judge(rows.head(2), scores, "A").contrasts[0].verdict == "these two trained networks: more accurate"
    many = judge(rows, scores | {f"N{i}": Scores(seeds=(0,), right=base) for i in range(1, 9)}, "A")
    assert many.contrasts[0].verdict == (
        "these two trained networks: not distinguishable once 9 comparisons are corrected for"
    )
