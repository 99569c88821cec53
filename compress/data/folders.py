"""Class folders: the image files of ``train/CLASS/*``, ``test/CLASS/*`` and ``val/CLASS/*``, and opening one."""

import os
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import torch
from PIL import Image
from torch import Tensor

from compress.errors import UsageError

IMAGE_SUFFIXES = frozenset({".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"})
GREY_MODES = frozenset({"1", "L", "LA"})
COLOUR_MODES = frozenset({"RGB", "RGBA", "P", "PA", "CMYK", "YCbCr"})

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True, eq=False)
class ClassFolders:
    """The image files under ``root``, relative to it, by part (train, test, perhaps val) and class, sorted by name."""

    root: Path
    files: dict[str, dict[str, list[str]]]

    @property
    def classes(self) -> tuple[str, ...]:
        """The class names, in the order of the labels."""
        return tuple(self.files["train"])

    @property
    def names(self) -> list[str]:
        """All files, part by part and class by class."""
        return [name for by_class in self.files.values() for names in by_class.values() for name in names]

    @property
    def labels(self) -> dict[str, Tensor]:
        """The labels int64 ``(N,)`` of each part's files, in the order of ``names``."""
        classes = torch.arange(len(self.classes))
        return {
            part: classes.repeat_interleave(torch.tensor([len(names) for names in by_class.values()]))
            for part, by_class in self.files.items()
        }

    def without(self, names: Collection[str]) -> "ClassFolders":
        """Return the folders without those files. Raises ``UsageError`` where a class has no other."""
        kept = {
            part: {label: [name for name in files if name not in names] for label, files in by_class.items()}
            for part, by_class in self.files.items()
        }
        for part, by_class in kept.items():
            for label, files in by_class.items():
                if not files:
                    raise UsageError(f"{self.root / part / label} holds no readable images")
        return ClassFolders(root=self.root, files=kept)

    def decoded_bytes(self, image_size: int | None) -> int:
        """Return about how much memory all images take, from a look at the first of each class to train on."""
        modes, pixels = set(), 0
        for names in self.files["train"].values():
            with suppress(UsageError), opened(self.root / names[0]) as image:  # who reads it all will name it
                modes.add(image.mode)
                pixels = max(pixels, image.width * image.height)
        channels = 1 if modes <= GREY_MODES else 3
        return len(self.names) * channels * (pixels if image_size is None else image_size**2)

    def map(self, function: Callable[[Path], T]) -> list[T]:
        """Return a function's value for every file, in the order of ``names``, computed in threads."""

        def of_folder(names: list[str]) -> list[T]:
            return [function(self.root / name) for name in names]

        folders = [names for by_class in self.files.values() for names in by_class.values()]
        pool = ThreadPoolExecutor(os.cpu_count())
        try:  # a folder a task: to hand over one small image takes longer than to decode it
            return [value for values in pool.map(of_folder, folders) for value in values]
        finally:
            pool.shutdown(cancel_futures=True)


def list_class_folders(root: Path) -> ClassFolders:
    """Return what is under ``root``; hidden files and other suffixes are passed over.

    Raises ``UsageError`` for parts without the same classes and a class without images.
    """
    parts = ["train", "test", *(["val"] if (root / "val").is_dir() else [])]
    files = {part: _class_files(root, part) for part in parts}
    for part, by_class in files.items():
        if odd := sorted(by_class.keys() ^ files["train"].keys()):
            here, missing = ("train", part) if odd[0] in files["train"] else (part, "train")
            raise UsageError(f"{root}: class {odd[0]!r} is in {here}/ but not in {missing}/; both need the same")
    return ClassFolders(root=root, files=files)


def _class_files(root: Path, part: str) -> dict[str, list[str]]:
    """The image files of one part by class, both sorted by name."""
    folder = root / part
    if not folder.is_dir():
        raise UsageError(f"{folder} is not a folder; expected train/CLASS/*, test/CLASS/* and, optionally, val/CLASS/*")
    classes = sorted(entry.name for entry in folder.iterdir() if entry.is_dir() and not entry.name.startswith("."))
    if not classes:
        raise UsageError(f"{folder} has no class folders; expected {part}/CLASS/*")
    by_class = {}
    for label in classes:
        names = sorted(name for name in os.listdir(folder / label) if not name.startswith("."))
        images = [f"{part}/{label}/{name}" for name in names if Path(name).suffix.lower() in IMAGE_SUFFIXES]
        if not images:
            raise UsageError(f"{folder / label} holds no images; known suffixes: {', '.join(sorted(IMAGE_SUFFIXES))}")
        by_class[label] = images
    return by_class


@contextmanager
def opened(path: Path) -> Iterator[Image.Image]:
    """Give the image in a file, not yet decoded; what goes wrong with it is a ``UsageError`` that names the file."""
    try:
        with Image.open(path) as image:
            if image.mode not in GREY_MODES | COLOUR_MODES:  # 16-bit and float pixels: PIL would cut them off at 255
                raise UsageError(f"{path} has pixels of PIL mode {image.mode}; convert it to 8 bits a channel")
            yield image
    except UsageError:
        raise
    except (OSError, EOFError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise UsageError(
            f"{path} cannot be read as an image ({error}); --skip-unreadable leaves such files out"
        ) from error
