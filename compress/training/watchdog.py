"""A watchdog thread that prints a warning if a training makes no progress, and does nothing else."""

from __future__ import annotations

import faulthandler
import os
import threading
import time
from collections.abc import Callable

import torch

from compress.hardware import describe

PATIENCE = 120.0  # seconds without a step, at least
UNUSUAL = 20  # times the mean duration of a step
LOOKS = 8  # within the patience


class Watchdog:
    """Warns once if no step has finished for `patience` seconds and `UNUSUAL` times the usual duration of a step.

    If Python's faulthandler is enabled, as by --debug, it also prints the stack of every thread.
    """

    def __init__(
        self, say: Callable[[str], None], *, patience: float = PATIENCE, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.say, self.patience, self.clock = say, patience, clock
        self._since: float | None = None  # time of the last step; None while no step is expected
        self._steps, self._seconds = 0, 0.0
        self._said = False
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="watchdog", daemon=True)

    def start(self) -> None:
        """Begin to watch."""
        self.expect()
        self._thread.start()

    def stop(self) -> None:
        """Watch no more."""
        self._ended.set()
        self._thread.join()

    def expect(self) -> None:
        """Expect a step from now on."""
        self._since, self._said = self.clock(), False

    def step(self, *, last: bool) -> None:
        """Note a finished step; after the last step of an epoch, none is expected."""
        now = self.clock()
        if self._since is not None:
            self._steps, self._seconds = self._steps + 1, self._seconds + now - self._since
        self._since, self._said = None if last else now, False

    def look(self) -> None:
        """Warn if it is time; the thread calls this several times within the patience."""
        since, usual = self._since, self._seconds / max(self._steps, 1)
        silent = 0.0 if since is None else self.clock() - since
        if silent > max(self.patience, UNUSUAL * usual) and not self._said:
            self._said = True
            self._say(silent, usual)

    def _watch(self) -> None:
        while not self._ended.wait(self.patience / LOOKS):
            self.look()

    def _say(self, silent: float, usual: float) -> None:
        machine = describe(torch.device("cpu"))
        before = f"one took {usual:.2g} s before" if self._steps else "not even the first"
        self.say(
            f"no step has finished for {silent:.0f} s ({before}; {machine['cpu']}, {machine['threads']} threads); if "
            f"it stays so, stop it (Ctrl-C, else kill -9 {os.getpid()}) and go on by the same command with "
            "OMP_NUM_THREADS=1, or with --debug, which shows here where it stands"
        )
        if faulthandler.is_enabled():
            faulthandler.dump_traceback(2)  # stderr
