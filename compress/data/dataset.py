"""The data set: labelled images in parts, in memory or on disk, with what a record says about them."""

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Protocol

import torch
from torch import Tensor

from compress.data.augmentation import ResizedCrop
from compress.data.normalisation import Normalisation
from compress.errors import UsageError, checked

NORMALISATION = "--normalisation"


class Part(Protocol):
    """Labelled images of one size, in memory or on disk: the interface of training and evaluation; N may be 0."""

    @property
    def labels(self) -> Tensor:
        """int64 ``(N,)``, on the device that batches come on."""

    @property
    def images(self) -> Tensor:
        """All images, uint8 ``(N, C, H, W)``: they are read into memory, so take a small ``subset`` of a large part."""

    @property
    def shape(self) -> tuple[int, int, int]:
        """``(C, H, W)`` of every image."""

    def __len__(self) -> int:
        """N."""

    def to(self, device: torch.device | str) -> "Part":
        """Return the same images and labels on a device."""

    def subset(self, indices: Tensor) -> "Part":
        """Return the images and labels at int64 ``indices (M,)``, in that order."""

    def batches(self, indices: Iterable[Tensor], crop: ResizedCrop | None = None) -> Iterator[Tensor]:
        """Yield uint8 ``(M, C, H, W)`` for each int64 ``(M,)`` of ``indices``, cropped if asked.

        Raises ``UsageError`` where an image turns out to be unreadable.
        """

    def sample(self) -> Iterator[Tensor]:
        """Yield uint8 ``(M, C, H, W)``: all images, or evenly spaced ones of a part on disk."""

    def content(self) -> Iterator[bytes | memoryview]:
        """Yield the bytes that ``Dataset.digest`` is computed from."""


def in_order(n: int, size: int) -> list[Tensor]:
    """Return the indices of n images in batches of ``size``, the last of which may be smaller."""
    return [torch.arange(start, min(start + size, n)) for start in range(0, n, size)]


@dataclass(frozen=True, kw_only=True, eq=False)
class Labelled:
    """A part in memory: ``images`` uint8 ``(N, C, H, W)``, ``labels`` int64 ``(N,)``; N may be 0."""

    images: Tensor
    labels: Tensor

    def __post_init__(self) -> None:
        images, labels = self.images, self.labels
        if not isinstance(images, Tensor) or not isinstance(labels, Tensor):
            raise UsageError(f"images and labels must be tensors, not {type(images)} and {type(labels)}")
        if images.dtype != torch.uint8 or images.ndim != 4:
            raise UsageError(f"images must be uint8 (N, C, H, W), not {images.dtype} {tuple(images.shape)}")
        if labels.dtype != torch.int64 or labels.shape != images.shape[:1]:
            raise UsageError(f"{len(images)} images need int64 labels (N,), not {labels.dtype} {tuple(labels.shape)}")

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def shape(self) -> tuple[int, int, int]:
        _, channels, height, width = self.images.shape
        return channels, height, width

    def to(self, device: torch.device | str) -> "Labelled":
        return Labelled(images=self.images.to(device), labels=self.labels.to(device))

    def subset(self, indices: Tensor) -> "Labelled":
        """Return a copy of the images and labels at int64 ``indices (M,)``, in that order."""
        indices = indices.to(self.labels.device)
        return Labelled(images=self.images.index_select(0, indices), labels=self.labels[indices])

    def batches(self, indices: Iterable[Tensor], crop: ResizedCrop | None = None) -> Iterator[Tensor]:
        for chosen in indices:
            images = self.images[chosen.to(self.images.device)]
            if crop:
                numbered = zip(images, chosen.tolist(), strict=True)
                images = torch.stack([crop(image, number, self.shape[1:]) for image, number in numbered])
            yield images

    def sample(self) -> Iterator[Tensor]:
        yield self.images

    def content(self) -> Iterator[bytes | memoryview]:
        yield f"{tuple(self.images.shape)}".encode()
        yield self.images.cpu().contiguous().numpy().data
        yield self.labels.cpu().numpy().astype("<i8").data


@checked
@dataclass(frozen=True, kw_only=True, eq=False)
class Dataset:
    """A named data set, checked when it is made.

    Attributes:
        copy: which copy was read: "bundled", "torchvision files", "class folders", ...
        validation: the data set's own validation images, if it has any.
        augmentable: whether padding, cropping and mirroring keep the labels and belong to the published protocol.
        normalisation: published or given constants; None: they are measured on the training images.
        options: the command-line options by which it is read in this way.
        skipped: number of unreadable images that were left out.
        preprocessing: how image files became images.
        division, divided: how flat class folders were divided; the part of every file, by the SHA-256 of its content.

    Raises:
        UsageError: a part is empty, parts differ in image shape, or there are labels without a class.
    """

    name: str
    copy: str
    classes: tuple[str, ...]
    train: Part
    test: Part
    validation: Part | None = None
    augmentable: bool = True
    normalisation: Normalisation | None = None
    options: tuple[str, ...] = ()
    skipped: int = 0
    preprocessing: dict[str, Any] | None = None
    division: dict[str, Any] | None = None
    divided: Mapping[str, str] | None = None

    def __post_init__(self) -> None:
        for part in (self.train, self.test, *self.parts.values()):
            if not hasattr(type(part), "batches"):
                raise UsageError(f"{self.name}: {part!r} is no part: give Labelled(images=..., labels=...)")
        for name, part in self.parts.items():
            if not len(part):
                raise UsageError(f"{self.name}: there are no {name} images")
            if part.shape != self.input_shape:
                raise UsageError(
                    f"{self.name}: (C, H, W) of {name} images is {part.shape}, of train images {self.input_shape}"
                )
            low, high, last = int(part.labels.min()), int(part.labels.max()), len(self.classes) - 1
            if low < 0 or high > last:
                raise UsageError(
                    f"{self.name}: {name} has labels that do not fit the classes: {low} to {high}, not 0 to {last}"
                )
        if self.normalisation and len(self.normalisation.mean) != self.input_shape[0]:
            raise UsageError(f"{self.name}: {self.input_shape[0]} channels do not fit {self.normalisation}")

    def normalised_by(self, normalisation: Normalisation | str) -> "Dataset":
        """Return the same images, normalised by these constants; a text as ``Normalisation.parse`` takes it.

        Raises:
            UsageError: there is no such normalisation, or it has another number of channels.
        """
        given = Normalisation.parse(normalisation) if isinstance(normalisation, str) else normalisation
        if given == self.normalisation:
            return self
        before = self.options
        if NORMALISATION in before:
            place = before.index(NORMALISATION)
            before = before[:place] + before[place + 2 :]
        return replace(self, normalisation=given, options=(*before, NORMALISATION, str(given)))

    @property
    def parts(self) -> dict[str, Part]:
        """The parts that the set has, by name: train, validation (if any), test."""
        parts = {"train": self.train, "validation": self.validation, "test": self.test}
        return {name: part for name, part in parts.items() if part is not None}

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """Shape ``(C, H, W)`` of every image."""
        return self.train.shape

    @cached_property
    def digest(self) -> str:
        """SHA-256 (hex) of the content of all parts: equal digests are equal data.

        In memory the content is pixels, shapes and labels; on disk it is names and bytes of the files, their labels
        and the shape they are read in.
        """
        sha = hashlib.sha256()
        for name, part in self.parts.items():
            sha.update(f"{name} ".encode())
            for piece in part.content():
                sha.update(piece)
        return sha.hexdigest()
