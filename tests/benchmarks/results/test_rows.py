"""Tables: seeds summed up right, series told apart, nothing invented where nothing was measured."""

import json
from dataclasses import replace

import pandas as pd
import pytest

from benchmarks.results.rows import reference_of, rows, summarise
from benchmarks.results.series import network_name, series
from compress.runs import Run

ARM = {"arm": "bp", "arm_key": "a", "requested": "", "base": "A", "learning_rate": 0.1, "weight_decay": 1e-4}


def test_a_row_an_exit_of_every_run(runs: list[Run]) -> None:
    frame = rows(runs)
    assert list(zip(frame["run"], frame["exit"], strict=True)) == [
        (run.id, row["exit"]) for run in runs for row in run.exits
    ]
    assert list(frame["test_accuracy"]) == [row["test_accuracy"] for run in runs for row in run.exits]


def test_runs_that_differ_by_seed_alone_are_one_series(runs: list[Run]) -> None:
    names = [series(run) for run in runs]
    assert names[1] == names[2]
    assert len(set(names)) == 3


def test_names_say_what_a_network_is(runs: list[Run]) -> None:
    assert [network_name(run) for run in runs[:2]] == ["ResNet-14", "MwResNet-8-2"]
    speedup = runs[3].record.results["achieved"]["speedup"]
    assert network_name(runs[3]) == f"ResNet-14, l1 {speedup:.2f}x"


def test_means_and_intervals_are_those_of_students_t() -> None:
    accuracies = [0.90, 0.92, 0.91]
    frame = pd.DataFrame(
        {
            "series": "a", "exit": 1, "exits": 1, "network": "A", "recipe": "quick", "epochs": 1, **ARM,
            "run": ["a_1", "a_2", "a_3"],
            "seed": [0, 1, 2], "test_accuracy": accuracies, "macs": 10, "kind": "train", "method": "bp",
        }
    )  # fmt: skip
    [row] = summarise(frame).to_dict("records")
    assert row["test_accuracy"] == pytest.approx(0.91)
    assert row["n"] == 3
    assert row["test_accuracy_sd"] == pytest.approx(0.01)
    # By hand: standard deviation 0.01, 4.303 the 97.5% point of t with two degrees of freedom.
    assert row["test_accuracy_half_width"] == pytest.approx(4.303 * 0.01 / 3**0.5, rel=1e-3)


def test_one_seed_has_no_interval(runs: list[Run]) -> None:
    summary = summarise(rows(runs))
    one_seed = summary["n"] == 1
    assert summary["test_accuracy_half_width"].isna().tolist() == one_seed.tolist()
    assert one_seed.tolist() == [True, False, False, True]


def test_series_of_one_name_are_told_apart() -> None:
    shared = {"exit": 1, "exits": 1, "network": "A", "seed": 0, "test_accuracy": 0.9, "kind": "train", "method": "bp"}
    shared |= ARM
    frame = pd.DataFrame(
        [
            shared | {"series": "a", "recipe": "quick", "epochs": 5, "run": "a_1"},
            shared | {"series": "b", "recipe": "quick", "epochs": 9, "run": "a_2"},
            shared | {"series": "c", "recipe": "quick", "epochs": 9, "run": "a_3"},
            shared | {"series": "d", "recipe": "quick", "epochs": 9, "run": "a_4", "network": "B"},
        ]
    )
    assert summarise(frame)["network"].tolist() == [
        "A (quick, 5 epochs)", "A (quick, 9 epochs) (2)", "A (quick, 9 epochs) (3)", "B",
    ]  # fmt: skip


def test_the_reference_is_the_costliest_network_by_plain_bp(runs: list[Run]) -> None:
    summary = summarise(rows(runs))
    assert reference_of(summary) == series(runs[0])
    assert reference_of(summary[summary["method"] == "mwbp"]) is None


def test_a_corrupt_bench_record_is_named_and_left_out(runs: list[Run], capsys: pytest.CaptureFixture[str]) -> None:
    path = runs[0].path / "bench.json"
    kept = path.read_text() if path.exists() else None
    path.write_text(json.dumps({"rows": []}))
    try:
        assert "latency_ratio_b1" not in rows(runs[:1])
        assert "bench.json is corrupt" in capsys.readouterr().err
    finally:
        path.unlink()
        if kept:
            path.write_text(kept)


def test_children_of_different_parents_are_different_series(runs: list[Run]) -> None:
    config = runs[3].record.config
    other = config | {"reference": config["reference"] | {"precision": "another"}}  # than this machine's
    assert series(Run(runs[3].path, replace(runs[3].record, config=other))) != series(runs[3])


def test_latencies_of_different_sessions_are_not_averaged() -> None:
    shared = {"exit": 1, "exits": 1, "network": "A", "series": "a", "kind": "train", "method": "bp", "recipe": "quick"}
    shared |= ARM
    frame = pd.DataFrame(
        [
            shared | {"epochs": 5, "run": f"a_{seed}", "seed": seed, "test_accuracy": 0.9, "macs": 1,
                      "latency_ratio_b1": ratio, "bench_session": session}
            for seed, ratio, session in ((0, 0.5, "x"), (1, 1.0, "y"))
        ]
    )  # fmt: skip
    assert summarise(frame)[["latency_ratio_b1", "bench_session"]].isna().all(axis=None)
