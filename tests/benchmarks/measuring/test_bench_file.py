"""The bench file: several measurements in one file, and one set of conditions chosen to stand for all runs."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.measuring.bench_file import Measurement, primary_conditions, read_measurements, write_measurement
from benchmarks.results.rows import rows
from compress.runs import Run


@pytest.fixture
def run(runs: list[Run], tmp_path: Path) -> Run:
    """A run with a directory of its own to measure into."""
    return Run(tmp_path, runs[0].record)


@pytest.fixture
def by_openvino(measurement: Measurement) -> Measurement:
    return replace(measurement, engine="openvino", precision="int8")


@pytest.fixture
def on_gpu(measurement: Measurement) -> Measurement:
    return replace(measurement, device="cuda", environment=measurement.environment | {"gpu": "a GPU"})


def test_a_measurement_replaces_that_of_the_same_conditions_and_keeps_the_others(
    run: Run, measurement: Measurement, by_openvino: Measurement
) -> None:
    elsewhere = replace(measurement, environment=measurement.environment | {"cpu": "another CPU"})
    again = replace(measurement, session="t")
    for each in (by_openvino, measurement, replace(measurement, threads=2), again, elsewhere):
        write_measurement(run, each)
    assert [(each.engine, each.threads, each.session, each.environment["cpu"]) for each in read_measurements(run)] == [
        ("eager", 1, "t", "a CPU"),
        ("eager", 1, "s", "another CPU"),
        ("eager", 2, "s", "a CPU"),
        ("openvino", 1, "s", "a CPU"),
    ]
    assert read_measurements(run)[0] == again
    assert json.loads((run.path / "bench.json").read_text())["schema"] == 2


def test_what_timed_nothing_never_replaces_what_did(run: Run, measurement: Measurement) -> None:
    untimed = replace(measurement, rounds=0, noise=None, session="u")
    write_measurement(run, untimed)
    assert (read_measurements(run), read_measurements(run, untimed=True)) == ([], [untimed])
    for each in (measurement, untimed):
        write_measurement(run, each)
        assert read_measurements(run) == read_measurements(run, untimed=True) == [measurement]


def test_a_gpu_is_the_same_with_its_number_and_without(run: Run, on_gpu: Measurement) -> None:
    for device in ("cuda", "cuda:0"):
        write_measurement(run, replace(on_gpu, device=device))
    [found] = read_measurements(run)
    assert found.device == "cuda:0"
    assert str(found.conditions) == "eager, fp32, cuda, 1 thread(s)"


def test_the_conditions_that_most_runs_share_stand_for_all(
    runs: list[Run], tmp_path: Path, measurement: Measurement, by_openvino: Measurement, on_gpu: Measurement
) -> None:
    drawn = replace(measurement, drawn=True)
    for measured, expected in (
        ([[on_gpu, by_openvino, measurement], [by_openvino, measurement]], measurement),
        ([[on_gpu, by_openvino, measurement], [by_openvino, on_gpu]], on_gpu),  # int8 last, though on a CPU
        ([[drawn, by_openvino], [drawn, by_openvino]], by_openvino),
        ([[drawn], [drawn]], measurement),
    ):
        assert primary_conditions(measured) == expected.conditions
    assert primary_conditions([[], []]) is None
    pair = [Run(tmp_path / run.id, run.record) for run in (runs[0], runs[3])]
    for run in pair:
        run.path.mkdir()
        write_measurement(run, measurement)
    write_measurement(pair[1], by_openvino)
    assert rows(pair)["latency_conditions"].tolist() == ["eager, fp32, cpu, 1 thread(s)"] * 2
