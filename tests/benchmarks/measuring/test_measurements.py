"""Measurements as they are kept: several in a file, old files read, one chosen to stand for a run, tables of all."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from benchmarks.report.sections.latency_tables import NO_GPU, NOISE, latency_section

from benchmarks import Comparison, write_report
from benchmarks.measuring.measurements import Measurement, primary_conditions, read_measurements, write_measurement
from benchmarks.results.rows import rows, summarise
from compress.runs import Run

ROW = {"exit": 1, "macs": 10, "params": 5, "bytes": 20, "batch_size": 1, "seconds": [0.001, 0.002, 0.003],
       "ratio": [0.4, 0.5, 0.6], "ratio_interval": [0.45, 0.55], "deviation": 1e-7}  # fmt: skip
FIRST = Measurement(
    session="s",
    engine="eager",
    precision="fp32",
    device="cpu",
    threads=1,
    rounds=9,
    reference={"run": "r", "exit": 1},
    noise=0.01,
    environment={"cpu": "a CPU", "gpu": None, "device": "cpu"},
    rows=[ROW],
)
OTHER = replace(
    FIRST,
    engine="openvino",
    precision="int8",
    calibration={"part": "calibration", "images": 500, "weight_bits": 7},
    rows=[ROW | {"test_accuracy": 0.8765}],
)


@pytest.fixture
def own(runs: list[Run], tmp_path: Path) -> list[Run]:
    """Two of the runs, with a directory each to measure into."""
    found = [Run(tmp_path / run.id, run.record) for run in (runs[0], runs[3])]
    for run in found:
        run.path.mkdir()
    return found


def test_a_measurement_replaces_that_of_the_same_conditions_and_keeps_the_others(own: list[Run]) -> None:
    run = own[0]
    for one in (OTHER, FIRST, replace(FIRST, threads=2), replace(FIRST, session="t")):
        write_measurement(run, one)
    elsewhere = replace(FIRST, environment=FIRST.environment | {"cpu": "another CPU"})
    write_measurement(run, elsewhere)
    found = read_measurements(run)
    assert [(one.engine, one.threads, one.session, one.environment["cpu"]) for one in found] == [
        ("eager", 1, "t", "a CPU"),
        ("eager", 1, "s", "another CPU"),
        ("eager", 2, "s", "a CPU"),
        ("openvino", 1, "s", "a CPU"),
    ]
    assert json.loads((run.path / "bench.json").read_text())["schema"] == 2


def test_a_gpu_is_the_same_with_its_number_and_without(own: list[Run]) -> None:
    for device in ("cuda", "cuda:0"):
        write_measurement(own[0], replace(FIRST, device=device, environment=FIRST.environment | {"gpu": "a GPU"}))
    [one] = read_measurements(own[0])
    assert one.device == "cuda:0"
    assert str(one.conditions) == "eager, fp32, cuda, 1 thread(s)"


def test_a_file_of_the_first_schema_is_one_measurement_by_eager(own: list[Run]) -> None:
    old: dict[str, Any] = {
        "session": "s", "reference": {"run": "r", "exit": 1}, "engine": "eager", "precision": "fp32", "threads": 1,
        "rounds": 9, "environment": FIRST.environment,
        "rows": [{key: ROW[key] for key in ("exit", "macs", "params", "bytes", "batch_size", "seconds", "ratio")}],
    }  # fmt: skip
    (own[0].path / "bench.json").write_text(json.dumps(old))
    [found] = read_measurements(own[0])
    assert found.conditions == FIRST.conditions
    assert found.noise is None
    assert rows(own[:1])["latency_ratio_b1"].tolist() == [0.5]
    write_measurement(own[0], OTHER)
    assert len(read_measurements(own[0])) == 2


def test_what_most_runs_share_stands_for_all(own: list[Run]) -> None:
    gpu = replace(FIRST, device="cuda", environment=FIRST.environment | {"gpu": "a GPU"})
    assert primary_conditions([[gpu, OTHER, FIRST], [OTHER, FIRST]]) == FIRST.conditions
    assert primary_conditions([[gpu, OTHER, FIRST], [OTHER, gpu]]) == OTHER.conditions
    assert primary_conditions([[], []]) is None
    drawn = replace(FIRST, drawn=True)
    assert primary_conditions([[drawn, OTHER], [drawn, OTHER]]) == OTHER.conditions
    assert primary_conditions([[drawn], [drawn]]) == FIRST.conditions
    write_measurement(own[0], FIRST)
    write_measurement(own[1], FIRST)
    write_measurement(own[1], replace(OTHER, rows=[ROW | {"ratio": [0.1, 0.2, 0.3]}]))
    frame = rows(own)
    assert frame["latency_ratio_b1"].tolist() == [0.5, 0.5]
    assert frame["latency_conditions"].tolist() == ["eager, fp32, cpu, 1 thread(s)"] * 2


def test_the_section_has_a_row_a_network_and_engine(own: list[Run]) -> None:
    assert latency_section(own, summarise(rows(own))) == []
    for run in own:
        write_measurement(run, replace(FIRST, reference={"run": own[0].id, "exit": 1}))
    write_measurement(own[1], replace(OTHER, reference={"run": own[0].id, "exit": 1}, noise=0.1, noisy=True))
    summary = summarise(rows(own))
    parts = latency_section(own, summary)
    reference, pruned = summary["network"]
    assert f"**a CPU (cpu), 1 thread(s)**; reference: {reference}." in parts
    [table] = [part for part in parts if part.startswith("|")]
    assert table.splitlines()[2:] == [
        f"| {reference} | eager fp32 | 2.00 | 0.50x [0.45, 0.55] | - | not measured |",
        f"| {pruned} | eager fp32 | 2.00 | 0.50x [0.45, 0.55] | - | not measured |",
        f"| {pruned} | openvino int8* | 2.00 | 0.50x [0.45, 0.55] | 87.65 | not measured |",
    ]
    assert f"*: noisy: {NOISE}." in parts
    assert "the same for all (500 calibration images, weights of 7 bits); its" in "\n".join(parts)
    assert parts[-1] == NO_GPU


def test_a_report_says_where_noisily_and_in_how_many_sessions_latency_was_measured(
    runs: list[Run], tmp_path: Path
) -> None:
    seeds = [Run(tmp_path / run.id, run.record) for run in runs[1:3]]
    noisy = replace(FIRST, noise=0.1, noisy=True, rows=[ROW, ROW | {"exit": 2}])
    for run, session in zip(seeds, "st", strict=True):
        run.path.mkdir()
        write_measurement(run, replace(noisy, session=session))
        write_measurement(run, replace(noisy, session=session, device="cuda"))
    text = write_report(Comparison(runs=seeds), tmp_path / "apart").read_text()
    assert "Seeds of different sessions have no mean and are left out." in text
    assert "ratio, batch 1" not in text[: text.index("### Latency by engine")]
    assert "- Latency was measured on a CPU (cpu) and a CPU (cuda) alone, with eager fp32: " in text
    assert "on a GPU" not in text
    write_measurement(seeds[1], noisy)
    text = write_report(Comparison(runs=seeds), tmp_path / "together").read_text()
    assert f"**These latencies are noisy**: {NOISE}." in text
    assert "- Noisy latencies, of which small differences mean nothing: eager, fp32, cpu, 1 thread(s); " in text


def test_a_gpu_has_a_table_of_its_own(own: list[Run]) -> None:
    write_measurement(own[0], FIRST)
    measured = replace(FIRST, device="cuda", session="t", environment=FIRST.environment | {"gpu": "a GPU"})
    write_measurement(own[0], measured)
    parts = latency_section(own[:1], pd.DataFrame(summarise(rows(own[:1]))))
    assert [part for part in parts if part.startswith("**")] == [
        "**a CPU (cpu), 1 thread(s)**; reference: `r`.",
        "**a GPU (cuda)**; reference: `r`.",
    ]
    assert NO_GPU not in parts
