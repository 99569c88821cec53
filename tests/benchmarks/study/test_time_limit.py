"""Limits of time: nothing is begun that would not end, what is under way is kept, and what is done is reported."""

from pathlib import Path
from unittest.mock import Mock

import pytest
import torch

from benchmarks import run_study
from benchmarks.study.graph import Node
from benchmarks.study.runner import Runner
from compress.recipes import Recipe
from compress.runs import Run, load
from compress.training import execution
from compress.training.loop import Training
from tests.benchmarks.study.conftest import DEEP, HEAD, MULTI, Settings


class Clock:
    """A clock that a test sets."""

    now = 0.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The clock of time limits, which stands still; a run is guessed to take 10 seconds."""
    clock = Clock()
    for module in ("benchmarks.study.runner.time", "compress.training.deadline.time"):
        monkeypatch.setattr(module, clock)
    monkeypatch.setattr("benchmarks.study.dry_run.seconds_left", lambda _, left: dict.fromkeys(left, 10.0))
    return clock


def test_no_run_is_begun_that_would_not_end_within_the_limit(
    settings: Settings, reported: Mock, clock: Clock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make = Runner._make

    def slow(runner: Runner, node: Node) -> Run:
        clock.now += 30  # three times what was guessed
        return make(runner, node)

    monkeypatch.setattr(Runner, "_make", slow)
    setting = settings(f'{HEAD}\nprimary = ["multi", "deep"]\nrun = [{DEEP}, {MULTI}]', tmp_path / "runs")
    assert run_study(setting, out=tmp_path, time_limit=12) == []  # a fifth is kept back, and 9.6 are too few
    assert not reported.called
    [deep] = run_study(setting, out=tmp_path, time_limit=70)  # 56 in all, and 26 are too few for another one
    comparison = reported.call_args.args[0]
    assert (comparison.runs, comparison.reference) == ([deep], deep.id)
    assert comparison.failures == [
        "the primary contrast, multi against deep: one of its networks has no run",
        "multi, seed 0: the time limit came before it",
    ]
    reported.reset_mock()
    assert len(run_study(setting, out=tmp_path, time_limit=10, report=False)) == 2  # what is left takes the whole of it
    assert not reported.called
    run_study(setting, out=tmp_path)
    assert reported.call_args.args[0].failures == []


def test_what_comes_first_is_reported_without_its_reference(
    settings: Settings, reported: Mock, clock: Clock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "benchmarks.study.dry_run.seconds_left",
        lambda _, left: {node: 1.0 if node.entry.name == "multi" else 1e9 for node in left},
    )
    setting = settings(f"{HEAD}\nrun = [{DEEP}, {MULTI}]", tmp_path / "runs")
    [multi] = run_study(setting, out=tmp_path, time_limit=60)
    assert multi.record.method == "mwbp"
    assert reported.call_args.args[0].reference is None


def test_a_run_under_way_stops_after_its_epoch_and_goes_on_later(
    settings: Settings, reported: Mock, brief: Recipe, clock: Clock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write, text, recipe = execution._write_metrics, f"{HEAD}\nrun = [{DEEP}]", brief.changed(epochs=3)

    def late(run: Run, training: Training) -> None:
        clock.now += 9
        write(run, training)

    monkeypatch.setattr(execution, "_write_metrics", late)
    stopped = settings(text, tmp_path / "stopped", recipe=recipe)
    assert run_study(stopped, out=tmp_path, time_limit=20) == []
    [path] = (tmp_path / "stopped").iterdir()
    assert len((path / "metrics.jsonl").read_text().splitlines()) == 2
    assert (path / "checkpoint").is_dir()
    [run] = run_study(stopped, out=tmp_path)
    [whole] = run_study(settings(text, tmp_path / "whole", recipe=recipe), out=tmp_path)
    assert run.path == path
    weights = [load(each).state_dict() for each in (run, whole)]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[1])
    assert run.exits == whole.exits
