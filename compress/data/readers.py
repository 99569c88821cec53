"""Readers of published data sets: labelled images from the files in which they are distributed."""

import gzip
import math
import zlib
from pathlib import Path

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


def read_cifar(folder: Path, *, classes: int) -> Dataset:
    """Return CIFAR-10 or CIFAR-100 (by the number of classes) from the original batch files, checked by torchvision."""
    from torchvision import datasets  # here, as its import takes seconds

    reader = {10: datasets.CIFAR10, 100: datasets.CIFAR100}[classes]
    try:
        train, test = (reader(folder, train=train) for train in (True, False))
    except RuntimeError as error:
        raise _damaged(folder / reader.base_folder) from error

    def labelled(part: "datasets.CIFAR10") -> Labelled:
        images = torch.from_numpy(part.data).permute(0, 3, 1, 2).contiguous()
        return Labelled(images=images, labels=torch.tensor(part.targets))

    return Dataset(
        name=f"cifar{classes}",
        copy="torchvision files",
        classes=tuple(train.classes),
        train=labelled(train),
        test=labelled(test),
    )


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
