"""Verdicts: nothing that the interval does not carry, nothing across budget classes, few words for many networks."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import numpy as np
import pandas as pd
import pytest

from benchmarks import Comparison, write_report
from benchmarks.report.group import Group
from benchmarks.report.section import Block, Bullets, Table, Text
from benchmarks.report.sections.verdicts import NOTE, _line, verdicts_section
from benchmarks.results.contrasts import Verdicts, budget_classes, judge
from benchmarks.results.predictions import of_last_exits, read_right, read_scores
from benchmarks.results.series import series
from benchmarks.statistics.scores import Scores
from compress.errors import UsageError
from compress.runs import Run

IMAGES = 2000


def judged(
    networks: Mapping[str, tuple[float, float]], seeds: int = 3, primary: tuple[str, str] | None = None, exits: int = 1
) -> Verdicts:
    """Verdicts on networks of these accuracies and MACs, alike for all seeds; the first is the reference."""
    summary = pd.DataFrame(
        [
            {"series": name, "network": name, "run": name, "exit": exits, "exits": exits, "last": True, "macs": macs,
             "latency_reference": f"{next(iter(networks))} exit {exits}", "latency_noisy": 0.0,
             "test_accuracy": accuracy, "bench_session": "x", "latency_conditions": "eager", "latency_ratio_b1": macs}
            for name, (accuracy, macs) in networks.items()
        ]
    )  # fmt: skip
    scores = {
        name: Scores(seeds=tuple(range(seeds)), right=np.tile(np.arange(IMAGES) < accuracy * IMAGES, (seeds, 1)))
        for name, (accuracy, _) in networks.items()
    }
    return judge(summary, scores, next(iter(networks)), primary)


def blocks(verdicts: Verdicts) -> Sequence[Block]:
    """The section on these verdicts alone."""
    section = verdicts_section(cast(Group, SimpleNamespace(verdicts=verdicts)))
    return section.blocks if section else []


def table(verdicts: Verdicts) -> list[dict[str, str]]:
    return next(block.rows for block in blocks(verdicts) if isinstance(block, Table))


def words(verdicts: Verdicts) -> str:
    parts = [block.words for block in blocks(verdicts) if isinstance(block, Text)]
    return "\n".join(
        [*parts, *(item for block in blocks(verdicts) if isinstance(block, Bullets) for item in block.items)]
    )


def test_a_verdict_says_what_its_interval_carries() -> None:
    verdicts = judged({"A": (0.90, 200), "B": (0.80, 100), "C": (0.901, 150)})
    low, high = verdicts.contrasts[0].found.interval()
    rows = [list(row.values()) for row in table(verdicts)]
    interval = f"{100 * low:.2f} to {100 * high:.2f}"
    assert rows[0] == ["B", "A", "50%", "0.50x", "-10.00", interval, "3", "< 0.001", "less accurate"]
    assert rows[1][4:6] + rows[1][-1:] == ["+0.10", "0.00 to 0.25", "not distinguishable"]
    last = verdicts.last.assign(bench_session=["x", "y", "y"])
    assert "latency, batch 1" not in _line(verdicts.contrasts[0], last)


def test_few_seeds_are_preliminary_and_never_bold() -> None:
    for seeds in (1, 2):
        verdicts = judged({"A": (0.90, 100), "B": (0.80, 100)}, seeds=seeds)
        assert [row["verdict"] for row in table(verdicts)] == ["less accurate (preliminary)"]
        assert verdicts.bold == frozenset()
        assert (NOTE in words(verdicts)) == (seeds == 1)


def test_bold_is_what_cannot_be_told_from_the_best_of_several_of_a_class() -> None:
    verdicts = judged({"A": (0.95, 300), "B": (0.90, 100), "C": (0.9005, 101), "D": (0.80, 99.5)})
    assert verdicts.bold == {"B", "C"}
    declared = judged({"A": (0.95, 300), "B": (0.90, 100), "C": (0.9005, 101)}, primary=("C", "B"))
    assert declared.bold == {"B", "C"}
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


def test_the_primary_contrast_is_tested_alone_and_may_be_equivalent() -> None:
    verdicts = judged(
        {"A": (0.95, 300), "B": (0.90, 100), "C": (0.90, 101), "D": (0.93, 150)}, primary=("C", "B"), exits=5
    )
    primary, *others = verdicts.contrasts
    assert (primary.network, primary.against, primary.family, primary.primary) == ("C", "B", 1, True)
    assert primary.verdict == "not distinguishable, and equivalent within 0.2 points"
    assert len(others) == 3
    assert words(verdicts).startswith("**Primary contrast**, declared before the runs: C (exit 5) against B (exit 5)")


@pytest.mark.parametrize(
    ("primary", "reason"),
    [(("B", "D"), "B of 0.0001M MACs and D of 0.00015M MACs are of different budget classes"), (("B", "B"), "same")],
)
def test_a_primary_contrast_that_may_not_be_made_is_named(primary: tuple[str, str], reason: str) -> None:
    verdicts = judged({"A": (0.95, 300), "B": (0.90, 100), "D": (0.93, 150)}, primary=primary)
    assert not any(one.primary for one in verdicts.contrasts)
    assert reason in words(verdicts)


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
    assert judge(rows.head(2), scores, "A").contrasts[0].verdict == "more accurate (preliminary)"
    many = judge(rows, scores | {f"N{i}": Scores(seeds=(0,), right=base) for i in range(1, 9)}, "A")
    assert many.contrasts[0].verdict == "not distinguishable once 9 comparisons are corrected for (preliminary)"


def test_what_was_right_is_what_the_record_says(runs: list[Run]) -> None:
    for run in runs:
        _, right = read_right(run)
        assert right.shape == (len(run.exits), 100)
        assert right.mean(axis=1) == pytest.approx([row["test_accuracy"] for row in run.exits], abs=0.011)
    scores, left_out = read_scores(runs)
    assert not left_out
    assert of_last_exits(scores)[series(runs[1])] is scores[series(runs[1]), 2]
    assert {key: one.seeds for key, one in scores.items()} == {
        (series(runs[0]), 1): (0,), (series(runs[1]), 1): (0, 1), (series(runs[1]), 2): (0, 1),
        (series(runs[3]), 1): (0,),
    }  # fmt: skip


def altered(run: Run, path: Path, content: bytes | None) -> Run:
    path.mkdir()
    if content is not None:
        (path / "predictions.npz").write_bytes(content)
    return Run(path, run.record)


def arrays(path: Path, **contents: np.ndarray) -> bytes:
    np.savez(path / "arrays.npz", **contents)  # type: ignore[arg-type]
    return (path / "arrays.npz").read_bytes()


def test_predictions_that_are_not_there_or_not_the_runs_are_named_in_a_line(runs: list[Run], tmp_path: Path) -> None:
    labels, logits = np.arange(100) % 10, np.zeros((1, 100, 10), dtype=np.float16)
    cases = [
        (None, "missing"),
        (b"", "corrupt"),
        (b"PK\x03\x04 no archive", "corrupt"),
        (json.dumps({}).encode(), "corrupt"),
        (arrays(tmp_path, labels=labels), "corrupt .* no item named 'test_labels"),
        (arrays(tmp_path, test_labels=labels[1:], test_logits=logits[:, 1:]), "the run has 1 exit"),
        (arrays(tmp_path, test_labels=labels, test_logits=logits[0]), "the run has 1 exit"),
        (arrays(tmp_path, test_labels=labels, test_logits=1 - 2 * np.eye(10)[labels][None]), "other accuracies"),
    ]
    for position, (content, reason) in enumerate(cases):
        with pytest.raises(UsageError, match=reason) as refused:
            read_right(altered(runs[0], tmp_path / str(position), content))
        assert "\n" not in str(refused.value)


def test_the_report_says_who_is_not_compared_and_who_is(runs: list[Run], tmp_path: Path) -> None:
    lacking = altered(runs[3], tmp_path / "lacking", None)
    primary = (runs[1].id, runs[0].id)
    text = write_report(Comparison(runs=[*runs[:3], lacking], primary=primary), tmp_path / "report").read_text()
    section = text[text.index("### Verdicts") : text.index("### Pareto")]
    assert "- not compared: run lacking: predictions.npz is missing" in section
    assert "**Primary contrast**, declared before the runs: MwResNet-8-2 (exit 2)" in section
    assert "| 2 and 1 |" in section
    table = text[text.index("### Networks") : text.index("### Verdicts")]
    assert not [line for line in table.splitlines() if line.startswith("|") and "**" in line]
    assert "sd over seeds" in table
