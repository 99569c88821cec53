"""Preprocessing: from an image file to uint8 pixels, the same for images in memory, on disk, and new ones."""

import contextlib
import io
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from PIL import ExifTags, Image

from compress.errors import UsageError

SIXTEEN_BITS = frozenset({"I;16", "I;16B", "I;16L", "I;16N"})
GREY_MODES = frozenset({"1", "L", "LA"}) | SIXTEEN_BITS
COLOUR_MODES = frozenset({"RGB", "RGBA", "RGBX", "P", "PA", "CMYK", "YCbCr"})

EVALUATION_RATIO = 256 / 224  # of the resized shorter side to the centre cut out of it, the usual one for ImageNet
BACKGROUND = "white"  # as viewers show what is transparent

# What is done to every file, whatever the size: part of the digest of images that stay on disk.
RULES = {
    "frame": "first",
    "orientation": "EXIF",
    "background": BACKGROUND,
    "sixteen_bits": "upper 8",
    "resize": "shorter side to 256/224 of the size, bilinear, antialiased",
    "crop": "centre",
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
    """Return, for a record, how files became images of ``shape`` (C, H, W), in words and parameters (pixels).

    Images that have the size already are taken as they are; ``resized`` says whether others are, too.
    """
    channels, height, width = shape
    fitted: dict[str, Any] = {name: RULES[name] if resized else None for name in ("resize", "crop")}
    if resized:
        fitted |= {"shorter_side": _shorter_side((height, width)), "size": [height, width]}
    return RULES | {"mode": "L" if channels == 1 else "RGB"} | fitted


@contextmanager
def opened(path: Path) -> Iterator[Image.Image]:
    """Give the image in a file, not yet decoded; what goes wrong with it is a ``UsageError`` that names the file.

    It is read whole: mapped into memory instead, Pillow forgets to turn a TIFF.
    """
    try:
        with Image.open(io.BytesIO(path.read_bytes())) as image:
            if not (image.mode in GREY_MODES | COLOUR_MODES or _is_deep(image)):
                raise UsageError(
                    f"{path} has pixels of PIL mode {image.mode}, whose range nobody knows: convert it to 8 bits a "
                    "channel"
                )
            yield image
    except UsageError:
        raise
    except (OSError, EOFError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise UsageError(
            f"{path} cannot be read as an image ({error}); --skip-unreadable leaves such files out"
        ) from error


def is_grey(mode: str) -> bool:
    """Return whether images of this PIL mode have no colour."""
    return mode in GREY_MODES or mode == "I"


def upright_size(image: Image.Image) -> tuple[int, int]:
    """Return width and height of an opened image as its EXIF tag turns it."""
    turned = image.format != "TIFF" and _orientation(image) in _ON_ITS_SIDE  # Pillow has turned the size of a TIFF
    return image.size[::-1] if turned else image.size


def decode(image: Image.Image, *, grey: bool) -> Image.Image:
    """Return an opened image as it is seen, of mode L or RGB: upright, on a white background, 8 bits a channel.

    Raises what Pillow does where the file is damaged.
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
    """Return what evaluation sees of an image: as it is where it has the ``size`` (H, W), else its centre.

    The shorter side is resized to 256/224 of the size (pixels), and the size cut out of the middle: to the last bit
    what torchvision's Resize and CenterCrop give, whose import would take seconds.
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


def _shorter_side(size: tuple[int, int]) -> int:
    return round(EVALUATION_RATIO * min(size))


def _orientation(image: Image.Image) -> int:
    """The EXIF tag, from 1 (upright); damaged EXIF data say nothing, to viewers neither."""
    with contextlib.suppress(SyntaxError, ValueError, TypeError, LookupError, struct.error):
        return int(image.getexif().get(ExifTags.Base.Orientation, 1))
    return 1


def _is_deep(image: Image.Image) -> bool:
    """Whether grey pixels have 16 bits; Pillow calls those of a PGM file "I", as it does 32 bits elsewhere."""
    return image.mode in SIXTEEN_BITS or (image.mode == "I" and image.format in (None, "PPM"))


def _upper_bits(image: Image.Image) -> Image.Image:
    values = np.asarray(image).astype(np.uint16)
    if (transparent := image.info.get("transparency")) is not None:
        values[values == transparent] = 0xFFFF
    return Image.fromarray((values >> 8).astype(np.uint8))
