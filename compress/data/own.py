"""Class folders of the user's: found wherever they lie now, and opened in memory or on disk."""

import logging
import os
from collections.abc import Iterator
from pathlib import Path

from compress.data.dataset import Dataset
from compress.data.folders import EXPECTED, list_class_folders
from compress.data.readers import read_class_folders
from compress.data.streaming import stream_class_folders
from compress.errors import UsageError

FOLDER = "folder:"
STREAM_ABOVE = 2 << 30  # bytes of decoded images

_log = logging.getLogger("compress")


def find_folder(name: str, data_dir: Path | None = None) -> Path:
    """Return the resolved path of "folder:PATH", the same for every spelling.

    A relative path is looked for in ``data_dir``, then where the process is, then in ``$COMPRESS_DATA``; an absolute
    one that is not there any more by its last part in the same places. Raises ``UsageError`` where there is none.
    """
    given = Path(os.path.expanduser(name.removeprefix(FOLDER)))
    if given.parts[:1] and given.parts[0].startswith("~") and not given.is_dir():
        raise UsageError(f"{name}: there is no such home directory; give the path itself")
    elsewhere = os.environ.get("COMPRESS_DATA")
    candidates = [
        *([given] if given.is_absolute() else []),
        *(_in_place(given, Path(os.path.expanduser(data_dir))) if data_dir else []),
        given,
        *(_in_place(given, Path(os.path.expanduser(elsewhere))) if elsewhere else []),
    ]
    found = next((path for path in candidates if path.is_dir()), None) if name != FOLDER else None
    if found is None:
        also = f", nor in {data_dir}" if data_dir else ""
        raise UsageError(f"{name} is not a folder{also}; {EXPECTED}; --data-dir says where to look for it")
    if found.resolve() != given.resolve():
        _log.warning("%s: reading %s", name, found.resolve())
    return found.resolve()


def _in_place(given: Path, place: Path) -> list[Path]:
    """What a path may be in another place: below it, in full or its last part, or that place itself."""
    return [place / given, place / given.name, *([place] if place.resolve().name == given.name else [])]


def folders_like(name: str, classes: list[str], data_dir: Path) -> Iterator[Path]:
    """Yield the folders in and directly below ``data_dir`` that have these classes; those of the same name first."""
    last = Path(name.removeprefix(FOLDER)).name
    below = sorted(entry for entry in Path(os.path.expanduser(data_dir)).iterdir() if entry.is_dir())
    candidates = [Path(os.path.expanduser(data_dir)) / last, Path(os.path.expanduser(data_dir)), *below]
    for path in dict.fromkeys(candidate.resolve() for candidate in candidates if candidate.is_dir()):
        try:
            if list(list_class_folders(path).classes) == classes:
                yield path
        except UsageError:
            continue  # no class folders


def open_folder(
    root: Path,
    *,
    image_size: int | None = None,
    stream: bool | None = None,
    skip_unreadable: bool = False,
    workers: int | None = None,
) -> Dataset:
    """Return the class folders under a resolved ``root`` as a data set; options as in ``open_dataset``."""
    folders = list_class_folders(root)
    large = folders.decoded_bytes(image_size) > STREAM_ABOVE
    streamed = large if stream is None else stream
    if streamed:
        contents = stream_class_folders(
            folders, image_size=image_size, skip_unreadable=skip_unreadable, workers=workers
        )
    else:
        contents = read_class_folders(folders, image_size=image_size, skip_unreadable=skip_unreadable)
    options = {
        f"--image-size {image_size}": image_size is not None,
        "--stream": streamed,
        "--no-stream": large and not streamed,
        "--skip-unreadable": skip_unreadable,
    }
    return Dataset(
        name=f"{FOLDER}{root}",
        copy="class folders, streamed" if streamed else "class folders",
        classes=contents.classes,
        train=contents.train,
        validation=contents.validation,
        test=contents.test,
        options=tuple(word for option, given in options.items() if given for word in option.split()),
        skipped=contents.skipped,
        preprocessing=contents.preprocessing,
        division=contents.division,
    )
