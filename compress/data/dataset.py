"""A data set in memory: uint8 images with labels, in parts, and all that a record must say about them."""

import hashlib
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from compress.data.normalisation import Normalisation
from compress.errors import UsageError


@dataclass(frozen=True, kw_only=True, eq=False)
class Labelled:
    """Images and their labels: ``images`` uint8 ``(N, C, H, W)``, ``labels`` int64 ``(N,)``; N may be 0."""

    images: Tensor
    labels: Tensor

    def __post_init__(self) -> None:
        images, labels = self.images, self.labels
        if images.dtype != torch.uint8 or images.ndim != 4:
            raise UsageError(f"images must be uint8 (N, C, H, W), not {images.dtype} {tuple(images.shape)}")
        if labels.dtype != torch.int64 or labels.shape != images.shape[:1]:
            raise UsageError(f"{len(images)} images need int64 labels (N,), not {labels.dtype} {tuple(labels.shape)}")

    def __len__(self) -> int:
        return len(self.labels)

    def to(self, device: torch.device | str) -> "Labelled":
        """Return the same images and labels on a device."""
        return Labelled(images=self.images.to(device), labels=self.labels.to(device))

    def subset(self, indices: Tensor) -> "Labelled":
        """Return a copy of the images and labels at int64 ``indices (M,)``, in that order."""
        indices = indices.to(self.labels.device)
        return Labelled(images=self.images.index_select(0, indices), labels=self.labels[indices])


@dataclass(frozen=True, kw_only=True, eq=False)
class Dataset:
    """A named data set, checked when it is made.

    ``copy`` says which copy was read ("bundled", "torchvision files", "class folders", ...). ``validation`` is there
    only where the set brings one. ``augmentable``: padding, cropping and mirroring keep the labels and belong to the
    set's published protocol. ``normalisation`` holds published constants; None means: measure the training images.
    Raises ``UsageError`` where the parts are empty, differ in image shape, or have labels that no class answers to.
    """

    name: str
    copy: str
    classes: tuple[str, ...]
    train: Labelled
    test: Labelled
    validation: Labelled | None = None
    augmentable: bool = True
    normalisation: Normalisation | None = None

    def __post_init__(self) -> None:
        for part, labelled in self.parts.items():
            if not len(labelled):
                raise UsageError(f"{self.name}: there are no {part} images")
            shape = tuple(labelled.images.shape[1:])
            if shape != self.input_shape:
                raise UsageError(
                    f"{self.name}: (C, H, W) of {part} images is {shape}, of train images {self.input_shape}"
                )
            low, high, last = int(labelled.labels.min()), int(labelled.labels.max()), len(self.classes) - 1
            if low < 0 or high > last:
                raise UsageError(
                    f"{self.name}: {part} has labels that do not fit the classes: {low} to {high}, not 0 to {last}"
                )
        if self.normalisation and len(self.normalisation.mean) != self.input_shape[0]:
            raise UsageError(f"{self.name}: {self.input_shape[0]} channels do not fit {self.normalisation}")

    @property
    def parts(self) -> dict[str, Labelled]:
        """The parts that the set has, by name: train, validation (if any), test."""
        parts = {"train": self.train, "validation": self.validation, "test": self.test}
        return {part: labelled for part, labelled in parts.items() if labelled is not None}

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """Shape ``(C, H, W)`` of every image."""
        _, channels, height, width = self.train.images.shape
        return channels, height, width

    @cached_property
    def digest(self) -> str:
        """SHA-256 (hex) of the pixels, shapes and labels of all parts: equal digests are equal data."""
        sha = hashlib.sha256()
        for part, labelled in self.parts.items():
            sha.update(f"{part} {tuple(labelled.images.shape)}".encode())
            sha.update(labelled.images.cpu().contiguous().numpy().data)
            sha.update(labelled.labels.cpu().numpy().astype("<i8").data)
        return sha.hexdigest()
