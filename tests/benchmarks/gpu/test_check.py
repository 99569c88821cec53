"""The check as a command: what it refuses, what stands in for missing data, and what is left when it is interrupted."""

import dataclasses
import json
import subprocess
import sys
import time
import zipfile
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from benchmarks.gpu import check, latency_worker, speed_worker
from benchmarks.gpu.__main__ import main
from benchmarks.gpu.check import Check
from benchmarks.gpu.check_setting import TRYOUT, Wanted
from benchmarks.gpu.stage import STAGES, Stage
from benchmarks.gpu.untrained import lend_latencies, untrained
from benchmarks.measuring.bench_file import Measurement, read_measurements, write_measurement
from benchmarks.measuring.engines import Engine
from benchmarks.measuring.latency import Session
from benchmarks.speed.speed_setup import Setup
from benchmarks.study.outcomes import Outcomes
from benchmarks.study.runner import Runner
from benchmarks.study.study import read_study
from compress.data import catalogue
from compress.errors import UsageError
from compress.networks import create
from compress.runs import Run, read_run
from compress.training.batchnorm import steps_to_settle


@pytest.fixture
def nothing_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No data set is here."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("COMPRESS_DATA", raising=False)
    monkeypatch.setattr(catalogue, "DEBIAN", tmp_path / "nowhere")


