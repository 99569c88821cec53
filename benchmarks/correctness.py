"""Correctness: which test images every exit of a run got right, from its predictions or what a report kept of them."""

from __future__ import annotations

import hashlib
import json
import zipfile
import zlib
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch

from benchmarks.probe import pack, unpack
from benchmarks.statistics import Scores
from benchmarks.tables import series
from compress.errors import UsageError
from compress.runs import PREDICTIONS, Run, write_json

CORRECTNESS = "correctness.json"
AGREEMENT = 0.005  # stored logits are rounded to float16, which turns an image or two: more, and it is another run's


def read_right(run: Run) -> tuple[str, np.ndarray]:
    """A digest of the test images' labels in their order and, as bools `(exits, images)`, which each exit got right.

    From `predictions.npz` or, where there is none, from the `correctness.json` of a report's record.

    Raises:
        UsageError: the file is missing or corrupt, or does not say what the run's record says.
    """
    kept = (run.path / CORRECTNESS).exists() and not (run.path / PREDICTIONS).exists()
    name = CORRECTNESS if kept else PREDICTIONS
    try:
        labels, right = _kept(run.path / name) if kept else _predicted(run.path / name)
    except UsageError:
        raise
    except FileNotFoundError as error:
        raise UsageError(f"run {run.id}: {name} is missing") from error
    except (OSError, ValueError, LookupError, EOFError, TypeError, zipfile.BadZipFile, zlib.error) as error:
        raise UsageError(f"run {run.id}: {name} is corrupt or has no test images") from error
    images = run.record.data["split"]["test"]
    if right.shape != (len(run.exits), images):
        raise UsageError(f"run {run.id}: {name} is not of its {len(run.exits)} exit(s) and {images} test images")
    recorded = np.array([exit["test_accuracy"] for exit in run.exits], dtype=float)
    if not np.all(np.abs(right.mean(axis=-1) - recorded) <= max(AGREEMENT, 2 / images)):
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


def _predicted(path: Path) -> tuple[str, np.ndarray]:
    with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
        labels, logits = arrays["test_labels"], arrays["test_logits"]
    if labels.ndim != 1:
        raise ValueError("labels are one a test image")
    digest = hashlib.sha256(np.ascontiguousarray(labels, dtype="<i8").tobytes()).hexdigest()
    return digest, logits.argmax(axis=-1) == labels


def _kept(path: Path) -> tuple[str, np.ndarray]:
    document = json.loads(path.read_text())
    if "unreadable" in document:
        raise UsageError(str(document["unreadable"]))
    packed, images = document["right"], document["images"]
    right = [unpack(exit, images) for exit in packed]
    if [pack(torch.from_numpy(exit)) for exit in right] != packed:
        raise ValueError("other numbers of images")
    return str(document["labels"]), np.stack(right)


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
