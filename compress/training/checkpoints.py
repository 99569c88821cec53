"""Checkpoints: the state of a training after an epoch, replaced atomically, read without unpickling code."""

import contextlib
import io
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from compress.errors import UsageError, first_line
from compress.runs import write_atomically
from compress.training.deadline import out_of_time

FILE = "last.pt"
SECONDS = 10.0  # between checkpoints on a GPU, where an epoch may be shorter than the time that writing one takes


def due(saved: float, device: torch.device) -> bool:
    """Whether it is time for a checkpoint after an epoch, given the time (`time.monotonic`) of the last one."""
    return device.type == "cpu" or time.monotonic() - saved > SECONDS or out_of_time()


def save_checkpoint(directory: Path, state: dict[str, Any]) -> None:
    """Replace the checkpoint in a directory (created if need be).

    Raises:
        UsageError: it could not be written; the old one survives.
    """
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"cannot write {directory}: {error.strerror}") from error
    buffer = io.BytesIO()
    torch.save(state, buffer)
    write_atomically(directory / FILE, buffer.getvalue())


def load_checkpoint(directory: Path) -> dict[str, Any] | None:
    """The saved state, on the CPU; None if there is none.

    Raises:
        UsageError: the file is corrupt.
    """
    path = directory / FILE
    if not path.exists():
        return None
    with reading(directory):
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    return state


@contextlib.contextmanager
def reading(directory: Path) -> Iterator[None]:
    """Turn any error while a checkpoint is read or restored into a UsageError.

    A damaged file can cause errors of any type.
    """
    try:
        yield
    except Exception as error:
        raise UsageError(
            f"checkpoint {directory / FILE} is corrupt ({type(error).__name__}: {first_line(error)}); "
            f"delete {directory} to start this run anew"
        ) from error
