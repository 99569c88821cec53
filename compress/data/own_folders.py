"""Class folders of the user's own, opened as a data set: in memory or streamed from disk."""

import math
import os
from collections.abc import Iterator
from functools import partial
from itertools import islice
from pathlib import Path

import numpy as np
import torch

from compress.data.catalogue import FOLDER
from compress.data.class_folders import UNREADABLE, ClassFolders, list_class_folders
from compress.data.dataset import Dataset, Labelled, Part
from compress.data.division import Division
from compress.data.folder_survey import Survey, advice_for, survey_files
from compress.data.image_decoding import preprocessing
from compress.data.streaming import Files, Streamed, default_workers, read_image
from compress.errors import UsageError

STREAM_ABOVE = 2 << 30  # bytes of decoded images


def folders_like(name: str, classes: list[str], data_dir: Path) -> Iterator[Path]:
    """Yield the folders in and directly below ``data_dir`` that have these classes; those of the same name first.

    Flat ones may have others, too: these came later.
    """
    last = Path(name.removeprefix(FOLDER)).name
    below = sorted(entry for entry in Path(os.path.expanduser(data_dir)).iterdir() if entry.is_dir())
    candidates = [Path(os.path.expanduser(data_dir)) / last, Path(os.path.expanduser(data_dir)), *below]
    for path in dict.fromkeys(candidate.resolve() for candidate in candidates if candidate.is_dir()):
        try:
            found = list_class_folders(path)
            if list(found.classes) == classes or (found.flat and set(classes) <= set(found.classes)):
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
    division: Division | None = None,
) -> Dataset:
    """Return the class folders under a resolved ``root`` as a data set; options as in ``open_dataset``.

    ``division`` says how flat folders are divided, 70/15/15 by default.

    Images have one channel if all are grey, else three. What is resized to ``image_size`` is fitted by ``centre``.

    Raises:
        UsageError: an unreadable image, unless these are skipped (streamed, it is found when it is read), or images of
            several sizes without ``image_size``, or a division of folders that have parts.
    """
    folders, division = list_class_folders(root), Division() if division is None else division
    survey = survey_files(folders, decode=skip_unreadable)
    if folders.flat and division.closed and division.recorded:
        folders = survey.as_recorded(folders, division)
        survey = survey.of(folders)
    used, advice = survey.usable(folders, skip_unreadable=skip_unreadable, division=division), advice_for(division)
    shape = survey.shape(root, image_size)
    large = len(used.names) * math.prod(shape) > STREAM_ABOVE
    streamed = large if stream is None else stream
    workers = default_workers() if workers is None else workers
    names = iter(used.names)
    images = iter([] if streamed else used.map(partial(read_image, shape=shape, advice=advice)))
    parts: dict[str, Part] = {}
    for part, labels in used.labels.items():
        if streamed:
            encoded = np.array([os.fsencode(name) for name in islice(names, len(labels))])
            files = Files(root=root, names=encoded, shape=shape, advice=advice)
            parts[part] = Streamed(files=files, labels=labels, digest=survey.digest, workers=workers)
        else:
            parts[part] = Labelled(images=torch.stack(list(islice(images, len(labels)))), labels=labels)
    options = {
        f"--image-size {image_size}": image_size is not None,
        "--stream": streamed,
        "--no-stream": large and not streamed,
        "--skip-unreadable": skip_unreadable,
    }
    division = division if folders.flat else None
    return Dataset(
        name=f"{FOLDER}{root}",
        copy="class folders, streamed" if streamed else "class folders",
        classes=folders.classes,
        train=parts["train"],
        test=parts["test"],
        validation=parts.get("val"),
        options=tuple(word for option, given in options.items() if given for word in option.split())
        + (division.options if division else ()),
        skipped=len(used.unused.get(UNREADABLE, ())),
        preprocessing=preprocessing(shape, resized=image_size is not None),
        division=division.to_json() if division else None,
        divided=_part_of_each(used, survey) if division else None,
    )


def _part_of_each(used: ClassFolders, survey: Survey) -> dict[str, str]:
    """Return the part that each image is in, by the digest of its file."""
    digests = map(survey.digests.__getitem__, used.names)
    return {next(digests): part for part, labels in used.labels.items() for _ in labels}
