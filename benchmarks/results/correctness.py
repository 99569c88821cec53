"""Correctness: which test images every exit of a run got right, from its predictions or what a report kept of them."""

from __future__ import annotations

import hashlib
import zipfile
import zlib
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
from msgspec import Meta, Struct

from benchmarks.probing.probe import pack, unpack
from benchmarks.results.rows import series
from benchmarks.statistics.scores import Scores
from compress.documents import read_json
from compress.errors import UsageError
from compress.records import Count
from compress.runs import CORRECTNESS, PREDICTIONS, Run, write_json

AGREEMENT = 0.005  # stored logits are rounded to float16, which turns an image or two: more, and it is another run's


def read_right(run: Run) -> tuple[str, np.ndarray]:
    """A digest of the test images' labels in their order and, as bools `(exits, images)`, which each exit got right.

    From `predictions.npz` or, where there is none, from the `correctness.json` of a report's record.

    Raises:
        UsageError: the file is missing or corrupt, or does not say what the run's record says.
    """
    kept = (run.path / CORRECTNESS).exists() and not (run.path / PREDICTIONS).exists()
    name = CORRECTNESS if kept else PREDICTIONS
    shape = len(run.exits), int(run.record.data["split"]["test"])
    try:
        labels, right = _kept(run.path / name, shape) if kept else _predicted(run.path / name, shape, run.spec.classes)
    except FileNotFoundError as error:
        raise UsageError(f"run {run.id}: {name} is missing") from error
    except UnknownError as error:
        raise UsageError(str(error)) from error
    except UsageError as error:
        raise UsageError(f"run {run.id}: {name} is corrupt or another run's: {error}") from error
    recorded = np.array([exit["test_accuracy"] for exit in run.exits], dtype=float)
    if not np.all(np.abs(right.mean(axis=-1) - recorded) <= max(AGREEMENT, 2 / shape[1])):
        raise UsageError(f"run {run.id}: {name} has other accuracies than its record")
    return labels, right


def write_right(run: Run, directory: Path) -> None:
    """Write `correctness.json` into a directory: what `read_right` reads of a run, eight images a byte, or why not."""
    try:
        labels, right = read_right(run)
    except UsageError as error:
        write_json(directory / CORRECTNESS, {"unreadable": str(error)})
        return
    packed = [pack(torch.from_numpy(exit)) for exit in right]
    write_json(directory / CORRECTNESS, {"images": right.shape[1], "labels": labels, "right": packed})


def _predicted(path: Path, shape: tuple[int, int], classes: int) -> tuple[str, np.ndarray]:
    exits, images = shape
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            for name, wanted in (("test_labels", (images,)), ("test_logits", (exits, images, classes))):
                if (found := _declared(arrays.zip, name)) != wanted:  # before anything of that size is made
                    raise UsageError(f"{name} is {found}, not {wanted}: {_images(shape)}")
            labels, logits = arrays["test_labels"], arrays["test_logits"]
    except FileNotFoundError:
        raise
    except OSError as error:
        raise UsageError(error.strerror or str(error)) from error
    except (ValueError, LookupError, EOFError, TypeError, AttributeError, zipfile.BadZipFile, zlib.error) as error:
        raise UsageError(str(error)) from error
    digest = hashlib.sha256(np.ascontiguousarray(labels, dtype="<i8").tobytes()).hexdigest()
    return digest, logits.argmax(axis=-1) == labels


def _declared(archive: zipfile.ZipFile, name: str) -> tuple[int, ...]:
    """The shape that an array's header says."""
    with archive.open(f"{name}.npy") as member:
        np.lib.format.read_magic(member)
        shape, _, _ = np.lib.format.read_array_header_1_0(member)
    return shape


def _images(shape: tuple[int, int]) -> str:
    return f"the run has {shape[0]} exit(s) and {shape[1]:,} test images"


class UnknownError(UsageError):
    """Why it was not known, when the record was made, what was right."""


class Fields(Struct, frozen=True, kw_only=True):
    """What `correctness.json` must be: of a record that could not be made, a reason alone."""

    images: Count = 0
    labels: str = ""
    right: list[Annotated[str, Meta(pattern="^([0-9a-f]{2})*$")]] = []
    unreadable: str | None = None


def _kept(path: Path, shape: tuple[int, int]) -> tuple[str, np.ndarray]:
    _, kept = read_json(path, Fields)
    if kept.unreadable is not None:
        raise UnknownError(kept.unreadable)
    digits = 2 * -(-shape[1] // 8)
    if (len(kept.right), kept.images) != shape or any(len(exit) != digits for exit in kept.right):
        raise UsageError(f"{len(kept.right)} exit(s) and {kept.images:,} images: {_images(shape)}")
    return kept.labels, np.stack([unpack(exit, shape[1]) for exit in kept.right])


def read_scores(runs: Sequence[Run]) -> tuple[dict[tuple[str, int], Scores], list[str]]:
    """What every exit got right, by series and exit (from 1), and a line on every run that is left out.

    Runs whose labels are not those of most others are among these: images are paired by their position.
    """
    read, left_out = [], []
    for run in runs:
        try:
            labels, right = read_right(run)
            read.append((run, labels, right))
        except UsageError as error:
            left_out.append(str(error))
    [(shared, _)] = Counter(labels for _, labels, _ in read).most_common(1) or [("", 0)]
    seeds: dict[tuple[str, int], dict[int, np.ndarray]] = {}
    for run, labels, right in read:
        if labels == shared:
            for exit, own in enumerate(right, start=1):
                seeds.setdefault((series(run), exit), {})[run.record.seed] = own
        else:
            left_out.append(f"run {run.id}: {PREDICTIONS} is on other test images, or in another order")
    return {key: Scores.of(own) for key, own in seeds.items()}, left_out


def of_last_exits(scores: Mapping[tuple[str, int], Scores]) -> dict[str, Scores]:
    """Those of the last exits, by series."""
    return {key: scores[key, exit] for key, exit in sorted(scores)}  # the last one stays
