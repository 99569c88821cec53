"""Running studies: arms tuned alike on validation images, failures named and outlived, two processes at one study."""

import multiprocessing
import multiprocessing.synchronize
import re
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from threading import Event, Thread, Timer
from unittest.mock import Mock, patch

import pytest
from filelock import FileLock

from benchmarks import Setting, plan_study, read_comparison, run_study
from benchmarks.measuring.bench_file import Measurement, write_measurement
from benchmarks.results.rows import rows
from benchmarks.study.graph import Node
from benchmarks.study.outcomes import Outcomes
from benchmarks.study.runner import ROUNDS, Runner, _alone
from compress.data import Dataset
from compress.errors import UsageError
from compress.recipes import Recipe
from compress.runs import InUseError, Run, claimed, finished_runs
from compress.training import execution
from compress.training.loop import Training
from tests.benchmarks.study.conftest import CURVES, DEEP, HEAD, MULTI, Settings

ARMS = f"""
{HEAD.replace("deep", "whole")}
run = [
    {{name = "whole", command = "train", arch = "resnet14"}},
    {{name = "steps", command = "prune", from = "whole", steps = 2, speedup = [1.3, 2]}},
    {{name = "distilled", command = "prune", from = "whole", method = "distilled", nearest = true, speedup = [2, 2.1]}},
    {{name = "scratch", command = "prune", from = "whole", method = "scratch-b", speedup = [1.3, 2]}},
]
"""


@pytest.fixture(scope="module")
def report(made: list[Run], place: Path) -> str:
    return (place / "out" / "report.md").read_text()


def _requested(run: Run) -> tuple[str, float] | None:
    return next(iter(run.record.results.get("requested", {}).items()), None)


def _rate(run: Run) -> float:
    return float(run.record.config["recipe"]["learning_rate"])


def test_every_arm_is_a_run_a_budget_and_seed_by_the_rate_that_was_best_on_validation_images(
    made: list[Run], place: Path, brief: Recipe
) -> None:
    parents = {run.id for run in made if run.record.method == "bp"}
    pruned = [run for run in finished_runs(place / "runs")[0] if run.record.parent in parents]
    trials = [run for run in pruned if run.record.seed == 0 and _requested(run) == ("speedup", 1.5)]
    assert sorted(map(_rate, trials)) == [
        brief.fine_tune_learning_rate,
        pytest.approx(30 * brief.fine_tune_learning_rate),
    ]
    best = max(trials, key=lambda run: (run.exits[-1]["val_accuracy"], -_rate(run)))
    reported = [run for run in made if run.record.parent in parents]
    assert [(run.record.seed, _requested(run)) for run in reported] == [
        (seed, ("speedup", speedup)) for seed in (0, 1) for speedup in (1.5, 2.5)
    ]
    assert {_rate(run) for run in reported} == {_rate(best)}
    assert best.id in [run.id for run in reported]
    assert len(pruned) == len(reported) + 1  # the losing trial; the winner was not run twice


def test_the_trials_are_in_the_report_and_losers_nowhere_else(report: str, made: list[Run], place: Path) -> None:
    assert "### Pruning curves" in report
    section = report[report.index("## Tuning") :]
    assert "| arm | rate x1 | rate x30 | chosen rate, decay |" in section
    [line] = [line for line in section.splitlines() if line.startswith("| l1 at speedup 1.5 |")]
    assert line.count("**") == 2
    assert "| impossible at speedup 1000 | none | none | - |" in section
    losers = {run.id for run in finished_runs(place / "runs")[0]} - {run.id for run in made}
    assert len(losers) == 2
    assert not any(id in report for id in losers)


def test_what_cannot_be_made_is_named_with_its_reason_and_the_rest_goes_on(
    report: str, made: list[Run], place: Path
) -> None:
    failures = read_comparison(place / "out").failures
    assert failures[0].startswith("impossible at speedup 1000, seed 0: ")
    assert "cannot be reached" in failures[0]
    assert "dependent at ratio 0.2, seed 0: impossible did not run" in failures
    assert "dependent at ratio 0.2, seed 1: none of its trials finished" in failures
    assert failures[-1] == "the primary contrast, multi against impossible: one of its networks has no run"
    assert "did not run: dependent at ratio 0.2, seed 0: impossible did not run" in report
    assert len(made) == 2 + 2 + 4 + 2


