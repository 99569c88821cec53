"""The deadline: a time at which trainings stop, each after the epoch under way and with its checkpoint kept."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Iterator
from contextvars import ContextVar

from compress.errors import UsageError

_deadline: ContextVar[float] = ContextVar("deadline", default=math.inf)


class OutOfTimeError(UsageError):
    """A training was stopped by a deadline; the same command goes on with it."""


@contextlib.contextmanager
def deadline(at: float) -> Iterator[None]:
    """Stop trainings in this block at a time by `time.monotonic`."""
    before = _deadline.set(at)
    try:
        yield
    finally:
        _deadline.reset(before)


def out_of_time() -> bool:
    """Whether the time has come."""
    return time.monotonic() >= _deadline.get()


def check_deadline(done: int, epochs: int) -> None:
    """Raise OutOfTimeError if the time has come."""
    if out_of_time():
        raise OutOfTimeError(f"stopped by the time limit after epoch {done} of {epochs}; its checkpoint is kept")
