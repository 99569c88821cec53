"""Images that stay on disk: a part whose batches are read, decoded and cropped by worker processes."""

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
from torch.utils.data import DataLoader, default_collate
from torch.utils.data import Dataset as TorchDataset

from compress.data.augmentation import ResizedCrop
from compress.data.dataset import Part, in_order
from compress.data.folders import ClassFolders
from compress.data.preprocessing import RULES, centre, decode, opened, pixels
from compress.data.readers import Contents
from compress.data.survey import survey_files
from compress.errors import UsageError

SAMPLE = 10_000  # images to measure the normalisation on
READ_AHEAD = 250  # images a batch, where the caller does not say

# An image to read: its number in the part, and how to crop it.
_Wanted = tuple[int, ResizedCrop | None]


@dataclass(frozen=True, kw_only=True, eq=False)
class Files(TorchDataset[Tensor | UsageError]):
    """Image files under ``root``, each read as uint8 of ``shape (C, H, W)``; picklable, as workers need it."""

    root: Path
    names: np.ndarray  # of bytes: a million Python strings would be copied into every worker, touch by touch
    shape: tuple[int, int, int]

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, wanted: _Wanted) -> Tensor | UsageError:
        """Return an image, or what is wrong with it (raised in a worker, it would come with the loader's traceback)."""
        number, crop = wanted
        try:
            with opened(self.root / os.fsdecode(self.names[number])) as file:
                image = decode(file, grey=self.shape[0] == 1)
        except UsageError as error:
            return error
        if crop is None:
            image = centre(image, self.shape[1:])
        read = torch.from_numpy(pixels(image).copy())
        return crop(read, number, self.shape[1:]) if crop else read


@dataclass(frozen=True, kw_only=True, eq=False)
class Streamed:
    """A part on disk, with the face of ``Labelled``.

    ``files`` are its own, ``digest`` is that of all the folders' files, and ``workers`` (0: none, this process reads)
    read a batch each, two batches ahead. Who reads an image changes nothing about it.
    """

    files: Files
    labels: Tensor
    digest: str
    workers: int
    _idle: list[tuple[DataLoader[Any], list[list[_Wanted]]]] = field(default_factory=list, init=False)

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def shape(self) -> tuple[int, int, int]:
        """``(C, H, W)`` that every image is read in."""
        return self.files.shape

    @property
    def images(self) -> Tensor:
        """All images in memory, as evaluation sees them: uint8 ``(N, C, H, W)``."""
        batches = self.batches(in_order(len(self), READ_AHEAD))
        return torch.cat([torch.empty(0, *self.shape, dtype=torch.uint8, device=self.labels.device), *batches])

    def to(self, device: torch.device | str) -> "Streamed":
        """Return the same images and labels on a device."""
        return replace(self, labels=self.labels.to(device))

    def subset(self, indices: Tensor) -> "Streamed":
        """Return the images and labels at int64 ``indices (M,)``, in that order."""
        files = replace(self.files, names=self.files.names[indices.cpu().numpy()])
        return replace(self, files=files, labels=self.labels[indices.to(self.labels.device)])

    def batches(self, indices: Iterable[Tensor], crop: ResizedCrop | None = None) -> Iterator[Tensor]:
        """Yield uint8 ``(M, C, H, W)`` for each int64 ``(M,)`` of ``indices``: cropped, or as evaluation sees them.

        Workers go on to the next pass over the part, unless this one is abandoned: then they end. Raises ``UsageError``
        for an unreadable image, and where a worker died.
        """
        loader, plan = self._idle.pop() if self._idle else self._loader()
        plan[:] = [[(number, crop) for number in chosen.tolist()] for chosen in indices]
        batches = _started(loader)
        try:
            while (batch := next(batches, None)) is not None:
                if isinstance(batch, UsageError):
                    raise batch
                yield batch.to(self.labels.device, non_blocking=True)
        except RuntimeError as error:
            if not str(error).startswith("DataLoader worker"):
                raise
            raise UsageError(
                "a process that reads images has died (short of memory, or of shared memory in /dev/shm?); "
                f"the same command goes on, with fewer --workers than {self.workers} or 0 for none"
            ) from error
        else:
            self._idle.append((loader, plan))
        finally:
            del batches, loader  # an error's traceback would keep them, and the workers

    def _loader(self) -> tuple[DataLoader[Any], list[list[_Wanted]]]:
        """A loader, and the list of batches that it reads in each pass."""
        import torchvision.transforms.v2  # noqa: F401 # seconds: once here, not once in every worker

        plan: list[list[_Wanted]] = []
        loader = DataLoader(
            self.files,
            batch_sampler=plan,
            num_workers=self.workers,
            persistent_workers=self.workers > 0,
            collate_fn=_together,
            pin_memory=self.labels.device.type == "cuda",
            worker_init_fn=_ignore_interrupts,
            generator=torch.Generator(),  # the caller's random state is not ours to move
        )
        return loader, plan

    def sample(self) -> Iterator[Tensor]:
        """Yield at most 10,000 evenly spaced images, in batches."""
        count = min(len(self), SAMPLE)
        chosen = torch.arange(count) * len(self) // max(count, 1)
        return self.batches(chosen.split(READ_AHEAD))

    def content(self) -> Iterator[bytes | memoryview]:
        """Yield how and in which shape images are read, the digest of all files, and which files and labels are these."""
        yield f"streamed {(len(self), *self.shape)} {self.digest} {json.dumps(RULES, sort_keys=True)}".encode()
        yield b"\0".join(self.files.names.tolist())
        yield self.labels.cpu().numpy().astype("<i8").data


