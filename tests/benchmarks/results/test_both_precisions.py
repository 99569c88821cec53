"""Both precisions: int8 beside fp32, with intervals over seeds, where and as bench measured it."""

import copy
import math
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.measuring.bench_file import Measurement, Row, write_measurement
from benchmarks.results.both_precisions import both_precisions, measured_in_int8
from benchmarks.results.rows import summarise
from compress.ensemble_exit import ENSEMBLE, ExitName
from compress.runs import Run
from tests.benchmarks.results.test_rows import frame


def _without_sizes(measurement: Measurement) -> list[Row]:
    """The rows as an earlier version measured them in int8."""
    rows = copy.deepcopy(measurement.rows)
    for row in rows:
        del row["bytes"]
    return rows


def test_int8_has_its_own_interval_and_its_change_is_paired_by_seed(measurement: Measurement) -> None:
    """Changes of -1, -2 and -3 points: by hand their standard deviation is 1, and 4.303 the 97.5% point of t."""
    fp32, changes = (0.90, 0.92, 0.91), (-0.01, -0.02, -0.03)
    [row] = _without_sizes(measurement)
    measured: dict[tuple[str, ExitName], Row] = {}
    for seed, (accuracy, change) in enumerate(zip(fp32, changes, strict=True), start=1):
        measured[f"a_{seed}", 1] = row | {"test_accuracy": accuracy + change}
        if seed < 3:
            measured[f"a_{seed}", 1] |= {"bytes": 30, "fp32_bytes": 90}
    whole = frame(*({"seed": seed, "test_accuracy": accuracy} for seed, accuracy in enumerate(fp32)))
    points = both_precisions(summarise(whole), whole, measured, images=10_000)
    assert points["precision"].tolist() == ["fp32", "int8"]
    assert points["test_accuracy"].tolist() == pytest.approx([0.91, 0.89])
    assert points["bytes"].tolist() == [90, 30]
    int8, half = points.iloc[1], 4.303 * 0.01 / 3**0.5
    assert int8["test_accuracy_half_width"] == pytest.approx(4.303 * 0.01 / 3**0.5, rel=1e-3)  # 0.89, 0.90, 0.88
    assert (int8["n"], int8["change"]) == (3, pytest.approx(-0.02))
    assert (int8["change_low"], int8["change_high"]) == pytest.approx((-0.02 - half, -0.02 + half), rel=1e-3)


def test_an_exit_that_was_not_measured_has_no_row_in_int8(measurement: Measurement) -> None:
    [row] = _without_sizes(measurement)
    every = frame({}, {"exit": ENSEMBLE, "run": "a_1"}, {"series": "b", "network": "B"})
    measured: dict[tuple[str, ExitName], Row] = {("a_1", ENSEMBLE): row | {"test_accuracy": 0.8}}
    points = both_precisions(summarise(every), every, measured, images=100)
    assert list(zip(points["network"], points["exit"], points["precision"], strict=True)) == [
        ("A", 1, "fp32"), ("A", ENSEMBLE, "fp32"), ("B", 1, "fp32"), ("A", ENSEMBLE, "int8"),
    ]  # fmt: skip
    assert points["bytes"].isna().all()
    assert math.isinf(points["change_low"].iloc[-1])


def test_of_several_engines_the_one_that_measured_most_runs_counts(
    runs: list[Run], measurement: Measurement, tmp_path: Path
) -> None:
    own = [Run(tmp_path / run.id, run.record) for run in (runs[0], runs[3])]
    assert measured_in_int8(own) == ({}, None)
    [row] = measurement.rows
    for number, run in enumerate(own):
        run.path.mkdir()
        write_measurement(run, measurement)
        for engine in ("onnxruntime", "openvino")[number:]:
            accuracy = {"onnxruntime": 0.1, "openvino": 0.2}[engine]
            rows = [row | {"test_accuracy": accuracy}]
            untimed = replace(measurement, engine=engine, precision="int8", rows=rows, rounds=0)  # which is enough
            write_measurement(run, untimed)
    measured, conditions = measured_in_int8(own)
    assert str(conditions) == "openvino, int8, cpu, 1 thread(s)"
    assert {key: found["test_accuracy"] for key, found in measured.items()} == {(run.id, 1): 0.2 for run in own}
