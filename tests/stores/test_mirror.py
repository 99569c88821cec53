"""Runs in a store are made, read, measured and gone on with through mirrors on several machines."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from unittest.mock import Mock, patch

import pytest

from benchmarks.selection.comparable_runs import any_there
from benchmarks.study.rehearsal import BUCKET, StoreServer
from benchmarks.study.runner import Runner
from compress import Place, load
from compress.cli.runs_option import writable
from compress.data import Dataset
from compress.errors import UsageError
from compress.recipes import Recipe, recipe_named
from compress.runs import BENCH, InUseError, Run, claimed, find_run, finished_runs, sweep, write_atomically, write_json
from compress.stores.lease import Lease
from compress.stores.mirror import fetch, mirror, mirror_of, refresh
from compress.stores.object_store import ObjectStore
from compress.training import train

KILLED = Path(__file__).parents[1] / "killed.py"


@pytest.fixture
def elsewhere(url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Another machine's mirror of the same place."""
    with monkeypatch.context() as patch:
        patch.setenv("COMPRESS_MIRRORS", str(tmp_path / "elsewhere"))
        return mirror(url)


@pytest.fixture
def made(url: str, tiny: Dataset, brief: Recipe) -> Run:
    return train("resnet8", tiny, recipe=brief, place=Place(precision="fp32", runs=mirror(url)))


def contents(place: Path) -> dict[str, bytes]:
    return {
        path.relative_to(place).as_posix(): path.read_bytes()
        for path in place.rglob("*")
        if path.is_file() and not any(part.startswith(".") for part in path.relative_to(place).parts)
    }


def test_a_run_is_the_same_in_the_store_and_on_every_machine(
    made: Run, elsewhere: Path, server: StoreServer, tiny: Dataset, brief: Recipe, tmp_path: Path
) -> None:
    assert [run.id for run in finished_runs(elsewhere)[0]] == [made.id]
    stored = server.folder / BUCKET / tmp_path.name
    assert contents(elsewhere) == contents(made.path.parent) == contents(stored)
    plain = train("resnet8", tiny, recipe=brief, place=Place(precision="fp32", runs=tmp_path / "plain"))
    assert (plain.id, plain.record.command) == (made.id, made.record.command)
    for file in ("model.safetensors", "predictions.npz"):
        assert (plain.path / file).read_bytes() == (made.path / file).read_bytes()


def test_what_is_measured_on_one_machine_is_read_on_another(made: Run, elsewhere: Path) -> None:
    finished_runs(elsewhere)
    write_json(made.path / BENCH, {"measured": 1})
    write_json(made.path / BENCH, {"measured": 123})
    finished_runs(elsewhere)
    assert (elsewhere / made.id / BENCH).read_bytes() == (made.path / BENCH).read_bytes()


