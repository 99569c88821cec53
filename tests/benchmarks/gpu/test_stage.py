"""Stages end at their limit with all that they have started, and what they printed is kept."""

import os
import sys
import time
from pathlib import Path

import pytest

from benchmarks.gpu.stage import LINES, Stage, StageOutcome, carry_out


def carried_out(program: str, log: Path, limit: float = 60.0) -> StageOutcome:
    return carry_out(Stage(name="mine", command=(sys.executable, "-c", program), limit=limit), log)


def test_a_stage_that_ends_is_done_and_its_last_lines_are_kept(tmp_path: Path) -> None:
    program = "import sys; [print(n) for n in range(1000)]; print('x' * 9999, file=sys.stderr)"
    outcome = carried_out(program, tmp_path / "log")
    assert (outcome.status, outcome.reason) == ("done", None)
    assert len(outcome.tail) == LINES
    assert outcome.tail[0] in ("940", "941")
    assert max(map(len, outcome.tail)) == 400


@pytest.mark.parametrize(
    ("program", "reason"),
    [
        ("raise ValueError('nothing there')", "exit status 1: ValueError: nothing there"),
        ("import sys; sys.exit(3)", "exit status 3"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", "ended by signal 11"),
    ],
)
def test_a_stage_that_fails_says_how(program: str, reason: str, tmp_path: Path) -> None:
    outcome = carried_out(program, tmp_path / "log")
    assert (outcome.status, outcome.reason) == ("failed", reason)


HANGS = """
import os, signal, subprocess, sys, time
signal.signal(signal.SIGINT, signal.SIG_IGN)
signal.signal(signal.SIGTERM, signal.SIG_IGN)
deaf = "import signal, time; [signal.signal(n, signal.SIG_IGN) for n in (2, 15)]; time.sleep(99)"
child = subprocess.Popen([sys.executable, "-c", deaf])
print(child.pid, flush=True)
time.sleep(99)
"""


def alive(process: int) -> bool:
    """Whether a process runs; one that has ended and nobody has waited for does not."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_a_stage_that_hangs_is_ended_with_its_processes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("benchmarks.gpu.stage.GRACE", 0.2)
    outcome = carried_out(HANGS, tmp_path / "log", limit=3.0)
    assert (outcome.status, outcome.reason) == ("stopped", "its 3 seconds were over")
    child = int(outcome.tail[0])
    for _ in range(50):
        if not alive(child):
            break
        time.sleep(0.1)
    assert not alive(child)
    assert outcome.seconds < 20


TELLS = """
import os, signal, time
signal.signal(signal.SIGINT, signal.default_int_handler)  # also where these tests run in a shell's background
try:
    print(os.getpid(), flush=True)
    time.sleep(99)
except KeyboardInterrupt:
    print("failed so far: one")
"""


def test_an_interruption_ends_the_stage_which_can_tell_what_it_has_found(tmp_path: Path) -> None:
    """As pytest does at SIGINT, and not at SIGTERM."""
    log = tmp_path / "log"

    def interrupt() -> None:
        if log.read_text():
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        carry_out(Stage(name="mine", command=(sys.executable, "-c", TELLS), limit=60), log, interrupt)
    process, *said = log.read_text().splitlines()
    assert said == ["failed so far: one"]
    assert not alive(int(process))


def test_a_stage_that_is_skipped_starts_nothing(tmp_path: Path) -> None:
    outcome = carry_out(Stage(name="mine", command=("no such command",), skipped="not today"), tmp_path / "log")
    assert (outcome.status, outcome.reason, outcome.tail) == ("skipped", "not today", [])
    assert os.listdir(tmp_path) == ["log"]
