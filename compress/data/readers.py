"""Readers of published data sets: labelled images from the files in which they are distributed."""

import gzip
import hashlib
import math
import pickle
import warnings
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from compress.data.dataset import Dataset, Labelled
from compress.errors import UsageError

FASHION_CLASSES = (
    *("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat"),
    *("Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"),
)


def read_idx(path: Path, *, dimensions: int) -> Tensor:
    """Return the uint8 tensor of an idx file (plain or ``.gz``), in the shape that its header names.

    The format: two zero bytes, 8 for uint8, the number of dimensions, every size as a big-endian int32, the data
    (http://yann.lecun.com/exdb/mnist). Raises ``UsageError`` for a missing, truncated or different file.
    """
    try:
        content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (OSError, EOFError, zlib.error) as error:
        raise UsageError(f"{path} is missing, cut short or damaged ({error})") from error
    start = 4 + 4 * dimensions
    if len(content) < start or content[:4] != bytes([0, 0, 8, dimensions]):
        raise UsageError(f"{path} is not an idx file of bytes in {dimensions} dimensions")
    shape = [int.from_bytes(content[i : i + 4], "big") for i in range(4, start, 4)]
    if len(content) - start != math.prod(shape):
        raise UsageError(f"{path} has {len(content) - start} bytes of data where its header says {math.prod(shape)}")
    return torch.from_numpy(np.frombuffer(content, np.uint8, offset=start).reshape(shape).copy())


def read_fashion_mnist(folder: Path) -> Dataset:
    """Return Fashion-MNIST from its four idx files, plain or ``.gz``."""

    def labelled(part: str) -> Labelled:
        images = read_idx(_plain_or_gz(folder / f"{part}-images-idx3-ubyte"), dimensions=3)
        labels = read_idx(_plain_or_gz(folder / f"{part}-labels-idx1-ubyte"), dimensions=1)
        return Labelled(images=images.unsqueeze(1), labels=labels.long())

    train, test = labelled("train"), labelled("t10k")
    return Dataset(name="fashion-mnist", copy="idx files", classes=FASHION_CLASSES, train=train, test=test)


def _plain_or_gz(path: Path) -> Path:
    return path if path.exists() else path.with_name(path.name + ".gz")


@dataclass(frozen=True, kw_only=True)
class PickledFiles:
    """The files in which CIFAR is published, with their md5 sums: nothing else is unpickled.

    Attributes:
        train, test: md5 sums by file name.
        labels: key of the labels in these files.
        names: the file with the names of the classes, its md5 sum, and their key in it.
    """

    folder: str
    train: dict[str, str]
    test: dict[str, str]
    labels: str
    names: tuple[str, str, str]


CIFAR = {
    10: PickledFiles(
        folder="cifar-10-batches-py",
        train={
            "data_batch_1": "c99cafc152244af753f735de768cd75f",
            "data_batch_2": "d4bba439e000b95fd0a9bffe97cbabec",
            "data_batch_3": "54ebc095f3ab1f0389bbae665268c751",
            "data_batch_4": "634d18415352ddfa80567beed471001a",
            "data_batch_5": "482c414d41f54cd18b22e5b47cb7c3cb",
        },
        test={"test_batch": "40351d587109b95175f43aff81a1287e"},
        labels="labels",
        names=("batches.meta", "5ff9c542aee3614f3951f8cda6e48888", "label_names"),
    ),
    100: PickledFiles(
        folder="cifar-100-python",
        train={"train": "16019d7e3df5f24257cddd939b257f8d"},
        test={"test": "f0ef6b0ae62326f3e7ffdfab6717acfc"},
        labels="fine_labels",
        names=("meta", "7973b15100ade9c7d40fb424638fde48", "fine_label_names"),
    ),
}


def read_cifar(folder: Path, *, classes: int) -> Dataset:
    """Return CIFAR-10 or CIFAR-100 (by the number of classes) from the original batch files, whose sums are checked."""
    files = CIFAR[classes]
    here, (names, md5, key) = folder / files.folder, files.names

    def labelled(sums: dict[str, str]) -> Labelled:
        batches = [_unpickled(here / name, own) for name, own in sums.items()]
        pixels = np.concatenate([batch["data"] for batch in batches]).reshape(-1, 3, 32, 32)
        labels = [label for batch in batches for label in batch[files.labels]]
        return Labelled(images=torch.from_numpy(pixels), labels=torch.tensor(labels))

    return Dataset(
        name=f"cifar{classes}",
        copy="torchvision files",
        classes=tuple(_unpickled(here / names, md5)[key]),
        train=labelled(files.train),
        test=labelled(files.test),
    )


def _unpickled(path: Path, md5: str) -> dict[str, Any]:
    """Return what a published file holds; ``UsageError`` where it is missing or not what was published."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise _damaged(path.parent) from error
    if hashlib.md5(content, usedforsecurity=False).hexdigest() != md5:
        raise _damaged(path.parent)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # numpy's, of the form in which its first versions were pickled
        found: dict[str, Any] = pickle.loads(content, encoding="latin1")
    return found


def read_svhn(folder: Path) -> Dataset:
    """Return SVHN (cropped digits) from its two ``.mat`` files, checked by torchvision.

    Training images are the 73,257 of ``train``; the 531,131 easier ones of ``extra`` are not used.
    """
    from torchvision import datasets

    try:
        train, test = (datasets.SVHN(folder, split=split) for split in ("train", "test"))
    except RuntimeError as error:
        raise _damaged(folder) from error

    def labelled(part: "datasets.SVHN") -> Labelled:
        return Labelled(images=torch.from_numpy(part.data).contiguous(), labels=torch.from_numpy(part.labels))

    return Dataset(
        name="svhn",
        copy="torchvision files",
        classes=tuple("0123456789"),
        train=labelled(train),
        test=labelled(test),
    )


def _damaged(folder: Path) -> UsageError:
    return UsageError(f"files in {folder} are missing or damaged (their md5 sums are not the published ones)")
