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
from compress.data.folder_walk import listed, walked
from compress.errors import UsageError

# What Pillow decodes by itself. Files of the others that it knows (documents, video, data) are named as not used.
_BITMAPS = ".apng .avif .avifs .bmp .bw .cur .dcx .dds .dib .gif .icb .icns .ico .msp .pbm .pcx .pgm .png .pnm .ppm"
_PHOTOS = ".j2c .j2k .jfif .jp2 .jpc .jpe .jpeg .jpf .jpg .jpx .mpo .tif .tiff .webp"
_OTHERS = ".psd .qoi .ras .rgb .rgba .sgi .tga .vda .vst .xbm .xpm"
IMAGE_SUFFIXES = frozenset(f"{_BITMAPS} {_PHOTOS} {_OTHERS}".split())
PARTS = {"train": ("train", "training"), "test": ("test", "testing"), "val": ("val", "valid", "validation")}
UNDIVIDED = "all"  # the only part of flat folders, until they are divided
# Why something is not used.
UNREADABLE, EMPTY, AGAIN = "unreadable", "folder(s) without images", "link(s) to folders above or read already"
NAMED = 3  # of what is not used for one reason

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True, eq=False)
class ClassFolders:
    """The image files under ``root``, relative to it, by part (train, test, perhaps val) and class, sorted by name.

    ``places`` holds the folder of each part, ``unused`` other files and folders, by the reason why they are not used.
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

    def without(self, unreadable: Collection[str]) -> "ClassFolders":
        """Return the folders without unreadable files; ``UsageError`` where a class would be empty."""
        kept = {
            part: {label: [name for name in files if name not in unreadable] for label, files in by_class.items()}
            for part, by_class in self.files.items()
        }
        for part, by_class in kept.items():
            for label, files in by_class.items():
                if not files:
                    raise UsageError(f"{self.root / self.places[part] / label} holds no readable images")
        return replace(self, files=kept, unused=self.unused | ({UNREADABLE: list(unreadable)} if unreadable else {}))

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

    def what_is_unused(self) -> str:
        """Return how many files and folders are not used, for every reason, with the names of a few."""
        if not self.unused:
            return "all files are used"
        reasons = sorted(self.unused.items(), key=lambda item: -len(item[1]))
        counted = (
            f"{len(names)} {why} ({', '.join(names[:NAMED] + ['...'][: len(names) - NAMED])})" for why, names in reasons
        )
        return f"not used: {', '.join(counted)}"


def list_class_folders(root: Path) -> ClassFolders:
    """Return the class folders under ``root``, in parts, or flat: not divided yet.

    Images in subfolders of a class belong to it, but not those of another class that a link leads to. Hidden files and
    files with other suffixes are unused, and so is a flat folder without images, which is no class.

    Raises:
        UsageError: parts differ in their classes, or a class has no images or a name that is no text.
    """
    try:
        entries, names = listed(root)
        places = _places(root, entries)
        classes = entries
        if places:
            inside = [listed(root, place) for place in places.values()]
            classes = [folder for folders, _ in inside for folder in folders]
            names += [name for _, files in inside for name in files]
            names += walked(root, set(entries) - set(places.values())).files
        walk = walked(root, classes)
    except OSError as error:
        raise UsageError(f"{error.filename or root} cannot be listed ({error.strerror})") from error
    depth = 2 if places else 1  # of the class folders
    part_of = {place: part for part, place in places.items()}
    files: dict[str, dict[str, list[str]]] = {part: {} for part in places or (UNDIVIDED,)}
    for parts in (folder.split("/") for folder in walk.folders):
        if len(parts) == depth:
            files[part_of.get(parts[0], UNDIVIDED)][parts[-1]] = []
    unused: dict[str, list[str]] = defaultdict(list)
    for name in sorted(names + walk.files):
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
        unused[EMPTY] = [label for label, images in files[UNDIVIDED].items() if not images]
        files = {UNDIVIDED: _with_images(root, files[UNDIVIDED])}
    unused[AGAIN] = walk.again
    for label in next(iter(files.values())):
        if not _is_text(label):
            raise UsageError(
                f"{root}: the name of class {label!r} is no UTF-8, so that no model could say it: rename it"
            )
    found = {why: left for why, left in unused.items() if left}
    return ClassFolders(root=root, files=files, places=places or {UNDIVIDED: "."}, unused=found)


def _is_text(name: str) -> bool:
    """Return whether a name can be written as UTF-8, which bytes of another encoding cannot."""
    return not any("\ud800" <= letter <= "\udfff" for letter in name)


def _places(root: Path, entries: list[str]) -> dict[str, str]:
    """Return the folder of each part, in any case and usual spelling; empty where the ``entries`` are classes.

    A single folder of such a name is a class (such as train, the vehicle) if there are no folders in it.
    """
    places = {}
    for part, spellings in PARTS.items():
        found = [name for name in entries if name.casefold() in spellings]
        if len(found) > 1:
            raise UsageError(f"{root}: both {found[0]}/ and {found[1]}/ would be {part} images; leave one of them")
        if found:
            places[part] = found[0]
    is_class = len(places) == 1 < len(entries) and not listed(root, next(iter(places.values())))[0]
    if not places or is_class:
        return {}
    for part in ("train", "test"):
        if part not in places:
            raise UsageError(f"{root / part} is not a folder; {EXPECTED}")
    return places


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


def _with_images(root: Path, by_class: dict[str, list[str]]) -> dict[str, list[str]]:
    """Return the classes of flat folders: a folder without images is none."""
    kept = {label: images for label, images in by_class.items() if images}
    if len(kept) < 2:
        inner = [label for label in kept if listed(root, label)[0]]
        hint = f"; did you mean folder:{root / inner[0]}?" if inner else ""
        raise UsageError(f"{root} has {len(kept)} class folders; {EXPECTED}{hint}")
    return kept
