"""Class folders: the image files in them, by part and class, and the files that are not used."""

import os
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor

from compress.data.catalogue import EXPECTED
from compress.data.preprocessing import is_grey, opened
from compress.errors import UsageError

IMAGE_SUFFIXES = frozenset({".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"})
PARTS = {"train": ("train", "training"), "test": ("test", "testing"), "val": ("val", "valid", "validation")}
UNDIVIDED = "all"  # the only part of flat folders, until they are divided
REASONS = 6  # most reasons for unused files that one line names

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True, eq=False)
class ClassFolders:
    """The image files under ``root``, relative to it, by part (train, test, perhaps val) and class, sorted by name.

    ``places`` holds the folder of each part, ``unused`` the other files, by the reason why they are not used.
    """

    root: Path
    files: dict[str, dict[str, list[str]]]
    places: dict[str, str]
    unused: dict[str, list[str]] = field(default_factory=dict)

    @property
    def flat(self) -> bool:
        """Whether the folders are not divided into parts yet."""
        return UNDIVIDED in self.files

    @property
    def classes(self) -> tuple[str, ...]:
        """The class names, in the order of the labels."""
        return tuple(next(iter(self.files.values())))

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
        """Return the folders without these files; ``UsageError`` where a class would be empty."""
        kept = {
            part: {label: [name for name in files if name not in names] for label, files in by_class.items()}
            for part, by_class in self.files.items()
        }
        for part, by_class in kept.items():
            for label, files in by_class.items():
                if not files:
                    raise UsageError(f"{self.root / self.places[part] / label} holds no readable images")
        return replace(self, files=kept)

    def decoded_bytes(self, image_size: int | None) -> int:
        """Return an estimate of the bytes that all images take, from the first training image of each class."""
        grey, pixels = True, 0
        for names in next(iter(self.files.values())).values():
            with suppress(UsageError), opened(self.root / names[0]) as image:  # a problem is named when it is read
                grey &= is_grey(image.mode)
                pixels = max(pixels, image.width * image.height)
        return len(self.names) * (1 if grey else 3) * (pixels if image_size is None else image_size**2)

    def map(self, function: Callable[[Path], T]) -> list[T]:
        """Return a function's value for every file, in the order of ``names``, computed in threads."""

        def of_folder(names: list[str]) -> list[T]:
            return [function(self.root / name) for name in names]

        folders = [names for by_class in self.files.values() for names in by_class.values()]
        pool = ThreadPoolExecutor(os.cpu_count())
        try:  # one task per folder: passing a small image to a thread takes longer than decoding it
            return [value for values in pool.map(of_folder, folders) for value in values]
        finally:
            pool.shutdown(cancel_futures=True)

    def what_is_unused(self) -> str:
        """Return a line on the files that are not used, with reasons; empty where all are used."""
        if not self.unused:
            return ""
        reasons = sorted(self.unused.items(), key=lambda item: -len(item[1]))
        counted = [f"{len(names)} {why}" for why, names in reasons[:REASONS]]
        if rest := reasons[REASONS:]:
            counted.append(f"{sum(len(names) for _, names in rest)} for {len(rest)} other reasons")
        total, example = sum(map(len, self.unused.values())), reasons[0][1][0]
        return f"{self.root}: not used: {total} files, such as {example} ({', '.join(counted)})"


def list_class_folders(root: Path) -> ClassFolders:
    """Return the class folders under ``root``, in parts, or flat: not divided yet.

    Images in subfolders of a class belong to it. Hidden files and files with other suffixes are counted as unused.

    Raises:
        UsageError: parts differ in their classes, or a class has no images.
    """
    try:
        return _listed(root)
    except OSError as error:
        raise UsageError(f"{error.filename or root} cannot be listed ({error.strerror})") from error


def _listed(root: Path) -> ClassFolders:
    entries = sorted(entry.name for entry in root.iterdir() if entry.is_dir() and not entry.name.startswith("."))
    unused: dict[str, list[str]] = defaultdict(list)
    places = _places(root, entries)
    if not places:
        return _flat(root, entries, unused)
    files = {part: _class_files(root, place, unused) for part, place in places.items()}
    for part, by_class in files.items():
        if odd := sorted(by_class.keys() ^ files["train"].keys()):
            here, missing = ("train", part) if odd[0] in files["train"] else (part, "train")
            raise UsageError(
                f"{root}: class {odd[0]!r} is in {places[here]}/ but not in {places[missing]}/; both need the same"
            )
    for name in entries:
        if name not in places.values() and (found := sorted(_below(root, name))):
            unused[f"in {name}/, which is no part"] = found
    _outside(root, ".", unused)
    return ClassFolders(root=root, files=files, places=places, unused=dict(unused))


