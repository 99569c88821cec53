"""Augmentation of a whole batch: padding, cropping and mirroring (CIFAR), or cropping and resizing (ImageNet)."""

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import pad

from compress.errors import UsageError, nearest

Flip = Literal["random", "alternating", "none"]
Crop = Literal["pad", "resized"]

# Each purpose has its own stream of random numbers, so that changing one leaves the others as they are.
_SHIFTS, _FLIPS, _ORDER, _CROPS = 1, 2, 3, 4


def pad_crop_flip(images: Tensor, *, shifts: Tensor, flips: Tensor, padding: int) -> Tensor:
    """Return every image padded with zeros, cropped back to its size, and mirrored where asked.

    ``images`` is uint8 ``(N, C, H, W)``, and so is the result. ``shifts`` int64 ``(N, 2)`` holds the top and left edge
    of every crop, from 0 to ``2 * padding``; ``flips`` bool ``(N,)`` says which crops to mirror, left to right.
    """
    n, channels, height, width = images.shape
    column = torch.arange(width, device=images.device)
    rows = shifts[:, :1] + torch.arange(height, device=images.device)  # (N, H), in the padded image
    columns = shifts[:, 1:] + torch.where(flips[:, None], width - 1 - column, column)  # (N, W)
    pixels = rows[:, :, None] * (width + 2 * padding) + columns[:, None, :]  # (N, H, W), in the flat padded image
    flat = pad(images, (padding,) * 4).flatten(start_dim=2)
    return flat.gather(2, pixels.view(n, 1, height * width).expand(-1, channels, -1)).view(images.shape)


@dataclass(frozen=True, kw_only=True)
class ResizedCrop:
    """torchvision's RandomResizedCrop in one epoch: 8% to all of an image's area, 3:4 to 4:3, resized.

    The crop of an image depends on seed, epoch and the number of the image alone, in every process.
    """

    seed: int
    epoch: int

    def __call__(self, image: Tensor, number: int, size: tuple[int, int]) -> Tensor:
        """Return a crop of uint8 ``image (C, H, W)``, resized to ``size``; ``number`` is its index in its part."""
        from torchvision.transforms import v2  # here, as importing it takes seconds

        [seed] = np.random.SeedSequence((_CROPS, self.epoch, self.seed, number)).generate_state(1, np.uint64)
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(int(seed))
            crop: Tensor = v2.RandomResizedCrop(size, antialias=True)(image)
        return crop


@dataclass(frozen=True, kw_only=True)
class AugmentationDraw:
    """What happens to every training image in one epoch; `crop` comes before the rest, where images are read.

    Attributes:
        shifts, flips: of all images, as `pad_crop_flip` takes them.
    """

    shifts: Tensor
    flips: Tensor
    padding: int
    crop: ResizedCrop | None

    def __call__(self, images: Tensor, indices: Tensor) -> Tensor:
        """The images `(N, C, H, W)` of these indices `(N,)`, padded, cropped and mirrored."""
        return pad_crop_flip(images, shifts=self.shifts[indices], flips=self.flips[indices], padding=self.padding)


@dataclass(frozen=True, kw_only=True)
class Augmentation:
    """How training images are changed at random in every epoch.

    All draws depend on ``seed`` and the epoch alone and are made on the CPU, so that a resumed training sees exactly
    the images that an uninterrupted one does, on any device. ``flip`` is

    - "random": every image is mirrored with probability 1/2 in every epoch;
    - "alternating": with probability 1/2 in epoch 0, and then in every other epoch (Keller Jordan, cifar10-airbench,
      https://arxiv.org/abs/2404.00498);
    - "none".

    ``crop`` is "pad" (by ``padding`` pixels) or "resized" (as for ImageNet, from the image as it is on disk).
    """

    padding: int
    flip: Flip
    seed: int
    crop: Crop = "pad"

    def __post_init__(self) -> None:
        for what, value, known in (("flip", self.flip, get_args(Flip)), ("crop", self.crop, get_args(Crop))):
            if value not in known:
                raise UsageError(f"unknown {what} {value!r}: {nearest(value, known)}")
        if self.padding < 0 or self.seed < 0:
            raise UsageError(f"padding and seed must be 0 or more, not {self.padding} and {self.seed}")

    def epoch(self, epoch: int, n: int, device: torch.device | str = "cpu") -> tuple[Tensor, Tensor]:
        """Return ``shifts (n, 2)`` and ``flips (n,)`` of all n training images, by image, for ``pad_crop_flip``."""
        shifts = self._stream(_SHIFTS, epoch).integers(0, 2 * self.padding, size=(n, 2), endpoint=True)
        coins = self._stream(_FLIPS, epoch if self.flip == "random" else 0).integers(0, 2, size=n, dtype=bool)
        if self.flip == "none":
            coins[:] = False
        elif self.flip == "alternating" and epoch % 2:
            coins = ~coins
        return torch.from_numpy(shifts).to(device), torch.from_numpy(coins).to(device)

    def draw(self, epoch: int, n: int, device: torch.device | str = "cpu") -> AugmentationDraw:
        """Return this epoch's changes of all n training images."""
        shifts, flips = self.epoch(epoch, n, device)
        return AugmentationDraw(shifts=shifts, flips=flips, padding=self.padding, crop=self.resized_crop(epoch))

    def resized_crop(self, epoch: int) -> ResizedCrop | None:
        """Return the crop of this epoch's images that comes before ``pad_crop_flip``; None where there is none."""
        return ResizedCrop(seed=self.seed, epoch=epoch) if self.crop == "resized" else None

    def order(self, epoch: int, n: int, device: torch.device | str = "cpu") -> Tensor:
        """Return the order int64 ``(n,)`` in which this epoch visits all n training images."""
        return torch.from_numpy(self._stream(_ORDER, epoch).permutation(n)).to(device)

    def _stream(self, purpose: int, epoch: int) -> np.random.Generator:
        return np.random.default_rng((purpose, epoch, self.seed))
