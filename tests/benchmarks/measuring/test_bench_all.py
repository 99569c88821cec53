"""The recorder: one command measures all runs of a directory, and lists what it cannot measure."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks.measuring.bench_all import bench_all
from benchmarks.measuring.bench_file import read_measurements
from benchmarks.measuring.costs_file import read_costs
from benchmarks.measuring.engines import engine_named
from compress.runs import COMPARISON, COSTS, RECORDS, Run, read_run

Command = Callable[..., tuple[int, str, str]]


@pytest.fixture
def report(runs: list[Run], tmp_path: Path) -> Path:
    """Runs, of which one has no weights, one those of another network, and of one it is not known what it was."""
    for run in runs:
        shutil.copytree(run.path, tmp_path / "runs" / run.id, ignore=shutil.ignore_patterns(COSTS))
    (tmp_path / "runs" / runs[3].id / "model.safetensors").unlink()
    shutil.copy(runs[0].path / "model.safetensors", tmp_path / "runs" / runs[2].id)
    (tmp_path / "runs" / "foreign").mkdir()
    return tmp_path


def test_all_runs_with_weights_are_measured_and_the_rest_is_listed(
    report: Path, runs: list[Run], compress: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    # An engine that cannot run here stands for one that fails half-way; its error is torch's, no user's.
    here = [(engine_named("eager"), "fp32"), (engine_named("cudagraphs"), "fp32"), (engine_named("eager"), "int8")]
    monkeypatch.setattr("benchmarks.measuring.bench_all.engines_here", lambda device: here)
    monkeypatch.setattr(
        "benchmarks.measuring.engines.CudaGraphs.prepare", lambda *given: torch.zeros(1) @ torch.zeros(2)
    )
    monkeypatch.setattr(
        "benchmarks.measuring.costs_file.measured_costs", lambda spec, *_: [{"activations": 1}] * len(spec.exits)
    )
    options = ["--all", report, "--device", "cpu", "--batch-size", "2", "--rounds", "2", "--json"]
    status, out, err = compress("bench", *options)
    assert status == 0, err
    document = json.loads(out)
    measured = runs[:2]
    assert {(row["run"], row["engine"]) for row in document["rows"]} == {(run.id, "eager") for run in measured}
    skipped = "\n".join(document["skipped"])
    assert f"run {runs[3].id}: no model.safetensors there" in skipped
    assert f"run {runs[2].id}: model.safetensors is corrupt or does not fit" in skipped
    assert "foreign: no run.json there" in skipped
    assert "int8: " in skipped  # the data set of these tests has no name
    assert "cudagraphs fp32 on cpu: RuntimeError: inconsistent tensor size" in skipped
    assert "[1/2] eager fp32 on cpu, 3 networks" in err
    for run in (read_run(report / "runs" / run.id) for run in measured):
        [measurement] = read_measurements(run)
        assert measurement.reference == {"run": runs[0].id, "exit": 1}  # the costliest by plain BP, whatever its place
        assert not measurement.drawn
        assert read_costs(run)[-1]["activations"] == 1


def test_a_reports_records_are_timed_without_their_weights(
    report: Path, runs: list[Run], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    here = [(engine_named("eager"), "fp32"), (engine_named("eager"), "bf16"), (engine_named("onnxruntime"), "int8")]
    monkeypatch.setattr("benchmarks.measuring.bench_all.engines_here", lambda device: here)
    monkeypatch.setattr("benchmarks.measuring.costs_file.measured_costs", lambda spec, *_: [{}] * len(spec.exits))
    for weights in report.glob("runs/*/model.safetensors"):
        weights.unlink()
    nothing: dict[str, Any] = {"runs": [], "title": "", "about": "", "primary": None, "trials": [], "failures": []}
    (report / COMPARISON).write_text(json.dumps(nothing | {"schema_version": 1, "reference": runs[3].id}))
    done = bench_all(report / RECORDS, batch_sizes=(2,), rounds=1, device="cpu")
    assert [(row["run"], row["precision"]) for row in done.rows[::6]] == [(runs[3].id, "fp32"), (runs[3].id, "bf16")]
    assert [line for line in done.skipped if "foreign" not in line] == []
    assert "4 record(s) without weights: timed with weights just drawn, and not in int8" in capsys.readouterr().err
    for run in runs:
        for measurement in read_measurements(read_run(report / RECORDS / run.id)):
            assert measurement.drawn
            assert measurement.reference == {"run": runs[3].id, "exit": 1}  # the report's own
            assert ("bytes" in measurement.rows[0]) == (measurement.precision == "fp32")


def test_runs_and_all_exclude_one_another_and_nothing_to_measure_is_said(
    refused: Callable[..., str], tmp_path: Path
) -> None:
    assert "leave out runs, --engine" in refused("bench", "a", "--all", tmp_path)
    assert "no finished run with weights" in refused("bench", "--all", tmp_path)
