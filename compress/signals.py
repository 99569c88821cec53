"""Ctrl-C and SIGTERM, as a scheduler sends it: either ends a command by an exception, so that all is left in order."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType


class TerminatedError(KeyboardInterrupt):
    """SIGTERM: whatever heeds Ctrl-C heeds it alike."""


_RAISED: dict[int, type[KeyboardInterrupt]] = {signal.SIGINT: KeyboardInterrupt, signal.SIGTERM: TerminatedError}
_USUAL = (signal.SIG_DFL, signal.default_int_handler)
_received: list[int] = []
_holding = False


@contextlib.contextmanager
def heeded() -> Iterator[None]:
    """Within, SIGINT raises `KeyboardInterrupt` and SIGTERM `TerminatedError`, unless another handler is there."""
    ours = threading.current_thread() is threading.main_thread()  # no other may set handlers
    before = {number: signal.getsignal(number) for number in _RAISED if ours}
    before = {number: handler for number, handler in before.items() if handler in _USUAL}
    for number in before:
        signal.signal(number, _receive)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        _received.clear()


@contextlib.contextmanager
def held() -> Iterator[None]:
    """Within, a signal waits: what must not be left half done is done, and then it is raised."""
    global _holding
    _holding = True
    try:
        yield
    finally:
        _holding = False
    check()


def check() -> None:
    """Raise what a signal raised before, if anything: in a destructor, say, Python prints exceptions and goes on."""
    if _received:
        raise _RAISED[_received[0]]


def _receive(number: int, frame: FrameType | None) -> None:
    _received.append(number)
    if not _holding:
        raise _RAISED[number]
