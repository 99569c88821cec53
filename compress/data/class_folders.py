"""Class folders: the image files in them, by part and class, and the files that are not used."""

import os
from collections import defaultdict
from collections.abc import Callable, Collection
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor

from compress.data.catalogue import EXPECTED
from compress.errors import UsageError

# What Pillow decodes by itself. Files of the others that it knows (documents, video, data) are named as not used.
_BITMAPS = ".apng .avif .avifs .bmp .bw .cur .dcx .dds .dib .gif .icb .icns .ico .msp .pbm .pcx .pgm .png .pnm .ppm"
_PHOTOS = ".j2c .j2k .jfif .jp2 .jpc .jpe .jpeg .jpf .jpg .jpx .mpo .tif .tiff .webp"
_OTHERS = ".psd .qoi .ras .rgb .rgba .sgi .tga .vda .vst .xbm .xpm"
IMAGE_SUFFIXES = frozenset(f"{_BITMAPS} {_PHOTOS} {_OTHERS}".split())
PARTS = {"train": ("train", "training"), "test": ("test", "testing"), "val": ("val", "valid", "validation")}
UNDIVIDED = "all"  # the only part of flat folders, until they are divided

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

    def what_is_used(self) -> str:
        """Return how many classes and images every part has."""
        counted = ", ".join(f"{len(labels)} {part}" for part, labels in self.labels.items())
        return f"{len(self.classes)} classes in every part; {counted} images"

    def what_is_unused(self, unreadable: Collection[str] = ()) -> str:
        """Return which files are not used, with reasons."""
        unused = self.unused | ({"unreadable": list(unreadable)} if unreadable else {})
        if not unused:
            return "all files are used"
        reasons = sorted(unused.items(), key=lambda item: -len(item[1]))
        counted = ", ".join(f"{len(names)} {why}" for why, names in reasons)
        return f"not used: {sum(map(len, unused.values()))} files, such as {reasons[0][1][0]} ({counted})"


def list_class_folders(root: Path) -> ClassFolders:
    """Return the class folders under ``root``, in parts, or flat: not divided yet.

    Images in subfolders of a class belong to it. Hidden files and files with other suffixes are counted as unused.

    Raises:
        UsageError: parts differ in their classes, or a class has no images.
    """
    try:
        folders, names = walked(root)
    except OSError as error:
        raise UsageError(f"{error.filename or root} cannot be listed ({error.strerror})") from error
    places = _places(root, folders)
    depth = 2 if places else 1  # of the class folders
    part_of = {place: part for part, place in places.items()}
    files: dict[str, dict[str, list[str]]] = {part: {} for part in places or (UNDIVIDED,)}
    for parts in (folder.split("/") for folder in folders):
        if len(parts) == depth and (not places or parts[0] in part_of):
            files[part_of.get(parts[0], UNDIVIDED)][parts[-1]] = []
    unused: dict[str, list[str]] = defaultdict(list)
    for name in names:
        parts = name.split("/")
        suffix = os.path.splitext(parts[-1])[1].lower()
        if places and len(parts) > 1 and parts[0] not in part_of:
            unused[f"in {parts[0]}/, which is no part"].append(name)
        elif parts[-1].startswith("."):
            unused["hidden"].append(name)
        elif len(parts) <= depth:
            unused["outside the class folders"].append(name)
        elif suffix not in IMAGE_SUFFIXES:
            unused[f"with suffix {suffix}" if suffix else "without a suffix"].append(name)
        else:
            files[part_of.get(parts[0], UNDIVIDED)][parts[depth - 1]].append(name)
    if places:
        _check_parts(root, files, places)
    else:
        files = {UNDIVIDED: _with_images(root, files[UNDIVIDED], folders)}
    return ClassFolders(root=root, files=files, places=places or {UNDIVIDED: "."}, unused=dict(unused))


def walked(root: Path) -> tuple[list[str], list[str]]:
    """Return the folders and the files below ``root``, relative to it and sorted; a hidden folder counts as a file.

    Links are followed, except to a folder that contains them.
    """

    def complain(error: OSError) -> None:
        raise error  # the images of a folder that cannot be listed would be missing

    folders, names = [], []
    for top, inner, files in os.walk(root, followlinks=True, onerror=complain):
        here = os.path.relpath(top, root)
        prefix = "" if here == "." else f"{here}/"
        hidden = [name for name in inner if name.startswith(".")]
        inner[:] = [name for name in inner if name not in hidden and not _leads_back(top, name)]
        folders += [prefix + name for name in inner]
        names += [prefix + name for name in (*files, *hidden)]
    return sorted(folders), sorted(names)


def _leads_back(top: str, name: str) -> bool:
    """Return whether a folder is a link to a folder that contains it."""
    path, here = Path(top, name), Path(top).resolve()
    return path.is_symlink() and path.resolve() in (here, *here.parents)


def _places(root: Path, folders: list[str]) -> dict[str, str]:
    """Return the folder of each part, in any case and usual spelling; empty where the folders are classes.

    A single folder of such a name is a class (such as train, the vehicle) if there are no folders in it.
    """
    entries = [name for name in folders if "/" not in name]
    places = {}
    for part, spellings in PARTS.items():
        found = [name for name in entries if name.casefold() in spellings]
        if len(found) > 1:
            raise UsageError(f"{root}: both {found[0]}/ and {found[1]}/ would be {part} images; leave one of them")
        if found:
            places[part] = found[0]
    is_class = len(places) == 1 < len(entries) and not _has_folders(next(iter(places.values())), folders)
    if not places or is_class:
        return {}
    for part in ("train", "test"):
        if part not in places:
            raise UsageError(f"{root / part} is not a folder; {EXPECTED}")
    return places


def _has_folders(name: str, folders: list[str]) -> bool:
    return any(folder.startswith(f"{name}/") for folder in folders)


def _check_parts(root: Path, files: dict[str, dict[str, list[str]]], places: dict[str, str]) -> None:
    """Refuse parts without classes, classes without images, and parts whose classes differ."""
    for part, by_class in files.items():
        if not by_class:
            raise UsageError(f"{root / places[part]} has no class folders; expected {places[part]}/CLASS/*")
        for label, images in by_class.items():
            if not images:
                known = ", ".join(sorted(IMAGE_SUFFIXES))
                raise UsageError(f"{root / places[part] / label} holds no images; known suffixes: {known}")
        if odd := sorted(by_class.keys() ^ files["train"].keys()):
            here, missing = ("train", part) if odd[0] in files["train"] else (part, "train")
            raise UsageError(
                f"{root}: class {odd[0]!r} is in {places[here]}/ but not in {places[missing]}/; both need the same"
            )


def _with_images(root: Path, by_class: dict[str, list[str]], folders: list[str]) -> dict[str, list[str]]:
    """Return the classes of flat folders: a folder without images is none."""
    kept = {label: images for label, images in by_class.items() if images}
    if len(kept) < 2:
        inner = [label for label in kept if _has_folders(label, folders)]
        hint = f"; did you mean folder:{root / inner[0]}?" if inner else ""
        raise UsageError(f"{root} has {len(kept)} class folders; {EXPECTED}{hint}")
    return kept
