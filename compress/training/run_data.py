"""The data set of a finished run, found again by its digest."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from compress.data import Dataset, open_dataset
from compress.data.catalogue import FOLDER
from compress.data.division import DIVISION, Division
from compress.data.own_folders import folders_like
from compress.errors import UsageError
from compress.runs import Run, read_run


def data_of(run: Run, data_dir: Path | None = None, *, workers: int | None = None, download: bool = True) -> Dataset:
    """Open the data set that a run was trained on: the first with its digest, searched in ``data_dir`` first.

    Flat class folders are divided as the run recorded, without files that came later, whatever is wrong with these.

    Raises:
        UsageError: it is not found, or only other images are.
    """
    data, (_, height, width) = run.record.data, run.spec.input_shape
    own = data["name"].startswith(FOLDER)
    resized = width if own and height == width else None
    classes, recorded = tuple(data["classes"]), run.path / DIVISION
    division = Division.read(recorded, classes=classes) if recorded.exists() else Division(classes=classes)
    streamed, skip = data["copy"].endswith("streamed"), bool(data["skipped"])
    other: Dataset | None = None
    missing: UsageError | None = None
    for name in _names(run, data_dir) if own else [data["name"]]:
        try:
            dataset = open_dataset(
                name,
                data_dir=data_dir,
                image_size=resized,
                stream=streamed,
                skip_unreadable=skip,
                workers=workers,
                division=division if own else None,
                download=download,
            )
        except UsageError as error:
            missing = missing or error
            continue
        if dataset.digest == data["digest"]:
            return normalised_as(run, dataset)
        other = other or dataset
    if other is None:
        raise UsageError(f"the images of run {run.id} are not found: {missing}") from missing
    raise UsageError(
        f"run {run.id} was trained on other images than {other.name} ({other.copy}) has now: digest "
        f"{data['digest'][:12]}, not {other.digest[:12]}; the copy it read was {data['copy']}: name its place "
        "with --data-dir"
    )


def normalised_as(run: Run, dataset: Dataset) -> Dataset:
    """Return a data set with the normalisation that was given for a run's training, if one was."""
    return dataset.normalised_by(run.normalisation) if run.record.config["normalisation"] else dataset


def moved_since(dataset: Dataset, runs: Path) -> str | None:
    """A line on the newest run on the same flat class folders whose images are in other parts now; None without one.

    That is what photos that came later do, unless a run's division is kept; other shares or seeds were asked for.
    """
    now, name, how = dataset.divided, dataset.name, dataset.division
    if now is None or how is None or "recorded" in how:
        return None
    for path in sorted(runs.glob(f"*/{DIVISION}"), key=lambda path: path.stat().st_mtime, reverse=True):
        with contextlib.suppress(UsageError):  # a damaged run is no reason to stop
            before, run = Division.read(path), read_run(path.parent)
            if run.record.data["name"] != name or (before.seed, before.shares) != (how["seed"], how["shares"]):
                continue
            moved = sum(now.get(content, part) != part for content, part in before.recorded.items())
            if not moved:
                return None
            return (
                f"{name} is divided otherwise than for run {path.parent.name}, as its files changed: {moved:,} of "
                f"{len(before.recorded):,} images are in another part now; --split {path.parent} keeps them in theirs"
            )
    return None


def _names(run: Run, data_dir: Path | None) -> Iterator[str]:
    """Names that the class folders of a run may have now: folders in `data_dir` with its classes, then the old name."""
    name, classes = run.record.data["name"], run.record.data["classes"]
    if data_dir is not None and Path(os.path.expanduser(data_dir)).is_dir():
        yield from (f"{FOLDER}{path}" for path in folders_like(name, classes, data_dir))
    yield name
