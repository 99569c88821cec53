"""Predictions: which test images every exit of a run classified correctly, from the run or a report's record of it."""

from __future__ import annotations

import hashlib
import zipfile
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import field
from pathlib import Path
from typing import Annotated

import numpy as np

from benchmarks.results.series import series
from benchmarks.statistics.scores import Scores, pack, unpack
from compress.documents import read_json
from compress.ensemble_exit import ENSEMBLE, ExitName
from compress.errors import UsageError
from compress.records import Count
from compress.runs import CORRECTNESS, PREDICTIONS, Run, write_json
from compress.schema import Meta, Struct

AGREEMENT = 0.005  # stored logits are rounded to float16, which changes an image or two; more is another run's file


class Correctness(Struct, frozen=True, kw_only=True):
    """The content of `correctness.json`; where the predictions were not readable, only the reason.

    Attributes:
        images: number of test images.
        labels: digest of their labels.
        right: packed bools, one text an exit.
    """

    images: Count = 0
    labels: str = ""
    right: list[Annotated[str, Meta(pattern="^([0-9a-f]{2})*$")]] = field(default_factory=list)
    unreadable: str | None = None


class UnreadableError(UsageError):
    """The reason why predictions were not readable when a report's record was made."""


def read_right(run: Run) -> tuple[str, np.ndarray]:
    """A digest of the ordered test labels and, as bools, the images that each exit classified correctly.

    These are `(exits, images)`, shallow to deep; behind them a row for the run's ensemble, if it has one.

    Read from `predictions.npz` or, where there is none, from the `correctness.json` of a report's record.

    Raises:
        UsageError: the file is missing or corrupt, or disagrees with the run's record.
    """
    recorded = (run.path / CORRECTNESS).exists() and not (run.path / PREDICTIONS).exists()
    name = CORRECTNESS if recorded else PREDICTIONS
    shape = len(run.predictions), int(run.record.data["split"]["test"])
    try:
        if recorded:
            labels, right = _read_correctness(run.path / name, shape)
        else:
            labels, right = _read_predictions(run.path / name, run)
    except FileNotFoundError as error:
        raise UsageError(f"run {run.id}: {name} is missing") from error
    except UnreadableError as error:
        raise UsageError(str(error)) from error
    except UsageError as error:
        raise UsageError(f"run {run.id}: {name} is corrupt or another run's: {error}") from error
    accuracies = np.array([row["test_accuracy"] for row in run.predictions], dtype=float)
    if not np.all(np.abs(right.mean(axis=-1) - accuracies) <= max(AGREEMENT, 2 / shape[1])):
        raise UsageError(f"run {run.id}: {name} has other accuracies than its record")
    return labels, right


def write_right(run: Run, directory: Path) -> None:
    """Write what `read_right` reads of the run, or why it could not be read, into a directory's `correctness.json`."""
    try:
        labels, right = read_right(run)
    except UsageError as error:
        write_json(directory / CORRECTNESS, {"unreadable": str(error)})
        return
    packed = [pack(exit) for exit in right]
    write_json(directory / CORRECTNESS, {"images": right.shape[1], "labels": labels, "right": packed})


def _read_predictions(path: Path, run: Run) -> tuple[str, np.ndarray]:
    exits, images, classes = len(run.exits), int(run.record.data["split"]["test"]), run.spec.classes
    shapes: dict[str, tuple[int, ...]] = {"test_labels": (images,), "test_logits": (exits, images, classes)}
    if run.ensemble:
        shapes[f"test_{ENSEMBLE}_logits"] = (images, classes)
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            for name, wanted in shapes.items():
                if (found := _declared_shape(arrays.zip, name)) != wanted:  # before memory of that size is allocated
                    raise UsageError(f"{name} is {found}, not {wanted}: {_expected((exits, images))}")
            labels, *logits = (arrays[name] for name in shapes)
    except FileNotFoundError:
        raise
    except Exception as error:  # of any kind: the archive may be damaged anywhere
        raise UsageError(getattr(error, "strerror", None) or str(error)) from error
    digest = hashlib.sha256(np.ascontiguousarray(labels, dtype="<i8").tobytes()).hexdigest()
    return digest, np.concatenate([each.reshape(-1, images, classes) for each in logits]).argmax(axis=-1) == labels


def _declared_shape(archive: zipfile.ZipFile, name: str) -> tuple[int, ...]:
    """The shape in an array's header."""
    with archive.open(f"{name}.npy") as member:
        np.lib.format.read_magic(member)
        shape, _, _ = np.lib.format.read_array_header_1_0(member)
    return shape


def _read_correctness(path: Path, shape: tuple[int, int]) -> tuple[str, np.ndarray]:
    _, content = read_json(path, Correctness)
    if content.unreadable is not None:
        raise UnreadableError(content.unreadable)
    digits = 2 * -(-shape[1] // 8)
    if (len(content.right), content.images) != shape or any(len(exit) != digits for exit in content.right):
        raise UsageError(f"{len(content.right)} exit(s) and {content.images:,} images: {_expected(shape)}")
    return content.labels, np.stack([unpack(exit, shape[1]) for exit in content.right])


def _expected(shape: tuple[int, int]) -> str:
    return f"the run has {shape[0]} exit(s) and {shape[1]:,} test images"


def read_scores(runs: Sequence[Run]) -> tuple[dict[tuple[str, ExitName], Scores], list[str]]:
    """Scores by series and exit (from 1, or ``ensemble``), and a line on every run that is left out.

    Left out, too, are runs whose labels differ from those of most runs, since images are paired by their position.
    """
    read, left_out = [], []
    for run in runs:
        try:
            read.append((run, *read_right(run)))
        except UsageError as error:
            left_out.append(str(error))
    [(shared, _)] = Counter(labels for _, labels, _ in read).most_common(1) or [("", 0)]
    by_seed: dict[tuple[str, ExitName], dict[int, np.ndarray]] = {}
    for run, labels, right in read:
        if labels == shared:
            for row, of_exit in zip(run.predictions, right, strict=True):
                by_seed.setdefault((series(run), row["exit"]), {})[run.record.seed] = of_exit
        else:
            left_out.append(f"run {run.id}: {PREDICTIONS} is on other test images, or in another order")
    return {key: Scores.of(right) for key, right in by_seed.items()}, left_out


def of_last_exits(scores: Mapping[tuple[str, ExitName], Scores]) -> dict[str, Scores]:
    """The scores of the last exits, by series."""
    numbered = sorted(key for key in scores if key[1] != ENSEMBLE)
    return {key: scores[key, exit] for key, exit in numbered}  # the last exit comes last, and stays
