"""The recorder: one command measures all runs of a directory, and lists what it cannot measure."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from benchmarks.engines import engine_named
from benchmarks.measurements import read_measurements
from compress.runs import Run, read_run

CPU = torch.device("cpu")
Command = Callable[..., tuple[int, str, str]]


@pytest.fixture
def report(runs: list[Run], tmp_path: Path) -> Path:
    """Records as a report has them: of one run the weights are missing, of another what it was is."""
    for run in (runs[1], runs[0], runs[3]):
        shutil.copytree(run.path, tmp_path / "runs" / run.id)
    (tmp_path / "runs" / runs[3].id / "model.safetensors").unlink()
    (tmp_path / "runs" / "foreign").mkdir()
    return tmp_path


def test_all_runs_with_weights_are_measured_and_the_rest_is_listed(
    report: Path, runs: list[Run], compress: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    # An engine that cannot run here stands for one that fails half-way.
    here = [(engine_named("eager"), "fp32"), (engine_named("cudagraphs"), "fp32"), (engine_named("eager"), "int8")]
    monkeypatch.setattr("benchmarks.recorder.engines_here", lambda device: here)
    monkeypatch.setattr(
        type(engine_named("cudagraphs")), "prepare", lambda *given: engine_named("cudagraphs").check("fp32", CPU)
    )
    options = ["--all", report, "--device", "cpu", "--batch-size", "2", "--rounds", "2", "--json"]
    status, out, err = compress("bench", *options)
    assert status == 0, err
    document = json.loads(out)
    measured = runs[:2]
    assert {(row["run"], row["engine"]) for row in document["rows"]} == {(run.id, "eager") for run in measured}
    skipped = "\n".join(document["skipped"])
    assert f"run {runs[3].id}: no model.safetensors here" in skipped
    assert "foreign: no run.json there" in skipped
    assert "int8: " in skipped  # the data set of these tests has no name
    assert "cudagraphs fp32 on cpu: engine cudagraphs runs on cuda" in skipped
    assert "2 measurements of 3 networks: very roughly" in err
    for run in measured:
        [one] = read_measurements(read_run(report / "runs" / run.id))
        assert one.reference == {"run": runs[0].id, "exit": 1}  # the costliest by plain BP, whatever its place


def test_runs_and_all_exclude_one_another_and_nothing_to_measure_is_said(
    refused: Callable[..., str], tmp_path: Path
) -> None:
    assert "leave out runs, --engine" in refused("bench", "a", "--all", tmp_path)
    assert "no finished run with weights" in refused("bench", "--all", tmp_path)