def _started(loader: DataLoader[Any]) -> Iterator[Tensor | UsageError]:
    """A pass of a loader, without the signal handler that torch installs then.

    That handler raises a worker's death wherever the main thread happens to be; without it, it is raised where the
    worker's images are waited for.
    """
    if threading.current_thread() is not threading.main_thread() or not hasattr(signal, "SIGCHLD"):
        return iter(loader)
    handler = signal.getsignal(signal.SIGCHLD)
    try:
        return iter(loader)
    finally:
        signal.signal(signal.SIGCHLD, handler)


def _together(images: list[Tensor | UsageError]) -> Tensor | UsageError:
    """A batch of images ``(M, C, H, W)``, or the first problem."""
    problems = [image for image in images if isinstance(image, UsageError)]
    batch: Tensor | UsageError = problems[0] if problems else default_collate(images)
    return batch


def _ignore_interrupts(_: int) -> None:
    """Ctrl-C reaches every process of the terminal; the main one ends the others."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def default_workers() -> int:
    """As many as this process may use cores, but no more than four."""
    return min(4, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)


def stream_class_folders(
    folders: ClassFolders, *, image_size: int | None = None, skip_unreadable: bool = False, workers: int | None = None
) -> Contents:
    """Return parts that stay on disk; images as in ``read_class_folders``, but see ``centre`` for those resized.

    ``workers`` None is ``default_workers()``. Raises ``UsageError`` for an image that is none (with
    ``skip_unreadable`` it is left out, for which all must be decoded once), and images of several sizes without
    ``image_size``.
    """
    survey = survey_files(folders, decode=skip_unreadable)
    used = survey.usable(folders, skip_unreadable=skip_unreadable)
    shape = survey.shape(folders.root, image_size)
    names = np.array([os.fsencode(name) for name in used.names])
    workers = default_workers() if workers is None else workers
    parts: dict[str, Part] = {}
    start = 0
    for part, labels in used.labels.items():
        files = Files(root=folders.root, names=names[start : start + len(labels)], shape=shape)
        parts[part] = Streamed(files=files, labels=labels, digest=survey.digest, workers=workers)
        start += len(labels)
    return Contents.of_folders(folders, survey, parts, image_size)
