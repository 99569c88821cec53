"""Streaming: a part whose images stay on disk, and are read, decoded and cropped by worker processes."""

import contextlib
import json
import os
import signal
import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader
from torch.utils.data import Dataset as TorchDataset

from compress import signals
from compress.data.augmentation import ResizedCrop
from compress.data.dataset import in_order
from compress.data.image_decoding import RULES, centre, decode, opened, pixels
from compress.errors import UsageError

SAMPLE = 10_000  # images to measure the normalisation on
READ_AHEAD = 250  # images a batch, where the caller does not say

# An image to read: its number in the part, and how to crop it.
_Wanted = tuple[int, ResizedCrop | None]


def read_image(
    path: Path, shape: tuple[int, int, int], *, number: int = 0, crop: ResizedCrop | None = None, advice: str = ""
) -> Tensor:
    """Return the image in a file as uint8 of ``shape (C, H, W)``: as evaluation sees it, or cropped by its number.

    Raises ``UsageError``, which ends with ``advice``, for an unreadable file.
    """
    try:
        with opened(path) as file:
            image = decode(file, grey=shape[0] == 1)
    except UsageError as error:
        raise UsageError(f"{error}{advice}") from error
    if crop is None:
        image = centre(image, shape[1:])
    read = torch.from_numpy(pixels(image).copy())
    return read if crop is None else crop(read, number, shape[1:])


@dataclass(frozen=True, kw_only=True, eq=False)
class Files(TorchDataset[Tensor | UsageError]):
    """Image files under ``root``, each read as uint8 of ``shape (C, H, W)``; pickled for the workers.

    The error about an unreadable one ends with ``advice``.
    """

    root: Path
    names: np.ndarray  # of bytes: a million Python strings would be copied into every worker, touch by touch
    shape: tuple[int, int, int]
    advice: str = ""

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, wanted: _Wanted) -> Tensor | UsageError:
        """Return an image, or its error (which, raised in a worker, would come with the loader's traceback)."""
        number, crop = wanted
        path = self.root / os.fsdecode(self.names[number])
        try:
            return read_image(path, self.shape, number=number, crop=crop, advice=self.advice)
        except UsageError as error:
            return error


@dataclass(frozen=True, kw_only=True, eq=False)
class Streamed:
    """A part on disk, with the interface of ``Labelled``.

    ``files`` are its image files, ``digest`` is that of all files of the folders. ``workers`` processes (0: this one)
    read a batch each, two batches ahead; how many there are does not change any image. Batches come through pipes, as
    shared memory may be small, such as Docker's 64 MB; decoding an image takes far longer than passing it on.
    """

    files: Files
    labels: Tensor
    digest: str
    workers: int
    _idle: list[DataLoader[Any]] = field(default_factory=list, init=False)

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def shape(self) -> tuple[int, int, int]:
        return self.files.shape

    @property
    def images(self) -> Tensor:
        """All images in memory, as evaluation sees them: uint8 ``(N, C, H, W)``."""
        batches = self.batches(in_order(len(self), READ_AHEAD))
        return torch.cat([torch.empty(0, *self.shape, dtype=torch.uint8, device=self.labels.device), *batches])

    def to(self, device: torch.device | str) -> "Streamed":
        return replace(self, labels=self.labels.to(device))

    def subset(self, indices: Tensor) -> "Streamed":
        files = replace(self.files, names=self.files.names[indices.cpu().numpy()])
        return replace(self, files=files, labels=self.labels[indices.to(self.labels.device)])

    def batches(self, indices: Iterable[Tensor], crop: ResizedCrop | None = None) -> Iterator[Tensor]:
        """Yield uint8 ``(M, C, H, W)`` for each int64 ``(M,)`` of ``indices``: cropped, or as evaluation sees them.

        Workers stay for the next pass over the part; if this one is abandoned, they end. Raises ``UsageError`` for an
        unreadable image, and where a worker has died.
        """
        loader = self._idle.pop() if self._idle else self._loader()
        plan: Any = loader.batch_sampler  # a list
        plan[:] = [[(number, crop) for number in chosen.tolist()] for chosen in indices]
        batches = _begun(loader)
        try:
            while (batch := next(batches, None)) is not None:
                if isinstance(batch, UsageError):
                    raise batch
                yield torch.from_numpy(batch).to(self.labels.device)
        except RuntimeError as error:
            if "DataLoader worker" not in str(error):
                raise
            raise UsageError(
                "a process that reads images has died (short of memory?); the same command goes on, with fewer "
                f"--workers than {self.workers} or 0 for none"
            ) from error
        else:
            self._idle.append(loader)
        finally:
            del batches, loader  # an error's traceback would keep them, and the workers

    def _loader(self) -> DataLoader[Any]:
        import torchvision.transforms.v2  # noqa: F401 # seconds: once here, not once in every worker

        return DataLoader(
            self.files,
            batch_sampler=list[list[_Wanted]](),
            num_workers=self.workers,
            persistent_workers=self.workers > 0,
            collate_fn=_together,
            worker_init_fn=_ignore_interrupts,
            generator=torch.Generator(),  # the caller's random state is not ours to move
        )

    def sample(self) -> Iterator[Tensor]:
        """Yield at most 10,000 evenly spaced images, in batches."""
        count = min(len(self), SAMPLE)
        chosen = torch.arange(count) * len(self) // max(count, 1)
        return self.batches(chosen.split(READ_AHEAD))

    def content(self) -> Iterator[bytes | memoryview]:
        """Yield how images are read, in which shape, the digest of all files, and which files and labels these are."""
        yield f"streamed {(len(self), *self.shape)} {self.digest} {json.dumps(RULES, sort_keys=True)}".encode()
        yield b"\0".join(self.files.names.tolist())
        yield self.labels.cpu().numpy().astype("<i8").data


def _begun(loader: DataLoader[Any]) -> Iterator[np.ndarray | UsageError]:
    """Return a pass of a loader, without the signal handler that torch installs then.

    That handler raises a worker's death wherever the main thread happens to be; without it, it is raised where the
    worker's images are waited for. Workers begin deaf to what may end this process: see `_ignore_interrupts`.
    """
    main = threading.current_thread() is threading.main_thread() and hasattr(signal, "SIGCHLD")
    handler = signal.getsignal(signal.SIGCHLD) if main else None
    heard = signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGINT, signal.SIGTERM)) if main else ()
    try:
        with signals.held() if main else contextlib.nullcontext():  # half-begun workers would be waited for
            return iter(loader)
    finally:
        if main:
            signal.pthread_sigmask(signal.SIG_SETMASK, heard)
            signal.signal(signal.SIGCHLD, handler)


def _together(images: list[Tensor | UsageError]) -> np.ndarray | UsageError:
    """Return a batch of images ``(M, C, H, W)``, or the first error; a worker passes an array on through a pipe."""
    problem = next((image for image in images if isinstance(image, UsageError)), None)
    return torch.stack(images).numpy() if problem is None else problem  # type: ignore[arg-type]


def _ignore_interrupts(_: int) -> None:
    """Ctrl-C reaches every process of the terminal; the main one ends the others, by SIGTERM."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, (signal.SIGINT, signal.SIGTERM))


def default_workers() -> int:
    """Return the number of cores that this process may use, at most four."""
    return min(4, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)
