"""Normalisation: mean and standard deviation of each channel, which turn uint8 pixels into a network's input."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from compress.errors import UsageError, checked


@checked
@dataclass(frozen=True, kw_only=True)
class Normalisation:
    """Mean and standard deviation of every channel, in units of the full range (a pixel of 255 is 1.0)."""

    mean: tuple[float, ...]
    std: tuple[float, ...]

    def __post_init__(self) -> None:
        finite = all(map(math.isfinite, (*self.mean, *self.std)))
        if not finite or len(self.mean) != len(self.std) or not all(std > 0 for std in self.std):
            raise UsageError(f"a normalisation needs one mean and one positive std per channel, not {self}")

    @classmethod
    def parse(cls, text: str) -> "Normalisation":
        """Return what ``--normalisation`` names: "imagenet", or means and stds by channel: "0.5,0.5,0.5/0.2,0.2,0.2".

        Raises:
            UsageError: it is neither.
        """
        if text == "imagenet":
            return cls(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
        try:
            mean, std = (tuple(map(float, numbers.split(","))) for numbers in text.split("/"))
            return cls(mean=mean, std=std)
        except (ValueError, UsageError):
            raise UsageError(
                f"--normalisation {text}: imagenet, or the mean and the std of every channel in units of the full "
                "range, such as 0.5,0.5,0.5/0.2,0.2,0.2"
            ) from None

    def __str__(self) -> str:
        return "/".join(",".join(map(repr, values)) for values in (self.mean, self.std))


@checked
def normalise(images: Tensor, normalisation: Normalisation) -> Tensor:
    """Return the images as float32 ``(pixel / 255 - mean) / std``, on their device and in their memory format.

    ``images`` is uint8 ``(N, C, H, W)``, and so is the shape of the result.
    """
    if images.dtype != torch.uint8 or images.ndim != 4 or images.shape[1] != len(normalisation.mean):
        raise UsageError(
            f"normalise: images are uint8 (N, C, H, W) with {len(normalisation.mean)} channels C, as the normalisation "
            f"has, not {images.dtype} {tuple(images.shape)}"
        )
    mean, std = _by_channel(normalisation, images.device)
    return images.float().div_(255).sub_(mean).div_(std)


@lru_cache
def _by_channel(normalisation: Normalisation, device: torch.device) -> tuple[Tensor, Tensor]:
    """Mean and std, ``(C, 1, 1)`` each, copied to the device once: a GPU would wait for the copy at every batch."""
    with torch.inference_mode(mode=False):
        mean, std = (torch.tensor(values, device=device) for values in (normalisation.mean, normalisation.std))
    return mean.view(-1, 1, 1), std.view(-1, 1, 1)


def measure(batches: Iterable[Tensor]) -> Normalisation:
    """Return the normalisation under which every channel of all uint8 batches ``(N, C, H, W)`` has mean 0 and std 1.

    Exact on every device: the moments come from a count of the 256 pixel values, so nothing larger than one channel
    is ever copied. A constant channel gets std 1, since there is nothing to scale.
    """
    values = torch.arange(256, dtype=torch.float64) / 255
    mean, std = [], []
    for counts in torch.stack([_pixel_counts(images) for images in batches]).sum(dim=0):
        share = counts.double() / counts.sum()
        mean.append(float(share @ values))
        std.append(float(share @ (values - mean[-1]) ** 2) ** 0.5 if (counts > 0).sum() > 1 else 1.0)
    return Normalisation(mean=tuple(mean), std=tuple(std))


def _pixel_counts(images: Tensor) -> Tensor:
    """Return how often each pixel value occurs: int64 ``(C, 256)``."""
    return torch.stack([torch.bincount(channel.flatten(), minlength=256) for channel in images.unbind(dim=1)]).cpu()
