"""Preparation: from an image file to the pixels that a network takes, as its training images were prepared."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from compress.data.image_decoding import RULES, centre, decode, opened, pixels
from compress.errors import UsageError


@dataclass(frozen=True, kw_only=True)
class Preparation:
    """How an image file becomes uint8 pixels.

    Attributes:
        shape: `(C, H, W)` of the pixels; one channel is grey, three are RGB.
        resized: whether images of another size are resized and cropped; otherwise they are refused.
    """

    shape: tuple[int, int, int]
    resized: bool

    @classmethod
    def of(cls, rules: Mapping[str, Any] | None, shape: tuple[int, int, int]) -> Preparation:
        """Return the preparation that a record or a bundle describes: its `preprocessing`, None for no image files.

        Raises:
            UsageError: this version prepares images by other rules.
        """
        rules = rules or {}
        for name, rule in RULES.items():
            if rules.get(name) not in (None, rule):
                raise UsageError(f"preprocessing: its {name} is {rules[name]!r}; this version of compress has {rule!r}")
        return cls(shape=shape, resized=rules.get("resize") is not None)

    def read(self, path: Path) -> NDArray[np.uint8]:
        """Return the pixels `(C, H, W)` of an image file.

        Raises:
            UsageError: the file is unreadable, or has another size and is not to be resized.
        """
        (channels, height, width) = self.shape
        with opened(path) as file:
            image = decode(file, grey=channels == 1)
        if not self.resized and image.size != (width, height):
            raise UsageError(
                f"{path} has {image.width}x{image.height} pixels (width x height); the network takes images of "
                f"{width}x{height} alone, as it was trained without resizing"
            )
        return pixels(centre(image, (height, width)))
