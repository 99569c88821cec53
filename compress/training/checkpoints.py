"""Checkpoints: the state of a training after an epoch, replaced atomically, read without unpickling code."""

import contextlib
import io
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch

from compress.errors import UsageError, first_line
from compress.runs import write_atomically
from compress.training.deadline import out_of_time
from compress.training.distributed import World

FILE = "last.pt"
SECONDS = 10.0  # between checkpoints on a GPU, where an epoch may be shorter than the time that writing one takes


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


class Checkpoints:
    """The checkpoint of a training, in a directory; without one nothing is kept. Rank 0 reads, decides and writes."""

    def __init__(self, directory: Path | None, world: World, device: torch.device) -> None:
        self.directory, self.world, self.device = directory, world, device
        self.saved = time.monotonic()

    def restore(self, restore: Callable[[dict[str, Any]], None]) -> bool:
        """Call `restore` with the saved state, if there is any; returns whether there was.

        Raises:
            UsageError: the checkpoint is corrupt.
        """
        directory = self.directory
        state = self.world.on_leader(lambda: load_checkpoint(directory)) if directory else None
        if not directory or not state:
            return False
        with reading(directory):
            restore(state)
        return True

    def keep(self, state: Callable[[], dict[str, Any]], *, last: bool) -> None:
        """Replace the checkpoint if it is due, or this is the last chance."""
        directory = self.directory
        if directory and self.world.on_leader(lambda: last or self._due()):
            self.world.on_leader(lambda: save_checkpoint(directory, state()))
            self.saved = time.monotonic()

    def _due(self) -> bool:
        return self.device.type == "cpu" or time.monotonic() - self.saved > SECONDS or out_of_time()
