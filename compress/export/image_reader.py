"""Image reader: image files as the pixels that a bundle's model was trained on; needs Pillow and numpy alone."""

from __future__ import annotations

import functools
import io
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import ExifTags, Image, UnidentifiedImageError

SIXTEEN_BITS = ("I;16", "I;16B", "I;16L", "I;16N")
EIGHT_BITS = ("1", "L", "LA", "RGB", "RGBA", "RGBX", "P", "PA", "CMYK", "YCbCr")
RECOGNISED_ONLY = ("BUFR", "GRIB", "HDF5", "MPEG", "WMF")  # formats that Pillow names, but cannot decode
TURNED = dict(zip(range(2, 9), (0, 3, 1, 5, 4, 6, 2), strict=True))  # EXIF orientation to PIL.Image.Transpose


def image_files(paths: Iterable[str | os.PathLike[str]]) -> Iterator[Path]:
    """Yield files as they are, and for a folder the images below it, by name; a folder that has none, itself.

    In folders, hidden entries are passed over, and links are followed.
    """
    for path in map(Path, paths):
        yield from (list(images_below(path)) if os.path.isdir(path) else []) or [path]  # who opens it is told why


def images_below(folder: Path, above: tuple[tuple[int, int], ...] = ()) -> Iterator[Path]:
    """Yield the images below a folder, by name, or itself if it cannot be listed.

    Hidden entries and files whose suffix no image format has are passed over. Links are followed, but for those to one
    of the folders `above`, by device and inode.
    """
    try:
        status, entries = folder.stat(), sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError:
        yield folder
        return
    here = (status.st_dev, status.st_ino)
    for entry in entries if here not in above else ():
        if entry.name.startswith("."):
            continue
        if os.path.isdir(entry.path):  # false for a link that leads nowhere, where the entry's own method raises
            yield from images_below(folder / entry.name, (*above, here))
        elif os.path.splitext(entry.name)[1].lower() in image_suffixes():
            yield folder / entry.name


@functools.cache
def image_suffixes() -> frozenset[str]:
    """The suffixes, such as `.jpg`, of all formats that Pillow reads here."""
    kinds = Image.registered_extensions()
    return frozenset(suffix for suffix, kind in kinds.items() if kind in Image.OPEN and kind not in RECOGNISED_ONLY)


def read_image(path: Path, rules: dict[str, Any]) -> np.ndarray:
    """Return a file's pixels, uint8 (C, H, W): upright, on white, 8 bits, of the model's size.

    Args:
        rules: the content of `preprocess.json`.

    Raises:
        ValueError: it cannot be read, or has a size that the model does not take; the message says why.
    """
    try:
        image = decoded(Image.open(io.BytesIO(path.read_bytes())))
    except IsADirectoryError:
        raise ValueError("a folder without images") from None
    except UnidentifiedImageError:
        raise ValueError("no image that Pillow reads") from None
    except Exception as error:  # the errors of Pillow's decoders have no class in common
        raise ValueError(str(error)) from error
    image = fitted(image.convert("L" if rules["channels"] == 1 else "RGB"), rules)
    return np.atleast_3d(np.asarray(image)).transpose(2, 0, 1)


def decoded(image: Image.Image) -> Image.Image:
    """Return an opened image upright, on a white background, with 8 bits per channel."""
    deep = image.mode in SIXTEEN_BITS or (image.mode == "I" and image.format == "PPM")
    if not deep and image.mode not in EIGHT_BITS:
        raise ValueError(f"pixels of PIL mode {image.mode}, whose range is unknown")
    image.load()
    try:
        turn = TURNED.get(int(image.getexif().get(ExifTags.Base.Orientation, 1)))
    except Exception:  # damaged EXIF data
        turn = None
    image = image if turn is None else image.transpose(Image.Transpose(turn))
    if deep:
        values = np.asarray(image).astype(np.uint16)
        values[values == image.info.get("transparency", -1)] = 0xFFFF
        return Image.fromarray((values >> 8).astype(np.uint8))
    if image.has_transparency_data:
        image = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image


def fitted(image: Image.Image, rules: dict[str, Any]) -> Image.Image:
    """Return an image of the model's size: as it is, or its shorter side resized and its centre cropped."""
    (width, height), size = image.size, (rules["width"], rules["height"])
    if image.size == size:
        return image
    if not rules.get("resize"):
        raise ValueError(f"{width}x{height} pixels, where the model takes {size[0]}x{size[1]} alone")
    short = rules["shorter_side"]
    width, height = (short, int(short * height / width)) if width <= height else (int(short * width / height), short)
    left, top = round((width - size[0]) / 2), round((height - size[1]) / 2)
    image = image.resize((width, height), Image.Resampling.BILINEAR)
    return image.crop((left, top, left + size[0], top + size[1]))
