"""Preprocessing: from an image file to uint8 pixels, alike for images in memory and for streamed ones."""

import contextlib
import io
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from PIL import ExifTags, Image, UnidentifiedImageError

from compress.errors import UsageError, first_line

SIXTEEN_BITS = frozenset({"I;16", "I;16B", "I;16L", "I;16N"})
GREY_MODES = frozenset({"1", "L", "LA"}) | SIXTEEN_BITS
COLOUR_MODES = frozenset({"RGB", "RGBA", "RGBX", "P", "PA", "CMYK", "YCbCr"})

EVALUATION_RATIO = 256 / 224  # resized shorter side / centre crop, as usual for ImageNet
BACKGROUND = "white"  # as viewers show what is transparent

# What is done to every file; part of the digest of streamed images.
RULES = {
    "frame": "first",
    "orientation": "EXIF",
    "background": BACKGROUND,
    "sixteen_bits": "upper 8",
    "resize": "shorter side to 256/224 of the size, bilinear, antialiased",
    "crop": "centre",
}

# The rest of what another program must know to fit images alike to the last bit.
FITTING = {
    "unless": "it has the size already",
    "longer_side": "shorter_side times the ratio of the sides, rounded down",
    "corner": "half of what is cut off, halves rounded to even",
}

_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_ON_ITS_SIDE = frozenset({5, 6, 7, 8})


def preprocessing(shape: tuple[int, int, int], *, resized: bool) -> dict[str, Any]:
    """Return how files became images of ``shape`` (C, H, W), for a record; sizes in pixels.

    ``resized``: images of another size were resized, not only refused.
    """
    channels, height, width = shape
    fitted: dict[str, Any] = {name: RULES[name] if resized else None for name in ("resize", "crop")}
    if resized:
        fitted |= {"shorter_side": _shorter_side((height, width)), "size": [height, width]} | FITTING
    return RULES | {"library": "Pillow", "mode": "L" if channels == 1 else "RGB"} | fitted


@contextmanager
def opened(path: Path) -> Iterator[Image.Image]:
    """Open the image in a file without decoding it; a problem with it is raised as ``UsageError`` with its path.

    So is whatever goes wrong while it is open, such as in ``decode``. The file is read whole: Pillow would not rotate a
    TIFF that it maps into memory.
    """
    try:
        with Image.open(io.BytesIO(path.read_bytes())) as image:
            if not (image.mode in GREY_MODES | COLOUR_MODES or _is_deep(image)):
                raise UsageError(
                    f"{path} has pixels of PIL mode {image.mode}, whose range is unknown: convert it to 8 bits per "
                    "channel"
                )
            yield image
    except UsageError:
        raise
    except Exception as error:  # the errors of Pillow's decoders have no class in common
        raise UsageError(f"{path} cannot be read as an image ({_reason(error)})") from error


def is_grey(mode: str) -> bool:
    """Return whether images of this PIL mode have no colour."""
    return mode in GREY_MODES or mode == "I"


def upright_size(image: Image.Image) -> tuple[int, int]:
    """Return width and height of an opened image, rotated as its EXIF tag says."""
    turned = image.format != "TIFF" and _orientation(image) in _ON_ITS_SIDE  # Pillow has turned the size of a TIFF
    return image.size[::-1] if turned else image.size


def decode(image: Image.Image, *, grey: bool) -> Image.Image:
    """Return an opened image in mode L or RGB: upright, on a white background, 8 bits per channel.

    Raises Pillow's errors where the file is damaged.
    """
    image.load()
    if (method := _UPRIGHT.get(_orientation(image))) is not None:
        image = image.transpose(method)
    if _is_deep(image):
        image = _upper_bits(image)
    elif image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, BACKGROUND), image)
    return image.convert("L" if grey else "RGB")


def centre(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    """Return an image for evaluation: unchanged where it has ``size`` (H, W), else resized and cropped at its centre.

    The shorter side is resized to 256/224 of the size. The result equals that of torchvision's Resize and CenterCrop to
    the last bit, without their import, which takes seconds.
    """
    (height, width), (wide, high) = size, image.size
    if (high, wide) == size:
        return image
    shorter = _shorter_side(size)
    wide, high = (shorter, int(shorter * high / wide)) if wide <= high else (int(shorter * wide / high), shorter)
    left, top = round((wide - width) / 2), round((high - height) / 2)
    return image.resize((wide, high), Image.Resampling.BILINEAR).crop((left, top, left + width, top + height))


def pixels(image: Image.Image) -> np.ndarray:
    """Return a decoded image as uint8 ``(C, H, W)``."""
    return np.atleast_3d(np.asarray(image)).transpose(2, 0, 1)


def _reason(error: Exception) -> str:
    """Return what Pillow or the system said, without the memory address of what it read."""
    if isinstance(error, UnidentifiedImageError):
        return "of no format that Pillow reads"
    return error.strerror if isinstance(error, OSError) and error.strerror else first_line(error)


def _shorter_side(size: tuple[int, int]) -> int:
    return round(EVALUATION_RATIO * min(size))


def _orientation(image: Image.Image) -> int:
    """Return the EXIF orientation, 1 (upright) to 8; damaged EXIF data count as 1."""
    with contextlib.suppress(SyntaxError, ValueError, TypeError, LookupError, struct.error):
        return int(image.getexif().get(ExifTags.Base.Orientation, 1))
    return 1


def _is_deep(image: Image.Image) -> bool:
    """Return whether grey pixels have 16 bits; Pillow calls those of a PGM file "I", elsewhere the mode of 32 bits."""
    return image.mode in SIXTEEN_BITS or (image.mode == "I" and image.format in (None, "PPM"))


def _upper_bits(image: Image.Image) -> Image.Image:
    values = np.asarray(image).astype(np.uint16)
    if (transparent := image.info.get("transparency")) is not None:
        values[values == transparent] = 0xFFFF
    return Image.fromarray((values >> 8).astype(np.uint8))