def test_a_multi_exit_net_is_pruned_with_its_exits_and_to_the_macs_of_one(made: list[Run]) -> None:
    for seed in (0, 1):
        multi, pruned = (
            run for run in made if run.record.method != "bp" and len(run.exits) == 2 and run.record.seed == seed
        )
        assert pruned.record.parent == multi.id
        assert pruned.exits[-1]["macs"] == pytest.approx(multi.exits[0]["macs"], rel=0.01)


def test_started_again_it_finds_all_and_measures_and_reports_the_same(
    settings: Settings, made: list[Run], place: Path
) -> None:
    before = {path: path.stat().st_mtime_ns for path in (place / "runs").glob("*/*")}
    with patch("benchmarks.study.runner.bench") as bench, patch("benchmarks.report.report.write_report") as report:
        again = run_study(settings(CURVES, place / "runs"), out=place / "again")
    assert [run.id for run in again] == [run.id for run in made]
    assert {path: path.stat().st_mtime_ns for path in (place / "runs").glob("*/*")} == before
    assert not bench.called
    assert report.call_args.args[0].failures == read_comparison(place / "out").failures


def test_the_records_of_a_report_count_as_runs_and_what_needs_their_weights_says_so(
    settings: Settings, made: list[Run], place: Path, tmp_path: Path
) -> None:
    shutil.copytree(place / "out" / "runs", tmp_path / "runs")
    new = '{name = "new", command = "prune", from = "deep", ratio = 0.3}'
    text = f"{HEAD}\nseeds = [0, 1]\nrun = [{DEEP}, {MULTI}, {new}]"
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "runs").glob("*/*")}
    again = run_study(settings(text, tmp_path / "runs"), out=tmp_path / "again", timing=False)
    assert {run.id for run in again} == {run.id for run in made if run.record.parent is None}
    assert {path: path.stat().st_mtime_ns for path in before} == before
    failures = read_comparison(tmp_path / "again").failures
    assert [failure.partition(":")[0] for failure in failures] == [f"new at ratio 0.3, seed {seed}" for seed in (0, 1)]
    assert all("a report's records have no weights" in failure for failure in failures)


def test_nothing_is_tuned_without_validation_images(
    settings: Settings, coarse: Dataset, brief: Recipe, tmp_path: Path
) -> None:
    for share in (0.0, 0.001):
        blind = replace(brief, validation=share)
        with pytest.raises(UsageError, match="recipe quick holds out none to tune on: take more"):
            settings(CURVES, tmp_path, recipe=blind)
        settings(CURVES, tmp_path, recipe=blind, dataset=replace(coarse, validation=coarse.test))