def test_a_mirror_of_records_fetches_weights_when_they_are_used(
    made: Run, url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COMPRESS_MIRRORS", str(tmp_path / "worker"))
    run = find_run(made.id, mirror(url, whole=False))
    assert not (run.path / "model.safetensors").exists()
    weights, same = load(run).state_dict(), load(made).state_dict()
    assert all(weights[name].equal(same[name]) for name in same)


def test_a_run_removed_from_the_store_is_gone_everywhere(
    made: Run, elsewhere: Path, url: str, store: ObjectStore
) -> None:
    finished_runs(elsewhere)
    store.remove(list(store.listed(made.id)))
    assert finished_runs(elsewhere) == ([], [])
    with pytest.raises(UsageError, match="not a run directory"):
        find_run(made.id, elsewhere)


def test_nothing_is_left_of_a_run_that_was_made_anew_elsewhere(
    made: Run, url: str, store: ObjectStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_json(made.path / BENCH, {"measured": 1})
    monkeypatch.setenv("COMPRESS_MIRRORS", str(tmp_path / "worker"))
    worker = mirror(url, whole=False)
    fetch(worker / made.id / "model.safetensors")
    store.remove([f"{made.id}/{BENCH}"])
    weights, record = (made.path / name for name in ("model.safetensors", "run.json"))
    for path in (weights, record):
        store.write(f"{made.id}/{path.name}", path.read_bytes() + b"\n")  # which tells it from the earlier one
    [run] = finished_runs(worker)[0]
    fetch(run.path / weights.name)
    assert (run.path / weights.name).read_bytes() == weights.read_bytes() + b"\n"
    assert not (run.path / BENCH).exists()


def test_the_copy_of_a_mirror_keeps_its_runs(made: Run, store: ObjectStore, tmp_path: Path) -> None:
    copied = shutil.copytree(made.path.parent, tmp_path / "archive")
    store.remove(list(store.listed()))
    assert [run.id for run in finished_runs(copied)[0]] == [made.id]
    assert finished_runs(made.path.parent) == ([], [])
    write_json(copied / made.id / BENCH, 1)
    assert store.listed() == {}


def test_a_bucket_that_is_gone_takes_no_run_with_it(made: Run, server: StoreServer) -> None:
    away = (server.folder / BUCKET).rename(server.folder / "away")
    try:
        with pytest.raises(UsageError, match=f"cannot be read: {BUCKET} does not exist"):
            finished_runs(made.path.parent)
    finally:
        away.rename(server.folder / BUCKET)
    assert [run.id for run in finished_runs(made.path.parent)[0]] == [made.id]


def test_a_run_that_came_since_the_store_was_listed_is_kept(made: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    listed = ObjectStore.listed
    monkeypatch.setattr(ObjectStore, "listed", lambda self, folder="": listed(self, folder) if folder else {})
    refresh(made.path.parent)
    assert (made.path / "model.safetensors").exists()


def test_a_directory_that_somebody_is_about_to_hold_is_left_alone(url: str) -> None:
    new, old = mirror(url) / "new", mirror(url) / "old"
    for path in (new, old):
        path.mkdir()
    os.utime(old, (0, 0))
    refresh(new.parent)
    assert (list(new.iterdir()), old.exists()) == ([], False)


def test_a_mistake_is_refused_before_a_store_is_asked(url: str, refused: Callable[..., str]) -> None:
    with patch.object(ObjectStore, "_tried", side_effect=AssertionError("the store was asked")):
        assert "did you mean 'cifar10'" in refused("train", "--runs", url, "--dataset", "cifra10", leaves=True)
        assert "names no bucket" in refused("train", "--runs", "s3://")


def test_every_command_reads_the_runs_of_a_store(
    made: Run, url: str, refused: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COMPRESS_MIRRORS", str(tmp_path / "export"))
    export = ["export", f"{made.id}:9", "--out", tmp_path / "bundle", "--runs", url]
    assert "has exits 1 to 1" in refused(*export, leaves=True)
    for name, look in {"select": any_there, "report": lambda runs: finished_runs(runs)[0], "train": writable}.items():
        monkeypatch.setenv("COMPRESS_MIRRORS", str(tmp_path / name))
        runs = mirror(url, now=False)
        assert not list(runs.glob("*/run.json"))
        assert look(runs)
        assert (runs / made.id / "run.json").exists()


def test_a_store_that_does_not_answer_at_first_is_waited_for_shortly(
    made: Run, server: StoreServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("compress.stores.mirror._reached", set())
    server.stop()
    try:
        with pytest.raises(UsageError, match="did not answer for"):
            refresh(made.path.parent, patience=1)
    finally:
        server.start()
    assert finished_runs(made.path.parent)[0]


def test_no_half_written_run_is_seen_and_another_machine_goes_on_with_it(
    url: str, elsewhere: Path, tiny_folder: Path, store: ObjectStore, server: StoreServer, tmp_path: Path
) -> None:
    options = [
        "train",
        "--arch",
        "resnet8",
        "--epochs",
        "2",
        "--precision",
        "fp32",
        "--dataset",
        f"folder:{tiny_folder}",
    ]
    environment = {**os.environ, "COMPRESS_LEASE_BEAT": "0.2"}
    killed = subprocess.run(
        [sys.executable, KILLED, "replace", ".run.json", "2", *options, "--runs", url],  # all but its last record
        capture_output=True,
        env=environment,
    )
    assert killed.returncode == 9, killed.stderr
    [name] = {key.partition("/")[0] for key in store.listed()}
    assert {f"{name}/model.safetensors", f"{name}/checkpoint/last.pt"} <= set(store.listed())
    runs, skipped = finished_runs(elsewhere)
    assert (runs, len(skipped)) == ([], 1)
    assert "is running, not finished" in skipped[0]
    with pytest.raises(InUseError), claimed(elsewhere / name):  # without waiting, the dead process looks alive
        pass
    before = server.writes()[f"{tmp_path.name}/{name}/checkpoint/last.pt"]
    recipe = recipe_named("quick", epochs=2)
    run = train("resnet8", f"folder:{tiny_folder}", recipe=recipe, place=Place(precision="fp32", runs=elsewhere))
    assert run.id == name
    assert server.writes()[f"{tmp_path.name}/{name}/checkpoint/last.pt"] == before == 3  # nothing was trained again
    assert not [key for key in store.listed() if "checkpoint" in key]


def test_a_run_is_held_against_other_machines(url: str, elsewhere: Path) -> None:
    here = mirror(url)
    with claimed(here / "run"), pytest.raises(InUseError, match="run run is in use"), claimed(elsewhere / "run"):
        pass
    with claimed(elsewhere / "run"):
        pass


def test_a_study_passes_by_a_run_that_is_held_dead_or_alive(url: str, store: ObjectStore) -> None:
    run = mirror(url) / "run"
    Lease.take(store, "run").ended.set()

    def make(*_: object) -> None:
        with claimed(run, patience=None):
            pass

    runner = Runner(outcomes=Mock(runs={}, nodes=["node"]), seconds={})
    with patch("benchmarks.study.runner.make", make):
        assert runner._attempt("node") == run  # type: ignore[arg-type]
        assert not runner.failures
    make()  # by itself, the dead is waited for


def test_a_study_leaves_a_run_that_it_lost_to_who_has_it_now(url: str, store: ObjectStore) -> None:
    run = mirror(url) / "run"

    def make(*_: object) -> None:
        with claimed(run):
            Lease(store, "run", 7, "another").store.create("run/.lease/00000007", b"{}")
            write_json(run / "file.json", 1)

    runner = Runner(outcomes=Mock(runs={}, nodes=["node"]), seconds={})
    with patch("benchmarks.study.runner.make", make):
        assert runner._attempt("node") == run  # type: ignore[arg-type]
    assert (runner.outcomes.runs, runner.failures) == ({}, [])


def test_who_lost_a_run_writes_nothing_more(url: str, elsewhere: Path, store: ObjectStore) -> None:
    here = mirror(url)
    with claimed(here / "run"):
        write_json(here / "run" / "file.json", 1)
        Lease(store, "run", 7, "another").store.create("run/.lease/00000007", b"{}")
        with pytest.raises(UsageError, match="another one took over"):
            write_json(here / "run" / "file.json", 2)
    assert store.read("run/file.json") == b"1\n"


def test_who_loses_a_run_during_an_outage_leaves_the_file_of_its_heir(
    url: str, store: ObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    put, file = store._files.pipe_file, mirror(url) / "run" / "file.json"

    def cut_off(path: str, content: bytes) -> None:
        monkeypatch.setattr(store._files, "pipe_file", put)
        store.create("run/.lease/00000007", b"{}")
        store.write("run/file.json", b"of the heir")
        raise ConnectionError("cut off")

    with claimed(file.parent):
        monkeypatch.setattr(store._files, "pipe_file", cut_off)
        with pytest.raises(UsageError, match="another one took over"):
            write_json(file, 1)
    assert store.read("run/file.json") == b"of the heir"


def test_the_checkpoint_of_a_finished_run_is_swept_from_the_store_too(made: Run, store: ObjectStore) -> None:
    checkpoint = made.path / "checkpoint" / "last.pt"
    checkpoint.parent.mkdir()
    write_atomically(checkpoint, b"left by a maker that died after its record")
    assert f"{made.id}/checkpoint/last.pt" in store.listed()
    sweep(made)
    assert not [key for key in store.listed() if "checkpoint" in key]


def test_a_mirror_that_is_removed_in_use_still_puts_what_is_made_into_the_store(
    url: str, elsewhere: Path, tiny: Dataset, brief: Recipe
) -> None:
    """As by who clears a cache: the run would be finished here alone, and undone by what the store has of it."""
    place = Place(precision="fp32", runs=mirror(url))
    shutil.rmtree(place.runs)
    run = train("resnet8", tiny, recipe=brief, place=place)
    refresh(elsewhere)
    assert [found.id for found in finished_runs(elsewhere)[0]] == [run.id]


@pytest.mark.parametrize("host", ["", "localhost"])
def test_a_file_url_is_the_directory_itself(host: str, tmp_path: Path) -> None:
    assert mirror(f"file://{host}{tmp_path}/all%20runs") == tmp_path / "all runs"
    assert mirror_of(tmp_path / "all runs") is None


@pytest.mark.parametrize("url", ["file://", "file://relative/runs"])
def test_a_file_url_without_a_path_of_this_machine_is_refused(url: str) -> None:
    with pytest.raises(UsageError, match=f"^{url}: names no directory of this machine"):
        mirror(url)
