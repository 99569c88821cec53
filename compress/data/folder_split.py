"""Flat class folders divided into train, test and val by content: the same files are always divided alike."""

import hashlib
from collections.abc import Mapping
from dataclasses import replace

from compress.data.class_folders import UNDIVIDED, ClassFolders
from compress.data.division import Division
from compress.errors import UsageError


def divided(folders: ClassFolders, digests: Mapping[str, str], division: Division | None = None) -> ClassFolders:
    """Return flat folders divided into parts, every class in proportion, given the digest of each file's content.

    The images of a class are ordered by a digest of the seed and their content; the first go to test, the next to val,
    the others to train. Files that were recorded keep their part, whatever they are called and whatever came after
    them. Files of the same content are never in two parts. An image that is in two classes goes to train, since no
    prediction of it would be right.

    Raises:
        UsageError: a class has too few different images for all parts.
    """
    division = Division() if division is None else division
    classes_of: dict[str, set[str]] = {}
    for label, names in folders.files[UNDIVIDED].items():
        for name in names:
            classes_of.setdefault(digests[name], set()).add(label)
    files: dict[str, dict[str, list[str]]] = {part: {} for part in division.shares}
    for label, names in folders.files[UNDIVIDED].items():
        contents = {digests[name] for name in names}
        own = {content for content in contents if len(classes_of[content]) == 1 or content in division.recorded}
        if len(own) < len(files) and not division.closed:
            raise UsageError(
                f"{folders.root / label} holds {len(own)} different images of its own; to be split into "
                f"{', '.join(files)} it needs at least {len(files)}; or give train/CLASS/* and test/CLASS/*"
            )
        part_of = {**_parts(own, division), **division.recorded}
        for part, by_class in files.items():
            by_class[label] = [name for name in names if part_of.get(digests[name], "train") == part]
        if empty := [part for part, by_class in files.items() if not by_class[label]]:
            raise UsageError(f"{folders.root / label} has no {empty[0]} images in this split; ask for another --split")
    return replace(folders, files=files, places=dict.fromkeys(files, "."))


def _parts(contents: set[str], division: Division) -> dict[str, str]:
    """Return the part of each content of a class that is not recorded."""
    new = contents - division.recorded.keys()
    kept = [division.recorded[content] for content in contents & division.recorded.keys()]
    ordered = sorted(new, key=lambda content: hashlib.sha256(f"{division.seed}:{content}".encode()).digest())
    parts = [
        part
        for part, share in division.shares.items()
        if part != "train"
        for _ in range(max(1, round(share * len(contents))) - kept.count(part))
    ]
    return dict(zip(ordered, parts + ["train"] * len(ordered), strict=False))
