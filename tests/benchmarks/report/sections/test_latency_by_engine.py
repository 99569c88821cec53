"""Latency by engine: a row a network and engine, a table a machine, and what a report says of noise and sessions."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks import Comparison, write_report
from benchmarks.measuring.bench_file import Calibration, Measurement, write_measurement
from benchmarks.report.group import Group
from benchmarks.report.sections.latency_by_engine import NO_GPU, NOISE, latency_section
from compress.runs import Run
from tests.benchmarks.report.conftest import table_of, texts_of


@pytest.fixture
def own(runs: list[Run], tmp_path: Path) -> list[Run]:
    """Two of the runs, with a directory each to measure into."""
    found = [Run(tmp_path / run.id, run.record) for run in (runs[0], runs[3])]
    for run in found:
        run.path.mkdir()
    return found


def test_the_section_has_a_row_a_network_and_engine(
    own: list[Run], measurement: Measurement, grouped: Callable[..., Group]
) -> None:
    assert latency_section(grouped(own)) is None
    eager = replace(measurement, reference={"run": own[0].id, "exit": 1})
    for run in own:
        write_measurement(run, eager)
    calibration: Calibration = {"part": "calibration", "images": 500, "weight_bits": 7}
    [row] = measurement.rows
    int8 = replace(eager, engine="openvino", precision="int8", calibration=calibration, noise=0.1, noisy=True)
    write_measurement(own[1], replace(int8, rows=[row | {"test_accuracy": 0.8765}]))
    group = grouped(own)
    section = latency_section(group)
    reference, pruned = group.summary["network"]
    ratio = "0.50x [0.45, 0.55]"
    assert [list(cells.values()) for cells in table_of(section)] == [
        [reference, "eager fp32", "2.00", ratio, "-"],
        [pruned, "eager fp32", "2.00", ratio, "-"],
        [pruned, "openvino int8\\*", "2.00", ratio, "87.65"],
    ]
    texts = texts_of(section)
    assert texts[0] == f"**a CPU (cpu), 1 thread(s)**; reference: {reference}."
    assert any("the same for all (500 calibration images, weights of 7 bits); " in text for text in texts)
    assert texts[-2:] == [f"\\*: noisy: {NOISE}.", NO_GPU]


def test_a_gpu_has_a_table_of_its_own(own: list[Run], measurement: Measurement, grouped: Callable[..., Group]) -> None:
    write_measurement(own[0], measurement)
    on_gpu = replace(measurement, device="cuda", environment=measurement.environment | {"gpu": "a GPU"})
    write_measurement(own[0], replace(on_gpu, session="t"))
    assert texts_of(latency_section(grouped(own[:1]))) == [
        "**a CPU (cpu), 1 thread(s)**; reference: `r`.",
        "**a GPU (cuda)**; reference: `r`.",
    ]


def test_a_report_says_where_noisily_and_in_how_many_sessions_latency_was_measured(
    runs: list[Run], tmp_path: Path, measurement: Measurement
) -> None:
    seeds = [Run(tmp_path / run.id, run.record) for run in runs[1:3]]
    [row] = measurement.rows
    noisy = replace(measurement, noise=0.1, noisy=True, rows=[row, row | {"exit": 2}])
    for run, session in zip(seeds, "st", strict=True):
        run.path.mkdir()
        write_measurement(run, replace(noisy, session=session))
        write_measurement(run, replace(noisy, session=session, device="cuda"))
    text = " ".join(write_report(Comparison(runs=seeds), tmp_path / "apart").read_text().split())
    assert "Seeds of different sessions have no mean and are left out." in text
    assert NO_GPU not in text
    write_measurement(seeds[1], noisy)
    text = " ".join(write_report(Comparison(runs=seeds), tmp_path / "together").read_text().split())
    assert f"**These latencies are noisy**: {NOISE}." in text
