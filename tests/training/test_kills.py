"""The same command finishes a run whose process was killed at a file operation, with the same files."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from compress import Place
from compress.recipes import recipe_named
from compress.runs import write_atomically
from compress.training import train

KILLED = Path(__file__).parents[1] / "killed.py"


@pytest.mark.parametrize(
    ("operation", "file", "time"),
    [
        ("rmtree", "checkpoint", 1),  # finished, and its checkpoint not removed yet
        ("replace", ".last.pt", 3),
        ("replace", ".last.pt", 1),  # of the first epoch's start
        ("replace", ".run.json", 2),  # all but the last record
    ],
)
def test_the_same_command_finishes_it_alike_and_sweeps(
    operation: str, file: str, time: int, tiny_folder: Path, tmp_path: Path, finished: Path
) -> None:
    runs = tmp_path / "runs"
    options = ["train", *OPTIONS, "--dataset", f"folder:{tiny_folder}", "--runs", str(runs)]
    killed = subprocess.run([sys.executable, KILLED, operation, file, str(time), *options], capture_output=True)
    assert killed.returncode == 9, killed.stderr
    [path] = runs.iterdir()
    assert {entry.name for entry in path.rglob("*")} - {entry.name for entry in finished.rglob("*")}
    train_again(tiny_folder, runs)
    assert {entry.name for entry in path.rglob("*")} == {entry.name for entry in finished.rglob("*")}
    for name in ("model.safetensors", "predictions.npz"):
        assert (path / name).read_bytes() == (finished / name).read_bytes()


OPTIONS = ["--arch", "resnet8", "--epochs", "2", "--precision", "fp32"]


def train_again(folder: Path, runs: Path) -> Path:
    recipe = recipe_named("quick", epochs=2)
    return train("resnet8", f"folder:{folder}", recipe=recipe, place=Place(precision="fp32", runs=runs)).path


@pytest.fixture(scope="module")
def finished(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run directory of a training that nothing happened to."""
    return train_again(tiny_folder, tmp_path_factory.mktemp("finished"))


def test_what_a_living_process_writes_is_left_alone(tiny_folder: Path, finished: Path, tmp_path: Path) -> None:
    run = Path(shutil.copytree(finished, tmp_path / "runs" / finished.name))
    living, dead = run / f".bench.json.{os.getppid()}", run / f".bench.json.{2**22 + 1}"
    other = run / ".notes.txt"
    for file in (living, dead, other):
        file.write_text("half")
    train_again(tiny_folder, tmp_path / "runs")
    assert (living.exists(), dead.exists(), other.exists()) == (True, False, True)


def test_an_interrupted_write_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(_: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_atomically(tmp_path / "file", b"new")
    assert list(tmp_path.iterdir()) == []
