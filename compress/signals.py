"""Signals: SIGINT (Ctrl-C) and SIGTERM (a scheduler) end a command by an exception, so that it can clean up."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType


class TerminatedError(KeyboardInterrupt):
    """Raised by SIGTERM; what catches `KeyboardInterrupt` catches it, too."""


_RAISED: dict[int, type[KeyboardInterrupt]] = {signal.SIGINT: KeyboardInterrupt, signal.SIGTERM: TerminatedError}
_USUAL = (signal.SIG_DFL, signal.default_int_handler)
_received: list[int] = []
_holding = False


@contextlib.contextmanager
def heeded() -> Iterator[None]:
    """Let SIGINT raise `KeyboardInterrupt` and SIGTERM `TerminatedError`, unless another handler is installed."""
    main = threading.current_thread() is threading.main_thread()  # no other thread may set handlers
    before = {number: signal.getsignal(number) for number in _RAISED if main}
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
    """Delay signals until the block has ended, for what must not be left half done."""
    global _holding
    _holding = True
    try:
        yield
    finally:
        _holding = False
    check()


def check() -> None:
    """Raise again what a signal has raised, if any: in a destructor, Python prints an exception and continues."""
    if _received:
        raise _RAISED[_received[0]]


def _receive(number: int, frame: FrameType | None) -> None:
    _received.append(number)
    if not _holding:
        raise _RAISED[number]
