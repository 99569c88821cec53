"""Folder walk: what lies below folders, where every folder is read once, by its own name rather than by a link's."""

import os
from collections import deque
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class FolderWalk:
    """What lies below folders, relative to their root: all sorted, but ``folders`` from the top downwards.

    Attributes:
        folders: the folders that were read.
        files: the files in them; a hidden folder counts as one.
        again: the folders, mostly links, that were not read: they are above, or were read by another name.
    """

    folders: list[str] = field(default_factory=list)
    files: list[str] = field(default_factory=list)
    again: list[str] = field(default_factory=list)


def walked(root: Path, tops: Collection[str]) -> FolderWalk:
    """Return what lies below the folders ``tops`` of ``root``; raises ``OSError`` where a folder cannot be listed.

    Each top is read, even if two are one folder. Links below them are followed in the end, except to a folder that is
    above or has been read: an image in it would count twice, and in a class that it was not put into.
    """
    walk = FolderWalk()
    above = {_identity(folder) for folder in {up for top in tops for up in (root / top).absolute().parents}}
    own, linked, read = deque(sorted(tops)), deque[str](), set(above)
    while own or linked:
        by_own_name = bool(own)
        here = (own or linked).popleft()
        identity = _identity(root / here)
        if identity in (above if by_own_name else read):
            walk.again.append(here)
            continue
        read.add(identity)
        folders, files = listed(root, here)
        walk.folders.append(here)
        walk.files.extend(files)
        for folder in folders:
            (own if by_own_name and not os.path.islink(root / folder) else linked).append(folder)
    walk.files.sort()
    walk.again.sort()
    return walk


def listed(root: Path, here: str = "") -> tuple[list[str], list[str]]:
    """Return the folders in a folder and its files, relative to ``root`` and sorted; a hidden folder counts as a file.

    Raises ``OSError`` where it cannot be listed: its images would be missing.
    """
    folders: list[str] = []
    files: list[str] = []
    with os.scandir(root / here) as entries:
        for entry in entries:
            folder = entry.is_dir(follow_symlinks=False) or (entry.is_symlink() and os.path.isdir(entry.path))
            name = f"{here}/{entry.name}" if here else entry.name
            (folders if folder and not entry.name.startswith(".") else files).append(name)
    return sorted(folders), sorted(files)


def _identity(folder: Path) -> tuple[int, int]:
    status = folder.stat()
    return status.st_dev, status.st_ino
