"""Class folders of a published data set, decoded by all cores and kept as tensors in the cache until a file changes."""

import contextlib
import logging
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import safetensors.torch
import torch
from torch import Tensor

from compress.data.catalogue import cache_directory
from compress.data.class_folders import ClassFolders
from compress.data.dataset import Dataset, Labelled
from compress.data.decoding_worker import END, square
from compress.data.folder_survey import stamp_of
from compress.data.image_decoding import preprocessing
from compress.errors import UsageError

FEW = 2000  # files that one process decodes before others would have started
HOME = Path(__file__).resolve().parents[2]  # the directory that this package is in
_log = logging.getLogger("compress")


def read_decoded(folders: ClassFolders, name: str, side: int) -> Dataset:
    """Return class folders with train and test images, ``side`` pixels wide and high, as a data set.

    What was decoded is read from the cache where no name, size or modification time has changed since, and its digest
    is what it was; else it is decoded again.

    Raises:
        UsageError: a file is not readable, or has another size.
    """
    stamp, _ = stamp_of(folders.root, folders.names, decode=True)
    kept = cache_directory() / "decoded" / f"{stamp}.safetensors"
    if kept.exists():
        if dataset := _read(kept, folders, name, side):
            return dataset
        _log.warning("%s is damaged: %s is decoded again", kept, folders.root)
    _log.warning("%s: %s; decoded once, and kept in %s", folders.root, folders.what_is_used(), kept.parent)
    images = _decoded(folders, side)
    dataset = _dataset(folders, name, images)
    _keep(kept, images, dataset.digest)
    return dataset


def _dataset(folders: ClassFolders, name: str, images: Tensor) -> Dataset:
    """Return the data set of the images ``(N, C, H, W)`` in the order of the files' names."""
    labels = folders.labels
    parts = dict(zip(labels, images.split([len(each) for each in labels.values()]), strict=True))
    return Dataset(
        name=name,
        copy="class folders",
        classes=folders.classes,
        train=Labelled(images=parts["train"], labels=labels["train"]),
        test=Labelled(images=parts["test"], labels=labels["test"]),
        preprocessing=preprocessing((images.shape[1], images.shape[2], images.shape[3]), resized=False),
    )


def _decoded(folders: ClassFolders, side: int) -> Tensor:
    """Return all images, uint8 ``(N, 3, side, side)``, in the order of the files' names."""
    names, root = folders.names, folders.root
    processes = 1 if len(names) <= FEW else min(os.cpu_count() or 1, -(-len(names) // FEW))
    if processes == 1:
        content = b"".join(square(root / name, side) for name in names)
    else:
        each = -(-len(names) // processes)
        shares = [names[start : start + each] for start in range(0, len(names), each)]
        with ThreadPoolExecutor(processes) as pool:  # of threads that wait for processes
            content = b"".join(pool.map(lambda share: _by_worker(root, share, side), shares))
    return torch.frombuffer(bytearray(content), dtype=torch.uint8).view(len(names), 3, side, side)


def _by_worker(root: Path, names: list[str], side: int) -> bytes:
    command = [sys.executable, "-m", "compress.data.decoding_worker", str(root), str(side)]
    given = b"".join(os.fsencode(name) + END for name in names)
    here = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, [str(HOME), os.environ.get("PYTHONPATH")]))}
    done = subprocess.run(command, input=given, capture_output=True, env=here)
    if done.returncode:
        raise UsageError(done.stderr.decode(errors="replace").strip() or f"{root}: a process that decodes has failed")
    return done.stdout


def _read(kept: Path, folders: ClassFolders, name: str, side: int) -> Dataset | None:
    """Return the data set in a file of the cache; None where it is damaged."""
    try:
        found = safetensors.torch.load_file(kept)
        images = found["images"].view(torch.uint8).view(len(folders.names), 3, side, side)
        dataset = _dataset(folders, name, images)
        return dataset if bytes(found["digest"].tolist()).hex() == dataset.digest else None
    except (OSError, KeyError, RuntimeError, ValueError, safetensors.SafetensorError):
        return None


def _keep(kept: Path, images: Tensor, digest: str) -> None:
    tensors = {"images": images, "digest": torch.tensor(list(bytes.fromhex(digest)), dtype=torch.uint8)}
    with contextlib.suppress(OSError, safetensors.SafetensorError):  # it is only a cache
        kept.parent.mkdir(parents=True, exist_ok=True)
        unfinished = kept.with_suffix(f".{os.getpid()}")
        safetensors.torch.save_file(tensors, unfinished)
        unfinished.replace(kept)
