"""Images that no training had: of one's own, below a folder and prepared as a run prepares its own; no copies."""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch

from compress.data.class_folders import IMAGE_SUFFIXES, list_class_folders
from compress.data.dataset import Labelled, Part, in_order
from compress.data.folder_walk import walked
from compress.data.preparation import Preparation
from compress.errors import UsageError

UNLABELLED = -1
BATCH = 250
_log = logging.getLogger("compress")


def read_own_images(root: Path, preparation: Preparation, classes: Sequence[str] | None) -> Labelled:
    """Return the images below a folder, in the order of their names.

    Args:
        classes: names of the class folders that there must be, in the order of the labels; None: any folders, and all
            labels are `UNLABELLED`.

    Raises:
        UsageError: there are no images, other classes, or a file that cannot be read as an image of that preparation.
    """
    names, labels = _unlabelled(root) if classes is None else _labelled(root, classes)
    if not names:
        raise UsageError(f"{root} holds no images; known suffixes: {', '.join(sorted(IMAGE_SUFFIXES))}")
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        images = list(pool.map(preparation.read, (root / name for name in names)))
    return Labelled(images=torch.stack([torch.from_numpy(image.copy()) for image in images]), labels=labels)


def without_copies(images: Part, seen: Iterable[Part], what: str | Path) -> Part:
    """Return the images without those that have the same pixels as one in `seen`, or as an earlier one of their own.

    What is left out is logged, with `what` these images are.

    Raises:
        UsageError: none is left.
    """
    known = {digest for part in seen for digest in _digests(part)}
    digests = list(_digests(images))
    first = {digest: number for number, digest in reversed(list(enumerate(digests)))}
    kept = sorted(number for digest, number in first.items() if digest not in known)
    if len(kept) < len(images):
        again = sum(digest in known for digest in digests)
        why = f"{again:,} have the pixels of one that the run was trained, chosen or tested on"
        why += f", {len(images) - again - len(kept):,} those of one another"
        if not kept:
            raise UsageError(f"{what}: none of {len(images):,} images is left: {why}")
        _log.warning("%s: %d of %d images are left out: %s", what, len(images) - len(kept), len(images), why)
    return images if len(kept) == len(images) else images.subset(torch.tensor(kept))


def _labelled(root: Path, classes: Sequence[str]) -> tuple[list[str], torch.Tensor]:
    """Return the files in class folders and their labels, in the order of the classes given."""
    folders = list_class_folders(root)
    if not folders.flat:
        places = ", ".join(f"folder:{root / place}" for place in folders.places.values())
        raise UsageError(f"{root} is divided into parts: name one of them ({places})")
    if odd := sorted(set(folders.classes) ^ set(classes)):
        here, there = (
            ("a folder", "no class of the run") if odd[0] in folders.classes else ("a class", "no folder here")
        )
        raise UsageError(f"{root}: {odd[0]!r} is {here}, but {there}; the classes are {', '.join(classes)}")
    numbers = [classes.index(name) for name in folders.classes]
    [labels] = folders.labels.values()
    return folders.names, torch.tensor(numbers)[labels]


def _unlabelled(root: Path) -> tuple[list[str], torch.Tensor]:
    """Return all image files below a folder; hidden ones are passed over."""
    suffixed = (name for name in walked(root, [""]).files if os.path.splitext(name)[1].lower() in IMAGE_SUFFIXES)
    names = [name for name in suffixed if not os.path.basename(name).startswith(".")]
    return names, torch.full((len(names),), UNLABELLED)


def _digests(part: Part) -> Iterator[bytes]:
    """Yield a digest of every image's pixels."""
    for images in part.batches(in_order(len(part), BATCH)):
        for image in images.cpu().contiguous().numpy():
            yield hashlib.sha256(image.data).digest()