def wanted(out: Path, **given: Any) -> Wanted:
    return Wanted(**{"device_name": "cpu", "study_name": None, "data_dir": None, **given}, out=out)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--minutes", "0"], "'0': minutes, from 0.5 to 1440"),
        (["--minutes", "many"], "'many': minutes, from 0.5 to 1440"),
        (["--first-seed", "-1"], "'-1': a whole number from 0 on, below 10 to the 9th"),
        (["--stages", "sleep"], "invalid choice: 'sleep'"),
        (["--device", "gpu"], "gpu: device 'gpu' is not available here"),
        (["--device", "cpu", "--study", "headlin"], "did you mean 'headline'?"),
        (["--device", "cpu", "--study", "headline", "--data-dir", "nowhere"], "--data-dir nowhere is not a folder"),
        (["--device", "cpu", "--study", "headline", "--data-dir", "."], "cifar10 is not in ., "),
    ],
)
def test_mistakes_are_refused_in_one_line_and_leave_nothing(
    arguments: list[str],
    message: str,
    nothing_here: None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    try:
        status = main(arguments)
    except SystemExit as refused:
        status = int(str(refused.code))
    assert status == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert message in err.splitlines()[-1]
    assert not list(tmp_path.iterdir())


def test_an_old_torch_is_refused_before_anything_fails_by_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("benchmarks.gpu.__main__.version", lambda package: "2.9.1+cu128")
    assert main([]) == 2
    assert capsys.readouterr().err == "gpu: torch 2.9.1+cu128 is too old: 2.11 or later is needed\n"


def test_help_imports_no_torch() -> None:
    program = "import sys; from benchmarks.gpu.__main__ import parsed; parsed([]); print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=check.ROOT)
    assert done.stdout == "False\n", done.stderr


def test_the_try_out_stands_in_where_the_headline_cannot_run(
    nothing_here: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    on_cpu = wanted(tmp_path)
    assert on_cpu.note is not None
    assert on_cpu.note.startswith("headline takes days on a CPU: the try-out on the bundled images runs instead")
    assert on_cpu.study == read_study(str(TRYOUT))
    assert on_cpu.setting().dataset.name == "fashion-mini"

    monkeypatch.setattr("benchmarks.gpu.check_setting.resolve_device", lambda _: SimpleNamespace(type="cuda"))
    without_data, with_data = wanted(tmp_path), wanted(tmp_path, data_dir=str(tmp_path))
    assert without_data.note is not None
    assert without_data.note.startswith("cifar10 is not here (--data-dir says where it is): the try-out")
    assert (with_data.note, with_data.study) == (None, read_study("headline"))
    assert wanted(tmp_path, study_name="quickstart").note is None
    later = wanted(tmp_path, data_dir=str(tmp_path), first_seed=24)
    assert [seed - 24 for seed in later.study.seeds] == list(with_data.study.seeds)
    assert Wanted.of_json(later.to_json()) == later


def test_the_time_is_shared_and_what_no_time_is_left_for_is_skipped(tmp_path: Path) -> None:
    def stages(minutes: float, gone: float = 0.0, names: Sequence[str] = STAGES) -> list[Stage]:
        started = time.monotonic() - gone
        plan = Check(wanted=wanted(tmp_path), minutes=minutes, stages=names, started=started)
        return [plan._stage(name) for name in names]

    nine, three = stages(9.0), stages(3.0)
    assert [round(stage.limit) for stage in nine] == [60, 60, 60, 532]
    assert [round(stage.limit) for stage in three] == [20, 20, 20, 172]
    assert [stage.limit for stage in stages(60.0)][:3] == [60.0] * 3
    assert [round(stages(2.5, names=names)[0].limit) for names in (["tests"], ["tests", "speed"])] == [142, 71]
    assert [round(stage.limit) for stage in stages(9.0, names=["speed", "study"])] == [60, 532]
    assert {stage.skipped for stage in stages(3.0, gone=175.0)} == {"the time was over"}


def test_epochs_are_long_enough_to_settle_batch_norm_in_the_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first is not timed, and on a GPU two of them are enough, so that they fit into a minute."""
    setups: list[Setup] = []
    monkeypatch.setattr(speed_worker, "measure", lambda setup, on_part: setups.append(setup))
    for device in ("cuda", "cpu"):
        there = SimpleNamespace(device=torch.device(device), out=tmp_path)
        monkeypatch.setattr(speed_worker, "resolve_precision", lambda name, device: "fp32")
        speed_worker.measure_ratios(there, 60.0)  # type: ignore[arg-type]
    assert [setup.epoch_steps for setup in setups] == [50, 10]
    assert 50 < steps_to_settle(create("resnet8")) <= 2 * 50


def test_an_interruption_leaves_the_archive_of_what_was_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, runs: list[Run]
) -> None:
    mine = Check(wanted=wanted(tmp_path / "out"), minutes=9, stages=["speed", "study"], started=time.monotonic())
    done = Stage(name="speed", command=(sys.executable, "-c", "print('1.5 times as fast')"), limit=60)
    hanging = Stage(name="study", command=(sys.executable, "-c", "import time; time.sleep(99)"), limit=60)
    monkeypatch.setattr(mine, "_stage", {"speed": done, "study": hanging}.get)

    def interrupt() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(mine, "_save_now_and_then", interrupt)
    with pytest.raises(KeyboardInterrupt):
        mine.carry_out()
    manifest = json.loads(zipfile.ZipFile(mine.archive).read("manifest.json"))
    assert [(stage["name"], stage["tail"]) for stage in manifest["stages"]] == [("speed", ["1.5 times as fast"])]


def test_an_archive_that_cannot_be_written_does_not_end_the_study(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine = Check(wanted=wanted(tmp_path / "out"), minutes=9, stages=STAGES, started=time.monotonic())
    (tmp_path / "out" / "runs" / "new").mkdir(parents=True)
    (tmp_path / "out" / "runs" / "new" / "run.json").write_text("begun")

    def fail() -> None:
        raise UsageError("too large")

    monkeypatch.setattr(mine, "save", fail)
    mine._save_now_and_then()  # says so, and goes on
    with pytest.raises(UsageError):
        mine.carry_out()


def test_on_a_gpu_graphs_are_timed_first_in_fp32_and_memory_before_other_precisions(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the minute ends early, what comes last is missing; what fails costs nothing else."""
    done: list[str] = []

    def measure(self: Session, engine: Engine, precision: str) -> None:
        done.append(f"{engine.name} {precision}")
        if done[-1] == "eager fp32":
            raise RuntimeError("out of memory")

    engines = [SimpleNamespace(name=name) for name in ("eager", "compile", "cudagraphs")]
    pairs = [(engine, precision) for engine in engines for precision in ("fp32", "bf16")]
    monkeypatch.setattr(latency_worker, "engines_here", lambda device: pairs)
    monkeypatch.setattr(latency_worker, "record_costs", lambda run, device: done.append("memory"))
    monkeypatch.setattr(Session, "measure", measure)
    latency_worker.time_networks(wanted(tmp_path), 60.0)
    assert done == ["cudagraphs fp32", "eager fp32", *["memory"] * 2, "cudagraphs bf16", "eager bf16"]


def test_latencies_of_untrained_networks_are_lent_to_runs_of_the_same_network(
    tmp_path: Path, runs: list[Run], measurement: Measurement
) -> None:
    setting = wanted(tmp_path).setting()
    first, second = untrained(setting, tmp_path)
    assert (len(first.exits), len(second.exits)) == (1, 2)
    reference, other = runs[0], runs[1]
    twins = [Run(tmp_path / name, run.record) for name, run in (("a", reference), ("b", other))]
    for twin in twins:
        twin.path.mkdir()
        write_measurement(twin, _of(measurement, twin, reference_id="a"))
    copies = []
    for run in (reference, other):
        path = tmp_path / "runs" / run.id
        path.mkdir(parents=True)
        Run(path, run.record).write_record()
        copies.append(read_run(path))
    lend_latencies(twins, copies)
    for run in copies:
        [lent] = read_measurements(run)
        assert (lent.reference["run"], lent.drawn) == (reference.id, True)

    own = dataclasses.replace(_of(measurement, copies[0], reference_id=reference.id), session="own")
    write_measurement(copies[0], own)
    for twin in twins:  # a later call, which had more time
        write_measurement(twin, dataclasses.replace(_of(measurement, twin, reference_id="a"), session="later"))
    lend_latencies(twins, copies)
    assert [[each.session for each in read_measurements(run)] for run in copies] == [["own"], ["later"]]


def _of(measurement: Measurement, twin: Run, reference_id: str) -> Measurement:
    """The measurement as of this run, whose ratios are to another."""
    rows = [measurement.rows[0] | {"exit": exit["exit"]} for exit in twin.exits]
    return dataclasses.replace(measurement, reference={"run": reference_id, "exit": 1}, rows=rows)


def test_the_first_run_begins_whatever_was_guessed_of_it(tmp_path: Path) -> None:
    outcomes = Outcomes(setting=wanted(tmp_path).setting())
    first, second = outcomes.nodes[:2]
    runner = Runner(outcomes=outcomes, seconds={first: 1e9, second: 1e9}, until=time.monotonic() + 100)
    assert not runner._fits(first)
    runner.eager = True
    assert runner._fits(first)
    runner.outcomes.runs[first] = Run(tmp_path, None)  # type: ignore[arg-type]
    runner.started -= 101
    assert not runner._fits(second)  # as long as the first again
