"""Stages: commands that run one after another, each in a process group of its own that ends at its time limit."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

STAGES = ("tests", "speed", "latency", "study")  # of a check, in their order
Status = Literal["done", "failed", "stopped", "skipped"]
LINES = 60  # of what a stage printed that are kept
LINE = 400  # characters of a line that are kept
LOOK = 1.0  # seconds between two looks at a stage that runs
GRACE = 2.0  # seconds between asking a stage to end and asking louder


@dataclass(frozen=True, kw_only=True)
class Stage:
    """A command, or the reason why it is left out.

    Attributes:
        limit: seconds after which it is stopped.
        skipped: why it does not run; None where it does.
    """

    name: str
    command: Sequence[str] = ()
    limit: float = 0.0
    skipped: str | None = None


@dataclass(frozen=True, kw_only=True)
class StageOutcome:
    """How a stage ended.

    Attributes:
        status: `stopped` is by the time limit, or with the whole command.
        reason: why, where it is not done.
        tail: the last lines that it printed.
    """

    name: str
    status: Status
    reason: str | None
    limit: float
    seconds: float
    tail: list[str]


def carry_out(stage: Stage, log: Path, meanwhile: Callable[[], object] = lambda: None) -> StageOutcome:
    """Run a stage, whose output goes into a log, and call `meanwhile` every second or so.

    Whatever the stage has started ends with it, at the latest at the limit, and also where `meanwhile` raises.
    """
    started = time.monotonic()

    def outcome(status: Status, reason: str | None) -> StageOutcome:
        seconds, tail = time.monotonic() - started, _tail(log)
        return StageOutcome(
            name=stage.name, status=status, reason=reason, limit=stage.limit, seconds=round(seconds, 1), tail=tail
        )

    if stage.skipped is not None:
        log.write_text("")
        return outcome("skipped", stage.skipped)
    with log.open("wb") as file:
        process = subprocess.Popen(stage.command, stdout=file, stderr=file, stdin=subprocess.DEVNULL, process_group=0)
        try:
            while process.poll() is None and time.monotonic() < started + stage.limit:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(max(0.0, min(LOOK, started + stage.limit - time.monotonic())))
                meanwhile()
            over = process.poll() is None
        finally:
            _end(process)
    if over:
        return outcome("stopped", f"its {stage.limit:.0f} seconds were over")
    status = process.returncode
    return outcome("done", None) if status == 0 else outcome("failed", _failure(status, _tail(log)))


def _failure(status: int, tail: list[str]) -> str:
    """As in ``exit status 1: ValueError: nothing there``."""
    how = f"exit status {status}" if status > 0 else f"ended by signal {-status}"
    return f"{how}: {tail[-1]}" if tail else how


def _end(process: subprocess.Popen[bytes]) -> None:
    """End a process and all that it has started, first by asking.

    SIGINT comes first, since pytest tells what has failed then, and nothing at SIGTERM; but what was started in a
    shell's background ignores it.
    """
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(GRACE)


def _tail(log: Path) -> list[str]:
    with log.open(errors="replace") as lines:
        return [line.rstrip()[-LINE:] for line in deque((line for line in lines if line.strip()), maxlen=LINES)]
