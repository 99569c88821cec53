"""A study on two Ray nodes with an object store between them: the same records, whatever dies or works beside it."""

import asyncio
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import Mock, patch

import pytest
import ray

from benchmarks import Setting
from benchmarks.study import rehearsal as rehearsals
from benchmarks.study.kills import STUDY, differences, repeated, wait_for
from benchmarks.study.outcomes import Outcomes
from benchmarks.study.ray_conductor import RETRIES, Conductor, News, make_run, slots
from benchmarks.study.ray_executor import RayExecutor, _enter
from benchmarks.study.rehearsal import BUCKET, Rehearsal
from benchmarks.study.runner import Runner
from compress.errors import UsageError
from compress.runs import Run
from tests.benchmarks.study.conftest import DEEP, HEAD, Settings

IMPOSSIBLE = '{name = "impossible", command = "prune", from = "plain", speedup = 100000},'
EPOCHS, EVERY = 3, 40


@pytest.fixture(scope="module")
def rehearsal(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rehearsal]:
    with Rehearsal(tmp_path_factory.mktemp("rehearsal")) as rehearsal:
        yield rehearsal


@pytest.fixture(scope="module")
def task(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """A study with a run that cannot be made."""
    study = tmp_path_factory.mktemp("task") / "study.toml"
    study.write_text(STUDY.rstrip().removesuffix("]") + IMPOSSIBLE + "\n]\n")
    return [str(study), str(EPOCHS), str(EVERY)]


@pytest.fixture(scope="module")
def expected(task: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The runs of a single process, without Ray and without a store."""
    place = tmp_path_factory.mktemp("expected")
    study, epochs, every = task
    rehearsals.main(study, epochs, every, str(place))
    return place


@pytest.mark.slow  # its parts are covered by the next test, and by those of leases
def test_two_drivers_and_a_process_beside_them_make_every_run_once_with_the_records_of_one_process(
    rehearsal: Rehearsal, task: list[str], expected: Path
) -> None:
    drivers = [rehearsal.drive(task, "beside") for _ in range(2)]
    alone = [sys.executable, "-m", "benchmarks.study.rehearsal", *task, rehearsal.url("beside")]
    plain = subprocess.Popen(alone, env=rehearsal.environment("plain"), stderr=subprocess.DEVNULL)
    assert [process.wait() for process in (*drivers, plain)] == [0, 0, 0], rehearsal.log("beside")
    stored = rehearsal.store.folder / BUCKET / "beside"
    assert differences(stored, expected) == []
    assert repeated(rehearsal, "beside") == []
    writes = rehearsal.store.writes()
    assert {writes[f"beside/{path.name}/run.json"] for path in expected.iterdir() if path.is_dir()} == {2}
    assert "did not run: impossible" in rehearsal.log("beside")


def test_a_killed_driver_a_killed_node_and_a_store_that_is_away_cost_no_kept_epoch(
    rehearsal: Rehearsal, task: list[str], expected: Path
) -> None:
    driver = rehearsal.drive(task, "killed")
    stored = rehearsal.store.folder / BUCKET / "killed"
    wait_for(lambda: any(stored.glob("*/checkpoint/last.pt")))
    driver.kill()
    driver.wait()
    rehearsal.kill_node()
    rehearsal.store.stop()
    rehearsal.add_node()
    time.sleep(3)
    rehearsal.store.start()
    driver = rehearsal.drive(task, "killed")
    assert driver.wait() == 0, rehearsal.log("killed")
    assert differences(stored, expected) == []
    assert repeated(rehearsal, "killed") == []
    assert "did not run: impossible" in rehearsal.log("killed")


@pytest.mark.slow
def test_an_interrupted_study_stops_and_goes_on(rehearsal: Rehearsal, task: list[str], expected: Path) -> None:
    driver = rehearsal.drive(task, "stopped")
    stored = rehearsal.store.folder / BUCKET / "stopped"
    wait_for(lambda: any(stored.glob("*/checkpoint/last.pt")))
    driver.send_signal(signal.SIGINT)
    assert driver.wait() != 0
    assert len(list(stored.glob("*/model.safetensors"))) < len(list(expected.glob("*/model.safetensors")))
    driver = rehearsal.drive(task, "stopped")
    assert driver.wait() == 0, rehearsal.log("stopped")
    assert differences(stored, expected) == []


def test_more_than_any_node_has_is_refused(rehearsal: Rehearsal, task: list[str]) -> None:
    asked = ["--executor", "ray", "--address", rehearsal.cluster.address, "--gpus-per-run", "2"]
    command = [sys.executable, "-m", "compress", "study", task[0], *asked]
    done = subprocess.run(command, env=rehearsal.environment("driver"), capture_output=True, text=True, check=False)
    message = "compress: --gpus-per-run 2: no node of the cluster has more than 0 GPUs"
    assert (done.returncode, done.stderr.splitlines()[-1]) == (2, message)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--address", "127.0.0.1:1"], "--address 127.0.0.1:1: there is no Ray cluster"),
        (["--address", "127.0.0.1:1", "--dataset", "folder:nowhere"], "folder:nowhere is not a folder"),
        (["--address", "somewhere"], "--address somewhere: auto, or HOST:PORT"),
        (["--gpus-per-run", "-1"], "--gpus-per-run -1: 0 or more"),
        (["--gpus-per-run", "1.5"], "--gpus-per-run 1.5: a share of one, or a whole number"),
        (["--nodes", "10"], "--nodes 10: is for the plan on paper, --dry-run"),
        (["--dry-run", "--nodes", "10", "--like", "imagnet"], "--like imagnet: did you mean 'imagenet'?"),
        (["--dry-run", "--like", "imagenet"], "--like imagenet: is for the plan on paper, --dry-run --nodes"),
        (["--runs", "s3://"], "s3://: names no bucket"),
    ],
)
def test_what_cannot_be_is_refused_in_a_line(options: list[str], message: str, refused: Callable[..., str]) -> None:
    assert message in refused("study", "quickstart", "--executor", "ray", *options)


def test_without_ray_the_extra_is_named(refused: Callable[..., str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    assert "pip install 'multiway-compress[cluster]'" in refused("study", "quickstart", "--executor", "ray")


def test_a_store_that_fails_as_a_task_begins_is_named_and_ray_does_not_try_again() -> None:
    assert make_run(Mock(), "s3://", 3, {}, "owner", None) == News(
        3, "failed", "s3://: names no bucket, as in s3://bucket/runs"
    )


@pytest.fixture
def setting(settings: Settings, tmp_path: Path) -> Setting:
    """A study of two runs, of which one starts from the other."""
    pruned = '{name = "l1", command = "prune", from = "deep", speedup = 1.5}'
    return settings(f"{HEAD}\nrun = [{DEEP}, {pruned}]", tmp_path)


def test_a_task_waits_for_a_run_that_its_neighbour_is_just_fetching(setting: Setting) -> None:
    news = News(1, "made", "pruned")
    with (
        patch("benchmarks.study.ray_conductor.find_run", side_effect=[UsageError("not there yet"), Mock()]),
        patch("benchmarks.study.ray_conductor._made", return_value=news),
    ):
        assert make_run(setting, None, 1, {0: "deep"}, "owner", None) == news


def test_a_command_waits_while_another_fills_a_mirror_for_a_minute(setting: Setting) -> None:
    clock, runner = SimpleNamespace(now=0.0), Mock(outcomes=Outcomes(setting=setting))

    def look(*_: object) -> Run:
        clock.now += 5
        if clock.now < 60:
            raise UsageError("not there yet")
        return Mock(id="deep")

    times = Mock(monotonic=lambda: clock.now)
    with patch.multiple("benchmarks.study.ray_conductor", time=times, find_run=look):
        _enter(runner, [News(0, "made", "deep")])
    assert [run and run.id for run in runner.outcomes.runs.values()] == ["deep"]


@pytest.mark.parametrize(("gpus", "runs"), [(0.25, 1), (0.0, 0)])
def test_a_worker_that_was_given_a_gpu_makes_one_run(setting: Setting, gpus: float, runs: int) -> None:
    with patch("benchmarks.study.ray_conductor.ray.put"):
        task = Conductor(setting, None, {"num_cpus": 1, "num_gpus": gpus}, {}).task
    exported = ray.remote_function.RemoteFunction  # what `options` returns is none, and has lost the limit
    assert isinstance(task, exported)
    assert (vars(task)["_max_calls"], vars(task)["_default_options"]["max_retries"]) == (runs, RETRIES)


@pytest.mark.parametrize(
    ("executor", "message"),
    [
        (RayExecutor(gpus=1, cpus=8), "no node of the cluster has 8 CPUs and 1 GPUs, which a run asks for"),
        (RayExecutor(gpus=0, cpus=0), "--cpus-per-run 0: without a GPU all runs would begin at once"),
    ],
)
def test_what_no_node_has_together_or_all_have_without_end_is_refused(executor: RayExecutor, message: str) -> None:
    nodes = [{"CPU": 64.0}, {"CPU": 4.0, "GPU": 1.0}]
    with (
        patch("benchmarks.study.ray_executor._living", return_value=nodes),
        pytest.raises(UsageError, match=f"^{message}$"),
    ):
        executor._resources(Mock())


@pytest.mark.parametrize(
    ("gpus", "asked", "device"), [(0, None, "cpu"), (0, "auto", "cpu"), (1, "auto", "auto"), (1, "cuda", "cuda")]
)
def test_runs_have_the_device_that_is_asked_for_but_no_gpu_of_another(
    setting: Setting, gpus: float, asked: str | None, device: str
) -> None:
    auto = replace(setting, place=replace(setting.place, device="auto"))
    with patch("benchmarks.study.ray_executor.ray") as ray:
        RayExecutor(device=asked)._conductor(Mock(outcomes=Outcomes(setting=auto)), {"num_cpus": 1, "num_gpus": gpus})
    handed = ray.remote.return_value.options.return_value.remote.call_args.args[0]
    assert handed.place.device == device


@pytest.fixture
def conductor(setting: Setting) -> Conductor:
    with patch("benchmarks.study.ray_conductor.ray.put"):
        return Conductor(setting, None, {"num_cpus": 1}, {0: "deep", 1: "l1"})


def test_a_run_whose_workers_die_again_and_again_is_given_up(setting: Setting, conductor: Conductor) -> None:
    told = Mock(begun=Mock(remote=lambda *what: asyncio.run(conductor.begun(*what))))
    made = News(1, "made", "l1")
    with (
        patch("benchmarks.study.ray_conductor.ray.get", lambda answer: answer),
        patch("benchmarks.study.ray_conductor._made", return_value=made),
    ):
        news = [make_run(setting, None, 1, {}, "owner", told) for _ in range(RETRIES + 2)]
    assert news == [*[made] * (RETRIES + 1), News(1, "failed", f"its worker died {RETRIES + 1} times")]


def test_a_study_that_nobody_asks_about_any_more_ends_its_conductor(conductor: Conductor) -> None:
    async def ask() -> list[bool]:
        before = await conductor.over()
        await conductor.news(0)
        await conductor.end
        return [before, await conductor.over()]

    with (
        patch("benchmarks.study.ray_conductor.KEPT", 0.01),
        patch("benchmarks.study.ray_conductor.ray.get_runtime_context") as context,
        patch("benchmarks.study.ray_conductor.ray.kill") as kill,
    ):
        assert asyncio.run(ask()) == [False, True]
    kill.assert_called_once_with(context.return_value.current_actor)


def test_what_failed_for_a_command_that_died_is_tried_again(setting: Setting) -> None:
    failed, made = ([News(position, kind, "") for position in (0, 1)] for kind in ("failed", "made"))
    conductors = [
        Mock(over=Mock(remote=lambda over=over: over), news=Mock(remote=lambda _, news=news: (news, True)))
        for over, news in ((True, failed), (False, made))
    ]
    runner = Runner(outcomes=Outcomes(setting=setting), seconds={})
    with (
        patch("benchmarks.study.ray_executor.ray.get", lambda answer, timeout: answer),
        patch("benchmarks.study.ray_executor.ray.kill") as kill,
        patch("benchmarks.study.ray_executor.awaited_run"),
        patch.multiple(RayExecutor, _resources=Mock(), _conductor=Mock(side_effect=conductors)),
    ):
        RayExecutor()(runner)
    assert not runner.failures
    assert [call.args[0] for call in kill.call_args_list] == conductors


def test_several_runs_share_a_gpu_and_none_fits_where_one_resource_lacks() -> None:
    nodes = [{"CPU": 8.0, "GPU": 2.0}, {"CPU": 3.0, "GPU": 1.0}, {"CPU": 64.0}]
    assert slots(nodes, 1, 0.25) == 8 + 3
    assert slots(nodes, 1, 0) == 8 + 3 + 64
    assert slots(nodes, 4, 1) == 2
