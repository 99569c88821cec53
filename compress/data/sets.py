"""The data sets by name: where each is looked for, how it is read, and how to get it."""

import http.client
import logging
import os
import tarfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from importlib.resources import files
from pathlib import Path

import numpy as np
import torch
from filelock import FileLock

from compress.data.cache import cache_directory
from compress.data.dataset import Dataset, Labelled
from compress.data.folders import list_class_folders
from compress.data.normalisation import Normalisation
from compress.data.own import FOLDER, find_folder, open_folder
from compress.data.readers import Contents, read_cifar, read_class_folders, read_mnist_layout, read_svhn
from compress.errors import UsageError, checked, nearest

FASHION_CLASSES = (
    *("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat"),
    *("Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"),
)
CIFAR10_CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")

LARGEST_SIZE = 8192  # pixels that images are resized to
WORKERS_A_CORE = 4  # at most: each is a process that imports torch

_DEBIAN = Path("/usr/share/datasets/fashion-mnist")
_log = logging.getLogger("compress")


@dataclass(frozen=True, kw_only=True)
class Availability:
    """What `compress data` says of one set: ``where`` it is (a path, "bundled", "not here") and ``how`` to get it."""

    name: str
    what: str
    where: str
    how: str


@dataclass(frozen=True, kw_only=True)
class _Copy:
    """One form that a data set comes in: ``sign`` is the path, in its folder, that gives it away."""

    description: str
    sign: str
    read: Callable[[Path], Contents]


@dataclass(frozen=True, kw_only=True)
class _Source:
    """A data set on disk. Its copies lie in one of ``folders``, inside a place such as the data directory."""

    what: str
    folders: tuple[str, ...]
    copies: tuple[_Copy, ...]
    torchvision: str  # the class of torchvision.datasets that downloads it
    by_hand: str
    augmentable: bool = True
    normalisation: Normalisation | None = None


@checked
def open_dataset(
    name: str,
    *,
    data_dir: Path | None = None,
    image_size: int | None = None,
    stream: bool | None = None,
    skip_unreadable: bool = False,
    workers: int | None = None,
    download: bool = True,
) -> Dataset:
    """Return the data set called ``name``: bundled, from files that are here, or downloaded.

    Files are looked for in ``data_dir``, ``$COMPRESS_DATA``, the user's cache and (Fashion-MNIST) Debian's place.

    "folder:PATH" are class folders of one's own, wherever ``find_folder`` finds them; the name of the data set is then
    the resolved path. Their images are resized to ``image_size`` (pixels); ``stream`` leaves them on disk, to be read
    by ``workers`` processes (default: a core each, at most 4; 0: by this one), and False forbids it; None streams what
    decoded is larger than 2 GiB. ``skip_unreadable`` leaves out files that are no images.

    Raises ``UsageError`` for an unknown name, options that do not fit, a data directory that is not there, damaged
    files, and data that cannot be had.
    """
    places = _places(data_dir)
    if name.startswith(FOLDER):
        most_workers = WORKERS_A_CORE * (os.cpu_count() or 1)
        for option, value, least, most in (
            ("--image-size", image_size, 1, LARGEST_SIZE),
            ("--workers", workers, 0, most_workers),
        ):
            if value is not None and not least <= value <= most:
                raise UsageError(f"{option} must be {least} or more, here {most} at most, not {value}")
        root = find_folder(name, data_dir)
        return open_folder(root, image_size=image_size, stream=stream, skip_unreadable=skip_unreadable, workers=workers)
    if name not in ("fashion-mini", *_SOURCES):
        raise UsageError(_unknown(name))
    if image_size is not None:
        raise UsageError(f"--image-size is for folder:PATH; the images of {name} come in one size")
    if stream or skip_unreadable:
        option = "--stream" if stream else "--skip-unreadable"
        raise UsageError(f"{option} is for folder:PATH; {name} is read into memory, whole")
    if name == "fashion-mini":
        return _dataset(name, "bundled", _read_bundled())

    source = _SOURCES[name]
    found = _find(source, places)
    if found is None and download:
        _download(name, source)
        found = _find(source, places)
    if found is None:
        raise UsageError(f"{name} is not in {', '.join(map(str, places))}; to get it: {source.by_hand}")
    folder, copy = found
    description = "Debian dataset-fashion-mnist" if folder == _DEBIAN else copy.description
    try:
        return _dataset(name, description, copy.read(folder), source)
    except UsageError as error:
        raise UsageError(f"{error}; to get them again: {source.by_hand}") from error


