"""Readers: from files on disk to labelled images. A damaged file is an error that names it."""

import gzip
import logging
import math
import os
import zlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from compress.data.dataset import Labelled
from compress.errors import UsageError

IMAGE_SUFFIXES = frozenset({".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"})
GREY_MODES = frozenset({"1", "L", "LA"})
COLOUR_MODES = frozenset({"RGB", "RGBA", "P", "PA", "CMYK", "YCbCr"})

_log = logging.getLogger("compress")


@dataclass(frozen=True, kw_only=True, eq=False)
class Contents:
    """What was read: the class names, in the order of the labels, and the parts."""

    classes: tuple[str, ...]
    train: Labelled
    test: Labelled
    validation: Labelled | None = None


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
    """Return what the four idx files of MNIST's layout hold, each plain or ``.gz``; images are ``(N, 1, H, W)``."""

    def labelled(part: str) -> Labelled:
        images = read_idx(_plain_or_gz(folder / f"{part}-images-idx3-ubyte"), dimensions=3)
        labels = read_idx(_plain_or_gz(folder / f"{part}-labels-idx1-ubyte"), dimensions=1)
        return Labelled(images=images.unsqueeze(1), labels=labels.long())

    return Contents(classes=classes, train=labelled("train"), test=labelled("t10k"))


def _plain_or_gz(path: Path) -> Path:
    return path if path.exists() else path.with_name(path.name + ".gz")


def read_cifar(folder: Path, *, classes: int) -> Contents:
    """Return CIFAR-10 or CIFAR-100 (by the number of classes) from the original batch files, checked by torchvision."""
    from torchvision import datasets  # here, as importing it takes seconds

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


def read_class_folders(root: Path, *, image_size: int | None = None) -> Contents:
    """Return the images under ``root``: ``train/CLASS/*``, ``test/CLASS/*`` and, if there, ``val/CLASS/*``.

    Classes and files are taken in the order of their names; hidden files and other suffixes are passed over. Images
    are ``(N, 1, H, W)`` when all are grey, else ``(N, 3, H, W)``. With ``image_size`` S, the shorter side is resized to
    S and the centre S x S cut out. Raises ``UsageError`` for parts without the same classes, a class without images,
    an unreadable image, and images of several sizes without ``image_size``.
    """
    if image_size is not None and image_size < 1:
        raise UsageError(f"--image-size must be 1 or more, not {image_size}")
    files = {part: _class_files(root / part) for part in ("train", "test")}
    if (root / "val").is_dir():
        files["val"] = _class_files(root / "val")
    classes = tuple(files["train"])
    for part, by_class in files.items():
        if odd := sorted(by_class.keys() ^ set(classes)):
            here, missing = ("train", part) if odd[0] in classes else (part, "train")
            raise UsageError(f"{root}: class {odd[0]!r} is in {here}/ but not in {missing}/; both need the same")

    folders = [paths for by_class in files.values() for paths in by_class.values()]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        # A folder a task: to hand over one small image takes longer than to decode it.
        decoded = pool.map(lambda paths: [_decode(path, image_size) for path in paths], folders)
        arrays = [array for folder in decoded for array in folder]
    images = _stack(root, [path for paths in folders for path in paths], arrays)

    parts, start = {}, 0
    for part, by_class in files.items():
        counts = torch.tensor([len(paths) for paths in by_class.values()])
        labels = torch.arange(len(classes)).repeat_interleave(counts)
        parts[part] = Labelled(images=images[start : start + len(labels)], labels=labels)
        start += len(labels)
    return Contents(classes=classes, train=parts["train"], test=parts["test"], validation=parts.get("val"))


def _class_files(part: Path) -> dict[str, list[Path]]:
    """The image files of one part by class, both sorted by name."""
    if not part.is_dir():
        raise UsageError(f"{part} is not a folder; expected train/CLASS/*, test/CLASS/* and, optionally, val/CLASS/*")
    folders = sorted(folder for folder in part.iterdir() if folder.is_dir() and not folder.name.startswith("."))
    if not folders:
        raise UsageError(f"{part} has no class folders; expected {part.name}/CLASS/*")
    by_class = {}
    for folder in folders:
        names = sorted(name for name in os.listdir(folder) if not name.startswith("."))
        by_class[folder.name] = [folder / name for name in names if Path(name).suffix.lower() in IMAGE_SUFFIXES]
        if not by_class[folder.name]:
            raise UsageError(f"{folder} holds no images; known suffixes: {', '.join(sorted(IMAGE_SUFFIXES))}")
    return by_class


def _decode(path: Path, image_size: int | None) -> np.ndarray:
    """One image as uint8, ``(H, W)`` if grey and ``(H, W, 3)`` if not."""
    try:
        with Image.open(path) as file:
            mode = file.mode
            image = file.convert("L" if mode in GREY_MODES else "RGB")
    except (OSError, EOFError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise UsageError(f"{path} cannot be read as an image ({error})") from error
    if mode not in GREY_MODES | COLOUR_MODES:  # 16-bit and float pixels: PIL would cut them off at 255
        raise UsageError(f"{path} has pixels of PIL mode {mode}; convert it to 8 bits a channel")
    if image_size is not None:
        image = ImageOps.fit(image, (image_size, image_size), Image.Resampling.BILINEAR)
    return np.asarray(image)


def _stack(root: Path, paths: Sequence[Path], arrays: Sequence[np.ndarray]) -> Tensor:
    """All images as one uint8 tensor ``(N, C, H, W)``; grey ones get three channels where others are coloured."""
    sizes = [array.shape[:2] for array in arrays]
    for path, (height, width) in zip(paths, sizes, strict=True):
        if (height, width) != sizes[0]:
            raise UsageError(
                f"{root}: images differ in size ({paths[0].relative_to(root)} is {sizes[0][1]}x{sizes[0][0]}, "
                f"{path.relative_to(root)} is {width}x{height}): give --image-size, such as {min(map(min, sizes))}"
            )
    grey = sum(array.ndim == 2 for array in arrays)
    if 0 < grey < len(arrays):
        _log.warning("%s: %d of %d images are grey; all are read as RGB", root, grey, len(arrays))
    channels = 1 if grey == len(arrays) else 3
    images = np.empty((len(arrays), channels, *sizes[0]), np.uint8)
    for image, array in zip(images, arrays, strict=True):
        image[:] = np.atleast_3d(array).transpose(2, 0, 1)
    return torch.from_numpy(images)
