"""Class folders of the user's own, opened as a data set: in memory or streamed from disk."""

import os
from collections.abc import Iterator
from pathlib import Path

from compress.data.catalogue import FOLDER
from compress.data.dataset import Dataset
from compress.data.folders import list_class_folders
from compress.data.readers import read_class_folders
from compress.data.streaming import stream_class_folders
from compress.errors import UsageError

STREAM_ABOVE = 2 << 30  # bytes of decoded images


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
        options=tuple(word for option, given in options.items() if given for word in option.split()),
        **vars(contents),
    )
