"""Readers of published data sets: labelled images from the files in which they are distributed."""

import gzip
import math
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from compress.data.dataset import Labelled, Part
from compress.errors import UsageError


@dataclass(frozen=True, kw_only=True, eq=False)
class Contents:
    """What a reader returns: class names in the order of the labels, parts, and the number of files left out.

    ``preprocessing`` (how files became images) and ``division`` (how flat folders were divided) are for the record.
    """

    classes: tuple[str, ...]
    train: Part
    test: Part
    validation: Part | None = None
    skipped: int = 0
    preprocessing: dict[str, Any] | None = None
    division: dict[str, Any] | None = None


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


def read_mnist_layout(folder: Path, *, classes: tuple[str, ...]) -> Contents:
    """Return the content of four idx files in MNIST's layout, plain or ``.gz``; images are ``(N, 1, H, W)``."""

    def labelled(part: str) -> Labelled:
        images = read_idx(_plain_or_gz(folder / f"{part}-images-idx3-ubyte"), dimensions=3)
        labels = read_idx(_plain_or_gz(folder / f"{part}-labels-idx1-ubyte"), dimensions=1)
        return Labelled(images=images.unsqueeze(1), labels=labels.long())

    return Contents(classes=classes, train=labelled("train"), test=labelled("t10k"))


def _plain_or_gz(path: Path) -> Path:
    return path if path.exists() else path.with_name(path.name + ".gz")


def read_cifar(folder: Path, *, classes: int) -> Contents:
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

    return Contents(classes=tuple(train.classes), train=labelled(train), test=labelled(test))


def read_svhn(folder: Path) -> Contents:
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

    return Contents(classes=tuple("0123456789"), train=labelled(train), test=labelled(test))


def _damaged(folder: Path) -> UsageError:
    return UsageError(f"files in {folder} are missing or damaged (their md5 sums are not the published ones)")