def _places(root: Path, entries: list[str]) -> dict[str, str]:
    """Return the folder of each part, in any case and usual spelling; empty where the folders are classes.

    A single folder of such a name is a class (such as train, the vehicle) if there are no folders in it.
    """
    places = {}
    for part, spellings in PARTS.items():
        found = [name for name in entries if name.casefold() in spellings]
        if len(found) > 1:
            raise UsageError(f"{root}: both {found[0]}/ and {found[1]}/ would be {part} images; leave one of them")
        if found:
            places[part] = found[0]
    is_class = len(places) == 1 and not any(entry.is_dir() for entry in (root / next(iter(places.values()))).iterdir())
    if not places or (is_class and len(entries) > 1):
        return {}
    for part in ("train", "test"):
        if part not in places:
            raise UsageError(f"{root / part} is not a folder; {EXPECTED}")
    return places


def _flat(root: Path, entries: list[str], unused: dict[str, list[str]]) -> ClassFolders:
    """Return flat class folders; a folder without images is not a class."""
    files = {name: _images(root, name, unused) for name in entries}
    by_class = {name: images for name, images in files.items() if images}
    if len(by_class) < 2:
        inner = [name for name in by_class if any(entry.is_dir() for entry in (root / name).iterdir())]
        hint = f"; did you mean folder:{root / inner[0]}?" if inner else ""
        raise UsageError(f"{root} has {len(by_class)} class folders; {EXPECTED}{hint}")
    _outside(root, ".", unused)
    return ClassFolders(root=root, files={UNDIVIDED: by_class}, places={UNDIVIDED: "."}, unused=dict(unused))


def _class_files(root: Path, place: str, unused: dict[str, list[str]]) -> dict[str, list[str]]:
    """Return the image files of a part by class, both sorted by name."""
    folder = root / place
    classes = sorted(entry.name for entry in folder.iterdir() if entry.is_dir() and not entry.name.startswith("."))
    if not classes:
        raise UsageError(f"{folder} has no class folders; expected {place}/CLASS/*")
    by_class = {}
    for label in classes:
        by_class[label] = _images(root, f"{place}/{label}", unused)
        if not by_class[label]:
            known = ", ".join(sorted(IMAGE_SUFFIXES))
            raise UsageError(f"{folder / label} holds no images; known suffixes: {known}")
    _outside(root, place, unused)
    return by_class


def _images(root: Path, folder: str, unused: dict[str, list[str]]) -> list[str]:
    """Return the image files in a folder and below, relative to ``root``; add the others to ``unused``."""
    images = []
    for name in sorted(_below(root, folder)):
        file = os.path.basename(name)
        suffix = os.path.splitext(file)[1].lower()
        if file.startswith("."):
            unused["hidden"].append(name)
        elif suffix in IMAGE_SUFFIXES:
            images.append(name)
        else:
            unused[f"with suffix {suffix}" if suffix else "without a suffix"].append(name)
    return images


def _outside(root: Path, folder: str, unused: dict[str, list[str]]) -> None:
    """Add the files beside class folders, and what is hidden there, to ``unused``."""
    prefix = "" if folder == "." else f"{folder}/"
    for entry in sorted((root / folder).iterdir()):
        if entry.name.startswith("."):
            unused["hidden"].append(prefix + entry.name)
        elif not entry.is_dir():
            unused["outside the class folders"].append(prefix + entry.name)


def _below(root: Path, folder: str) -> Iterator[str]:
    """Yield the files in a folder and below, relative to ``root``; a hidden folder counts as a file.

    Links are followed, except to a folder that contains them.
    """
    for top, folders, files in os.walk(root / folder, followlinks=True, onerror=_complain):
        inner = os.path.relpath(top, root / folder)
        prefix = f"{folder}/" if inner == "." else f"{folder}/{inner}/"
        hidden = [name for name in folders if name.startswith(".")]
        folders[:] = [name for name in folders if name not in hidden and not _leads_back(top, name)]
        yield from (prefix + name for name in (*files, *hidden))


def _leads_back(top: str, name: str) -> bool:
    """Return whether a folder is a link to a folder that contains it."""
    path, here = Path(top, name), Path(top).resolve()
    return path.is_symlink() and path.resolve() in (here, *here.parents)


def _complain(error: OSError) -> None:
    """Raise the error of a folder that cannot be listed, whose images would be missing otherwise."""
    raise error
