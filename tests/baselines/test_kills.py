"""A pruning killed while it measures sensitivity goes on with the groups that are left, and one process measures."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from baselines.sensitivity import _alone
from compress.runs import LOCK
from tests.conftest import Command

KILLED = Path(__file__).parents[1] / "killed.py"
# Holds a lock for a moment, without the library, whose import takes seconds.
HOLD = "import filelock, sys, time\nwith filelock.FileLock(sys.argv[1]): print('held', flush=True), time.sleep(0.3)"


def test_what_was_measured_before_a_kill_is_not_measured_anew(
    compress: Command, tiny_folder: Path, tmp_path: Path
) -> None:
    runs, asked = tmp_path / "runs", ["--speedup", "1.3", "--allocate", "sensitivity", "--scope", "inner"]
    command = ["prune", "--arch", "resnet8", *asked, "--epochs", "1", "--precision", "fp32"]
    command += ["--dataset", f"folder:{tiny_folder}", "--image-size", "8", "--runs", str(runs)]
    killed = subprocess.run([sys.executable, KILLED, "replace", ".sensitivity", "2", *command], capture_output=True)
    assert killed.returncode == 9, killed.stderr
    [reference] = runs.glob("*/model.safetensors")
    file = reference.with_name("sensitivity-l1-inner-s0.json")
    begun = json.loads(file.read_text())
    assert len(begun["losses"]) == 1  # of three; the second was never in place

    status, _, err = compress(*command)
    assert status == 0, err
    assert "measuring sensitivity: 1 of 3 groups were measured before" in err
    assert not list(reference.parent.glob(".sensitivity*"))
    whole = json.loads(file.read_text())
    assert whole["losses"][:1] == begun["losses"]
    assert whole["seconds"] > begun["seconds"]

    file.unlink()
    for path in runs.glob("*l1*/run.json"):
        path.unlink()
    assert compress(*command)[0] == 0
    unbroken = json.loads(file.read_text())
    assert unbroken | {"seconds": 0} == whole | {"seconds": 0}


def test_another_process_that_measures_is_waited_for(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path / LOCK)], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        with _alone(tmp_path / "sensitivity.json"):
            assert process.wait() == 0
    assert f"waiting for another process, which measures on {tmp_path.name}" in capsys.readouterr().err