def test_without_its_reference_a_study_stops(settings: Settings, tmp_path: Path) -> None:
    impossible = '{name = "deep", command = "prune", arch = "resnet8", speedup = 1000}'
    setting = settings(f"{HEAD}\nrun = [{impossible}]\n[tuning]\nrates = [30, 1]", tmp_path / "runs")
    with pytest.raises(
        UsageError, match=r"reference did not run: deep at speedup 1000, seed 0, rate x30: .* cannot be reached"
    ):
        run_study(setting, out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_an_interruption_is_no_failure_of_one_run(settings: Settings, tmp_path: Path) -> None:
    with (
        patch("benchmarks.study.runner.train", side_effect=KeyboardInterrupt),
        pytest.raises(KeyboardInterrupt, match="0 of 18 runs are done; the same command goes on"),
    ):
        run_study(settings(CURVES, tmp_path / "runs"), out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_all_can_be_tuned_references_too(settings: Settings, reported: Mock, brief: Recipe, tmp_path: Path) -> None:
    """And what was trained is reported where its latency cannot be measured."""
    pruned = '{name = "l1", command = "prune", from = "deep", ratio = 0.3}'
    setting = settings(f"{HEAD}\nrun = [{DEEP}, {pruned}]\n[tuning]\nrates = [0.1, 1]\nall = true", tmp_path)
    with patch("benchmarks.study.runner.bench", side_effect=RuntimeError("out of\nmemory")):
        deep, smaller = run_study(setting, out=tmp_path / "out")
    trained = [run for run in finished_runs(tmp_path)[0] if run.record.kind == "train"]
    assert sorted(map(_rate, trained)) == [pytest.approx(0.1 * brief.learning_rate), brief.learning_rate]
    assert deep.id == max(trained, key=lambda run: (run.exits[-1]["val_accuracy"], -_rate(run))).id
    assert smaller.record.parent == deep.id
    assert reported.call_args.args[0].failures == ["latency: RuntimeError: out of memory"]


def test_int8_is_measured_where_it_is_missing_behind_the_reference(
    settings: Settings, runs: list[Run], measurement: Measurement, tmp_path: Path
) -> None:
    own = [Run(tmp_path / run.id, run.record) for run in runs]
    [row] = measurement.rows
    both = replace(measurement, rows=[row, {**row, "exit": 2}])
    timed = [both if len(run.exits) == 2 else measurement for run in own]
    for run, latency in zip(own, timed, strict=True):
        run.path.mkdir()
        write_measurement(run, latency)
    setting = settings(f'{HEAD}\nint8 = "onnxruntime"\nrun = [{DEEP}]', tmp_path)
    runner = Runner(outcomes=Outcomes(setting=replace(setting, data_dir=tmp_path)), seconds={})
    with patch("benchmarks.study.runner.bench", side_effect=UsageError("no onnx")) as bench:
        runner.measure(own)
        how = {"engine": "onnxruntime", "precision": "int8", "device": "cpu", "rounds": ROUNDS, "data_dir": tmp_path}
        assert bench.call_args.kwargs == how
        for run, latency in zip(own[:3], timed, strict=False):
            write_measurement(run, replace(latency, engine="onnxruntime", precision="int8"))
        runner.measure(own)
        write_measurement(own[3], replace(measurement, engine="onnxruntime", precision="int8"))
        runner.measure(own)
    measured = [[run.id for run in call.args[0]] for call in bench.call_args_list]
    assert measured == [[run.id for run in own], [own[0].id, own[3].id]]
    assert runner.failures == ["int8: no onnx"] * 2


def test_on_a_busy_machine_int8_is_measured_and_nothing_timed_until_it_is_idle(
    settings: Settings, runs: list[Run], measurement: Measurement, tmp_path: Path
) -> None:
    own = [Run(tmp_path / run.id, run.record) for run in runs if len(run.exits) == 1]
    for run in own:
        run.path.mkdir()
    setting = settings(f'{HEAD}\nint8 = "onnxruntime"\nrun = [{DEEP}]', tmp_path)
    runner = Runner(outcomes=Outcomes(setting=setting), seconds={})
    with patch("benchmarks.study.runner.bench", return_value=[]) as bench:
        runner.measure(own, timing=False)
        [untimed] = bench.call_args_list
        assert (untimed.kwargs["precision"], untimed.kwargs["rounds"]) == ("int8", 0)
        for run in own:
            write_measurement(run, replace(measurement, engine="onnxruntime", precision="int8", rounds=0, noise=None))
        runner.measure(own, timing=False)
        assert len(bench.call_args_list) == 1  # all of it is there
        runner.measure(own)
    assert [call.kwargs["rounds"] for call in bench.call_args_list] == [0, ROUNDS, ROUNDS]  # latency, then int8


def test_another_process_that_measures_is_waited_for_aloud(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, held, go = tmp_path / "lock", Event(), Event()

    def other() -> None:
        with FileLock(path):
            held.set()
            go.wait()

    Thread(target=other).start()
    held.wait()
    Timer(0.2, go.set).start()
    with _alone(path):
        assert go.is_set()
    with FileLock(path, timeout=0):
        pass  # it was let go of
    assert "waiting for another process, which measures" in capsys.readouterr().err


def test_what_another_process_holds_is_not_attempted_until_it_lets_go(
    tmp_path: Path, settings: Settings, reported: Mock, monkeypatch: pytest.MonkeyPatch
) -> None:
    make, held, holding, go = Runner._make, tmp_path / "held", Event(), Event()
    attempts: list[Node] = []

    def other() -> None:
        with claimed(held):
            holding.set()
            go.wait()

    def refused_at_first(runner: Runner, node: Node) -> Run:
        attempts.append(node)
        if len(attempts) == 1:
            Thread(target=other).start()
            holding.wait()
            Timer(1, go.set).start()
            raise InUseError(held)
        return make(runner, node)

    monkeypatch.setattr("benchmarks.study.runner.PATIENCE", 0.1)
    monkeypatch.setattr(Runner, "_make", refused_at_first)
    run_study(settings(f"{HEAD}\nrun = [{DEEP}]", tmp_path / "runs"), out=tmp_path / "out")
    assert len(attempts) == 2


def test_an_arm_is_one_line_whatever_its_budgets_entail(settings: Settings, reported: Mock, tmp_path: Path) -> None:
    """Parents pruned to steps of their own, shallower nets, and epochs that depend on the budget."""
    made = run_study(settings(ARMS, tmp_path), out=tmp_path / "out")
    assert reported.call_args.args[0].failures == []
    frame = rows(made).set_index("run")
    assert frame.groupby("arm")["arm_key"].nunique().to_dict() == {
        **dict.fromkeys(("bp", "l1 in 2 steps", "distilled", "scratch-b of l1"), 1)
    }
    assert frame.groupby("arm_key").size().tolist().count(2) == 3


def _first(setting: Setting, out: Path, begun: multiprocessing.synchronize.Event, go: Event) -> None:
    """A study that stays in its first run, which it holds, until it may go on."""
    write = execution._write_metrics

    def held(run: Run, training: Training) -> None:
        begun.set()
        assert go.wait(300)
        write(run, training)

    with (
        patch.object(execution, "_write_metrics", held),
        patch("benchmarks.study.runner.bench"),
        patch("benchmarks.report.report.write_report"),
    ):
        out.write_text(" ".join(run.id for run in run_study(setting, out=out)))


def test_two_processes_at_one_study_share_its_runs(
    settings: Settings,
    reported: Mock,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    pruned = '{name = "l1", command = "prune", from = "deep", match = "multi:1"}'
    setting = settings(f"{HEAD}\nrun = [{DEEP}, {MULTI}, {pruned}]", tmp_path / "runs")
    context = multiprocessing.get_context("spawn")
    begun, go = context.Event(), context.Event()
    process = context.Process(target=_first, args=(setting, tmp_path / "first", begun, go))
    wait = Runner._wait

    def waiting(runner: Runner, held: Mapping[Node, Path]) -> dict[Node, Path]:
        """By now all that does not need the run held has been made here."""
        made = [str(node) for node in runner.outcomes.runs]
        assert made == ["multi, seed 0"] or go.is_set()
        go.set()
        return wait(runner, held)

    monkeypatch.setattr(Runner, "_wait", waiting)
    process.start()
    try:
        assert begun.wait(300)
        made = [run.id for run in run_study(setting, out=tmp_path)]
    finally:
        go.set()
        process.join()
    assert process.exitcode == 0
    assert made == (tmp_path / "first").read_text().split()
    err = capsys.readouterr().err
    assert f"deep, seed 0: left to the process that holds {setting.place.runs / made[0]}" in err
    assert f"waiting for another process, which makes {made[0]}" in err
    assert "did not run" not in err
    assert err.startswith("A study of a test.\n")
    assert "\n3 runs, 0 finished, 3 left: about " in err
    begun_here = [line for line in err.splitlines() if line.startswith("[")]
    assert re.match(r"\[1/3\] deep, seed 0; about .*, a guess, left for all$", begun_here[0])
    assert re.match(r"\[\d/3\] .*, seed 0; about [^,]* left for all$", begun_here[-1])
    assert plan_study(setting).summary().startswith("3 runs, 3 finished, 0 left; ")
