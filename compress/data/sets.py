"""Opening data sets by name: from bundled files, from copies that are here, or from a download."""

import http.client
import logging
import tarfile
from dataclasses import replace
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import torch
from filelock import FileLock
from torch.nn.functional import avg_pool2d

from compress.data.catalogue import (
    AVERAGED,
    BUNDLED,
    CLASS_FOLDERS,
    DEBIAN,
    FOLDER,
    PUBLISHED,
    Published,
    cache_directory,
    check_request,
    find_copy,
    find_folder,
    search_places,
)
from compress.data.class_folders import list_class_folders
from compress.data.dataset import Dataset, Labelled, Part
from compress.data.decoded_folders import read_decoded
from compress.data.division import Division
from compress.data.image_decoding import opened, upright_size
from compress.data.normalisation import Normalisation
from compress.data.own_folders import open_folder
from compress.data.readers import FASHION_CLASSES, read_cifar, read_fashion_mnist, read_svhn
from compress.errors import UsageError, checked

CIFAR10_CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")

# What `Dataset.digest` must be where files carry no checksum: those of MNIST have the same names as Fashion-MNIST's.
_DIGESTS = {
    BUNDLED: "cb8ad2a2d76a61f6e76498e19e7f08eab1adeeda54a47acce378b1bb8b2b17e7",
    "fashion-mnist": "e7413eceb54df2aeaafc1fee4c9b1732d1eb8eca1f8a9074fd7f9eb7382750f4",
}
_log = logging.getLogger("compress")


@checked
def open_dataset(
    name: str,
    *,
    data_dir: Path | None = None,
    image_size: int | None = None,
    stream: bool | None = None,
    skip_unreadable: bool = False,
    workers: int | None = None,
    division: Division | str | None = None,
    download: bool = True,
) -> Dataset:
    """Return the data set called ``name``: bundled, from files that are here, or downloaded.

    Args:
        name: "fashion-mini", a key of ``PUBLISHED`` or ``AVERAGED``, or "folder:PATH" for class folders of one's own,
            wherever ``find_folder`` finds them; the name of the data set is then the resolved path.
        data_dir: where files are looked for first; then in ``$COMPRESS_DATA``, the user's cache and (Fashion-MNIST) the
            place of Debian's package.
        image_size: class folders: height and width, in pixels, that images are resized to.
        stream: class folders: whether images stay on disk; None: where they take more than 2 GiB decoded.
        skip_unreadable: class folders: leave out files that are not readable images.
        workers: class folders: processes that read streamed images; None: one a core, at most 4; 0: this process.
        division: class folders without parts: how they are divided; a text as ``Division.asked`` takes it.
        download: whether a published data set that is not here is downloaded.

    Raises:
        UsageError: an unknown name, options that do not fit, a data directory that is not there, damaged files, or data
            that cannot be had.
    """
    given: dict[str, Any] = {"image_size": image_size, "stream": stream, "skip_unreadable": skip_unreadable}
    given |= {"workers": workers, "division": Division.asked(division) if isinstance(division, str) else division}
    check_request(name, data_dir=data_dir, **given)
    if name.startswith(FOLDER):
        return open_folder(find_folder(name, data_dir), **given)
    if name == BUNDLED:
        return _checked(_read_bundled())
    if name in AVERAGED:
        source, side = AVERAGED[name]
        return _averaged(open_dataset(source, data_dir=data_dir, download=download), name, side)
    published, places = PUBLISHED[name], search_places(data_dir)
    found = find_copy(published, places)
    if found is None and download:
        _download(name, published)
        found = find_copy(published, places)
    if found is None:
        raise UsageError(f"{name} is not in {', '.join(map(str, places))}; to get it: {published.by_hand}")
    folder, layout = found
    known = Normalisation(mean=published.mean, std=published.std) if published.mean else None
    try:
        dataset = replace(
            _read(name, folder, layout), name=name, augmentable=published.augmentable, normalisation=known
        )
        return _checked(replace(dataset, copy="Debian dataset-fashion-mnist") if folder == DEBIAN else dataset)
    except UsageError as error:
        raise UsageError(f"{error}; to get them again: {published.by_hand}") from error


