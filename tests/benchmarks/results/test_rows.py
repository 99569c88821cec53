"""Rows and their summary: a row an exit, means over seeds, distinct names, gaps where nothing was measured."""

from dataclasses import replace
from typing import Any

import pandas as pd
import pytest

from benchmarks.results.rows import reference_of, rows, summarise
from benchmarks.results.series import recipe_changes, series
from compress.recipes import recipe_named
from compress.runs import Run


def frame(*changes: dict[str, Any]) -> pd.DataFrame:
    """Rows that differ from one of network A, trained by BP, in what is given, and in their run."""
    row = {
        **{"series": "a", "exit": 1, "exits": 1, "network": "A", "recipe": "quick", "epochs": 9, "arm": "bp"},
        **{"arm_key": "a", "requested": "", "base": "A", "learning_rate": 0.1, "weight_decay": 1e-4, "seed": 0},
        **{"changes": "", "places": ""},
        **{"test_accuracy": 0.9, "macs": 10, "kind": "train", "method": "bp"},
    }
    return pd.DataFrame([row | {"run": f"a_{number}"} | change for number, change in enumerate(changes, start=1)])


def test_a_row_an_exit_of_every_run(runs: list[Run]) -> None:
    found = rows(runs)
    assert list(zip(found["run"], found["exit"], found["test_accuracy"], strict=True)) == [
        (run.id, row["exit"], row["test_accuracy"]) for run in runs for row in run.exits
    ]


def test_the_network_that_was_pruned_is_the_same_whatever_its_seed_left(runs: list[Run]) -> None:
    """Of 1,000 MACs, at 600 and 400: the product of means, 1042, would be nobody's."""
    record, found = runs[3].record, []
    for macs in (600, 400):
        achieved = record.results["achieved"] | {"macs": macs, "speedup": 1000 / macs}
        results = record.results | {"achieved": achieved}
        found += [Run(runs[3].path, replace(record, results=results, seed=macs))]
    [row] = summarise(rows(found)).to_dict("records")
    assert row["origin_macs"] == 1000


def test_means_and_intervals_are_those_of_students_t() -> None:
    accuracies = [0.90, 0.92, 0.91]
    [row] = summarise(frame(*({"seed": seed, "test_accuracy": mean} for seed, mean in enumerate(accuracies)))).to_dict(
        "records"
    )
    assert row["test_accuracy"] == pytest.approx(0.91)
    assert row["n"] == 3
    assert row["test_accuracy_sd"] == pytest.approx(0.01)
    # By hand: standard deviation 0.01, 4.303 the 97.5% point of t with two degrees of freedom.
    assert row["test_accuracy_half_width"] == pytest.approx(4.303 * 0.01 / 3**0.5, rel=1e-3)


def test_the_summary_has_no_interval_of_one_seed_and_the_costliest_network_by_plain_bp_as_reference(
    runs: list[Run],
) -> None:
    summary = summarise(rows(runs))
    assert summary["test_accuracy_half_width"].isna().tolist() == [True, False, False, True]
    assert reference_of(summary) == series(runs[0])
    assert reference_of(summary[summary["method"] == "mwbp"]) is None


def test_series_of_one_name_are_told_apart() -> None:
    several = frame({"epochs": 5}, {"series": "b"}, {"series": "c"}, {"series": "d", "network": "B"})
    names = ["A (quick, 5 epochs)", "A (quick, 9 epochs) (2)", "A (quick, 9 epochs) (3)", "B"]
    assert summarise(several)["network"].tolist() == names


def test_what_a_training_changes_tells_it_apart_in_words() -> None:
    several = frame({"changes": "optimizer muon"}, {"series": "b", "places": "exits after blocks 1, 3"})
    several = pd.concat([several, frame({"series": "c", "places": "exits after blocks 2, 3"})])
    names = ["A (optimizer muon)", "A (exits after blocks 1, 3)", "A (exits after blocks 2, 3)"]
    assert summarise(several)["network"].tolist() == names


def test_what_a_recipe_of_its_name_has_is_no_change() -> None:
    usual = recipe_named("small").to_json()
    assert recipe_changes(usual) == ""
    changed = recipe_named("small").changed(optimizer="muon", zero_scale=True, label_smoothing=0.1)
    assert recipe_changes(changed.to_json()) == "optimizer muon, label smoothing 0.1, zero scale"


def test_latencies_of_different_sessions_are_not_averaged() -> None:
    columns = "latency_ratio_b1", "bench_session"
    apart = frame(*(dict(zip(columns, values, strict=True)) for values in ((0.5, "x"), (1.0, "y"))))
    assert summarise(apart)[[*columns]].isna().all(axis=None)
