"""Division of flat class folders into train, test and val by content: the same files are always divided alike."""

import hashlib
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from compress.data.class_folders import UNDIVIDED, ClassFolders
from compress.errors import UsageError

SEED = 0
SHARES = {"train": 0.7, "test": 0.15, "val": 0.15}
LEAST = len(SHARES)  # different images per class


def division() -> dict[str, Any]:
    """Return how flat folders are divided, for a record."""
    return {"seed": SEED, "shares": SHARES, "by": "SHA-256 of each file's content"}


def divided(folders: ClassFolders, digests: Mapping[str, str]) -> ClassFolders:
    """Return flat folders divided into parts, every class in proportion, given the digest of each file's content.

    The images of a class are ordered by a digest of the seed and their content; the first go to test, the next to val,
    the others to train. Files of the same content are never in two parts. An image that is in two classes goes to
    train, since no prediction of it would be right.

    Raises:
        UsageError: a class has fewer than three different images.
    """
    classes_of: dict[str, set[str]] = {}
    for label, names in folders.files[UNDIVIDED].items():
        for name in names:
            classes_of.setdefault(digests[name], set()).add(label)
    files: dict[str, dict[str, list[str]]] = {part: {} for part in SHARES}
    for label, names in folders.files[UNDIVIDED].items():
        part_of = _parts({digests[name] for name in names if len(classes_of[digests[name]]) == 1})
        if len(part_of) < LEAST:
            raise UsageError(
                f"{folders.root / label} holds {len(part_of)} different images of its own; to be split into "
                f"{', '.join(SHARES)} it needs at least {LEAST}; or give train/CLASS/* and test/CLASS/*"
            )
        for part, by_class in files.items():
            by_class[label] = [name for name in names if part_of.get(digests[name], "train") == part]
    return replace(folders, files=files, places=dict.fromkeys(files, "."))


def _parts(contents: set[str]) -> dict[str, str]:
    """Return the part of each content of a class."""
    ordered = sorted(contents, key=lambda content: hashlib.sha256(f"{SEED}:{content}".encode()).digest())
    counts = {part: max(1, round(SHARES[part] * len(ordered))) for part in ("test", "val")}
    parts = [part for part, count in counts.items() for _ in range(count)]
    return dict(zip(ordered, parts + ["train"] * (len(ordered) - len(parts)), strict=False))