@checked
def available(data_dir: Path | None = None) -> list[Availability]:
    """Return a line for every data set, having looked for its files without reading them."""
    mini = "6,000 + 2,000 images of Fashion-MNIST, class-balanced"
    own = (
        "class folders of your own: train/CLASS/*, test/CLASS/*, optionally val/CLASS/*; or CLASS/* alone, to be split"
    )
    rows = [Availability(name="fashion-mini", what=mini, where="bundled", how="")]
    places = _places(data_dir)
    for name, source in _SOURCES.items():
        found = _find(source, places)
        where, how = (str(found[0]), "") if found else ("not here", f"downloaded on first use, or {source.by_hand}")
        rows.append(Availability(name=name, what=source.what, where=where, how=how))
    return [*rows, Availability(name="folder:PATH", what=own, where="PATH", how="")]


def _dataset(name: str, copy: str, contents: Contents, source: _Source | None = None) -> Dataset:
    dataset = Dataset(
        name=name,
        copy=copy,
        classes=contents.classes,
        train=contents.train,
        validation=contents.validation,
        test=contents.test,
        augmentable=source.augmentable if source else True,
        normalisation=source.normalisation if source else None,
        preprocessing=contents.preprocessing,
    )
    if dataset.digest != _DIGESTS.get(name, dataset.digest):
        raise UsageError(f"{name} ({copy}) is not what was published: its pixels or labels differ")
    return dataset


def _unknown(name: str) -> str:
    if os.path.isdir(os.path.expanduser(name)):
        return f"unknown data set {name!r}: to read it as class folders, say folder:{name}"
    return f"unknown data set {name!r}: {nearest(name, ['fashion-mini', *_SOURCES, 'folder:PATH'])}"


# ---- where ----


def _places(data_dir: Path | None) -> list[Path]:
    """Where files are looked for, first to last."""
    places = []
    for place, source in ((data_dir, "--data-dir"), (os.environ.get("COMPRESS_DATA"), "$COMPRESS_DATA")):
        if place:
            places.append(Path(os.path.expanduser(place)))
            if not os.path.isdir(places[-1]):
                raise UsageError(f"{source} {place} is not a folder; name one that is there, or leave it out")
    return [*places, cache_directory()]


def _find(source: _Source, places: list[Path]) -> tuple[Path, _Copy] | None:
    """The first copy that is there: by place, then by the order of the copies."""
    elsewhere = [_DEBIAN] if source.torchvision == "FashionMNIST" else []
    for place in [*places, *elsewhere]:
        for copy in source.copies:
            for folder in source.folders:
                if (place / folder / copy.sign).exists():
                    return place / folder, copy
    return None


def _download(name: str, source: _Source) -> None:
    """Let torchvision put the data into the user's cache: all of it, or nothing that looks like it."""
    try:
        cache_directory().mkdir(parents=True, exist_ok=True)
        with FileLock(cache_directory() / f".{name}.lock"):  # several runs may start at once
            if _find(source, [cache_directory()]):
                return
            from torchvision import datasets  # here, as importing it takes seconds

            _log.warning("downloading %s into %s", name, cache_directory())
            reader = getattr(datasets, source.torchvision)
            unfinished = cache_directory() / f".{name}.unfinished"
            for options in [{"split": "train"}, {"split": "test"}] if name == "svhn" else [{}]:
                reader(unfinished, download=True, **options)
            unfinished.rename(cache_directory() / name)
    except (OSError, RuntimeError, EOFError, tarfile.TarError, http.client.HTTPException) as error:
        why = " ".join(str(error).split())
        raise UsageError(f"{name} is not here and cannot be downloaded ({why}); by hand: {source.by_hand}") from error


# ---- what ----


