"""Image files: what paths of files and folders stand for, in order and one by one."""

from __future__ import annotations

import functools
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from PIL import Image

RECOGNISED_ONLY = frozenset({"BUFR", "GRIB", "HDF5", "MPEG", "WMF"})  # formats that Pillow names, but cannot decode
Identity = tuple[int, int]  # device and inode of a folder


@functools.cache
def image_suffixes() -> frozenset[str]:
    """The suffixes, such as `.jpg`, of all formats that Pillow reads here."""
    formats = Image.registered_extensions()
    return frozenset(
        suffix for suffix, format in formats.items() if format in Image.OPEN and format not in RECOGNISED_ONLY
    )


def image_files(paths: Iterable[str | os.PathLike[str]]) -> Iterator[Path]:
    """Yield the files that paths stand for, in their order; a folder stands for all images below it, by name.

    In folders, hidden entries and files whose suffix no image format has are passed over. What is named itself is
    yielded whatever its name, and so is a folder that cannot be listed: who opens them will find what is wrong.
    """
    for path in map(Path, paths):
        if os.path.isdir(path):
            yield from _images_below(path, ())
        else:
            yield path


def _images_below(folder: Path, above: tuple[Identity, ...]) -> Iterator[Path]:
    """Yield the images below a folder; a link to one of the folders `above` it is not followed."""
    try:
        status = folder.stat()
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError:
        yield folder
        return
    here = (status.st_dev, status.st_ino)
    if here in above:
        return
    for entry in entries:
        if entry.name.startswith("."):
            continue
        if entry.is_dir():
            yield from _images_below(folder / entry.name, (*above, here))
        elif os.path.splitext(entry.name)[1].lower() in image_suffixes():
            yield folder / entry.name
