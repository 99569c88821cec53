"""Image files: what paths of files and folders stand for, in order and one by one."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from compress.export.image_reader import images_below


def image_files(paths: Iterable[str | os.PathLike[str]]) -> Iterator[Path]:
    """Yield the files that paths stand for, in their order; a folder stands for all images below it, by name.

    What is named itself is yielded whatever its name, and so is a folder that cannot be listed: who opens them will
    find what is wrong.
    """
    for path in map(Path, paths):
        yield from images_below(path) if os.path.isdir(path) else [path]