def _read_bundled() -> Contents:
    with (files("compress.data") / "fashion_mini.npz").open("rb") as file:
        arrays = np.load(file, allow_pickle=False)
        train, test = (
            Labelled(
                images=torch.from_numpy(arrays[f"{part}_images"]).unsqueeze(1),
                labels=torch.from_numpy(arrays[f"{part}_labels"]).long(),
            )
            for part in ("train", "test")
        )
    return Contents(classes=FASHION_CLASSES, train=train, test=test)


def _read_cifar10_folders(folder: Path) -> Contents:
    contents = read_class_folders(list_class_folders(folder))
    if contents.classes != CIFAR10_CLASSES or contents.train.shape != (3, 32, 32):
        raise UsageError(f"{folder} has class folders, but not CIFAR-10's; for images of your own say folder:{folder}")
    sizes = len(contents.train), len(contents.test)
    if sizes != (50_000, 10_000):
        _log.warning("%s holds only a part of CIFAR-10: %d training and %d test images", folder, *sizes)
    return contents


_TELL = "and name DIR with --data-dir or $COMPRESS_DATA"

_SOURCES = {
    "fashion-mnist": _Source(
        what="60,000 + 10,000 images, 28x28 grey, 10 classes",
        folders=("fashion-mnist", "FashionMNIST/raw", "fashion-mnist/FashionMNIST/raw", "."),
        copies=tuple(
            _Copy(
                description="idx files",
                sign=f"train-images-idx3-ubyte{suffix}",
                read=partial(read_mnist_layout, classes=FASHION_CLASSES),
            )
            for suffix in ("", ".gz")
        ),
        torchvision="FashionMNIST",
        by_hand="apt-get install dataset-fashion-mnist, or put the four files of "
        f"https://github.com/zalandoresearch/fashion-mnist into DIR/fashion-mnist {_TELL}",
    ),
    "cifar10": _Source(
        what="50,000 + 10,000 images, 32x32 colour, 10 classes",
        folders=(".", "cifar10", "cifar10-images"),
        copies=(
            _Copy(
                description="torchvision files",
                sign="cifar-10-batches-py",
                read=partial(read_cifar, classes=10),
            ),
            _Copy(description="class folders", sign="train/airplane", read=_read_cifar10_folders),
        ),
        torchvision="CIFAR10",
        by_hand="unpack https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz in DIR (or put class folders "
        f"train/airplane/*, ... into DIR/cifar10) {_TELL}",
        normalisation=Normalisation(mean=(0.4914, 0.4822, 0.4465), std=(0.2470, 0.2435, 0.2616)),
    ),
    "cifar100": _Source(
        what="50,000 + 10,000 images, 32x32 colour, 100 classes",
        folders=(".", "cifar100"),
        copies=(
            _Copy(
                description="torchvision files",
                sign="cifar-100-python",
                read=partial(read_cifar, classes=100),
            ),
        ),
        torchvision="CIFAR100",
        by_hand=f"unpack https://www.cs.toronto.edu/~kriz/cifar-100-python.tar.gz in DIR {_TELL}",
        normalisation=Normalisation(mean=(0.5071, 0.4867, 0.4408), std=(0.2675, 0.2557, 0.2761)),
    ),
    "svhn": _Source(
        what="73,257 + 26,032 images (without `extra`), 32x32 colour, 10 digits",
        folders=(".", "svhn"),
        copies=(_Copy(description="torchvision files", sign="train_32x32.mat", read=read_svhn),),
        torchvision="SVHN",
        by_hand=f"put train_32x32.mat and test_32x32.mat of http://ufldl.stanford.edu/housenumbers into DIR {_TELL}",
        augmentable=False,
        normalisation=Normalisation(mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0)),
    ),
}

# What `Dataset.digest` must be where files carry no check of their own: MNIST's, for one, have Fashion-MNIST's names.
_DIGESTS = {
    "fashion-mini": "cb8ad2a2d76a61f6e76498e19e7f08eab1adeeda54a47acce378b1bb8b2b17e7",
    "fashion-mnist": "e7413eceb54df2aeaafc1fee4c9b1732d1eb8eca1f8a9074fd7f9eb7382750f4",
}