def _checked(dataset: Dataset) -> Dataset:
    """Return a published data set, unless its content is known and differs."""
    if dataset.digest != _DIGESTS.get(dataset.name, dataset.digest):
        raise UsageError(f"{dataset.name} ({dataset.copy}) is not what was published: its pixels or labels differ")
    return dataset


def _averaged(whole: Dataset, name: str, side: int) -> Dataset:
    """Return a data set of smaller images: every square of ``side`` x ``side`` pixels is averaged and rounded."""

    def smaller(part: Part) -> Labelled:
        batches = [avg_pool2d(images.float(), side).round().byte() for images in part.images.split(5000)]
        return Labelled(images=torch.cat(batches), labels=part.labels)

    # The published constants are of the pixels before averaging, whose deviation is larger.
    return replace(whole, name=name, train=smaller(whole.train), test=smaller(whole.test), normalisation=None)


def _download(name: str, published: Published) -> None:
    """Let torchvision put the whole data set into the user's cache; a download that fails leaves nothing there."""
    try:
        cache_directory().mkdir(parents=True, exist_ok=True)
        with FileLock(cache_directory() / f".{name}.lock"):  # several runs may start at once
            if find_copy(published, [cache_directory()]):
                return
            from torchvision import datasets  # here, as importing it takes seconds

            _log.warning("downloading %s into %s", name, cache_directory())
            reader = getattr(datasets, published.torchvision)
            unfinished = cache_directory() / f".{name}.unfinished"
            for options in [{"split": "train"}, {"split": "test"}] if name == "svhn" else [{}]:
                reader(unfinished, download=True, **options)
            unfinished.rename(cache_directory() / name)
    except (OSError, RuntimeError, EOFError, tarfile.TarError, http.client.HTTPException) as error:
        why = " ".join(str(error).split())
        raise UsageError(
            f"{name} is not here and cannot be downloaded ({why}); by hand: {published.by_hand}"
        ) from error


def _read(name: str, folder: Path, layout: str) -> Dataset:
    """Return what the files of a published data set hold, in one of its layouts."""
    if name == "fashion-mnist":
        return read_fashion_mnist(folder)
    if layout == CLASS_FOLDERS:
        return _read_cifar10_folders(folder)
    return read_svhn(folder) if name == "svhn" else read_cifar(folder, classes=10 if name == "cifar10" else 100)


def _read_bundled() -> Dataset:
    """Return the bundled set: the first 600 training and 200 test images of each class of Fashion-MNIST, in order."""
    with (files("compress.data") / "fashion_mini.npz").open("rb") as file:
        arrays = np.load(file, allow_pickle=False)
        train, test = (
            Labelled(
                images=torch.from_numpy(arrays[f"{part}_images"]).unsqueeze(1),
                labels=torch.from_numpy(arrays[f"{part}_labels"]).long(),
            )
            for part in ("train", "test")
        )
    return Dataset(name=BUNDLED, copy="bundled", classes=FASHION_CLASSES, train=train, test=test)


def _read_cifar10_folders(folder: Path) -> Dataset:
    folders, side = list_class_folders(folder), 32
    with opened(folder / folders.names[0]) as image:
        size = upright_size(image)
    if folders.classes != CIFAR10_CLASSES or size != (side, side):
        raise UsageError(f"{folder} has class folders, but not CIFAR-10's; for images of your own say folder:{folder}")
    dataset = read_decoded(folders, "cifar10", side)
    sizes = len(dataset.train), len(dataset.test)
    if sizes != (50_000, 10_000):
        _log.warning("%s holds only a part of CIFAR-10: %d training and %d test images", folder, *sizes)
    return dataset
