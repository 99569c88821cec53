"""Correctness: which test images every exit of a run got right, read from its predictions."""

from __future__ import annotations

import zipfile
import zlib
from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np

from benchmarks.statistics import Scores
from benchmarks.tables import series
from compress.errors import UsageError
from compress.runs import PREDICTIONS, Run

AGREEMENT = 0.005  # stored logits are rounded to float16, which turns an image or two: more, and it is another run's


def read_right(run: Run) -> tuple[np.ndarray, np.ndarray]:
    """Labels `(images,)` of the test images and, as bools `(exits, images)`, which of them each exit got right.

    Raises:
        UsageError: the file is missing or corrupt, or does not say what the run's record says.
    """
    try:
        with (run.path / PREDICTIONS).open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            labels, logits = arrays["test_labels"], arrays["test_logits"]
    except FileNotFoundError as error:
        raise UsageError(f"run {run.id}: {PREDICTIONS} is missing") from error
    except (OSError, ValueError, LookupError, EOFError, TypeError, zipfile.BadZipFile, zlib.error) as error:
        raise UsageError(f"run {run.id}: {PREDICTIONS} is corrupt or has no test images") from error
    images = run.record.data["split"]["test"]
    if labels.shape != (images,) or logits.ndim != 3 or logits.shape[:2] != (len(run.exits), images):
        raise UsageError(f"run {run.id}: {PREDICTIONS} is not of its {len(run.exits)} exit(s) and {images} test images")
    right = logits.argmax(axis=-1) == labels
    recorded = np.array([exit["test_accuracy"] for exit in run.exits], dtype=float)
    if not np.all(np.abs(right.mean(axis=-1) - recorded) <= max(AGREEMENT, 2 / images)):
        raise UsageError(f"run {run.id}: {PREDICTIONS} has other accuracies than its record")
    return labels, right


def read_scores(runs: Sequence[Run]) -> tuple[dict[tuple[str, int], Scores], list[str]]:
    """What every exit got right, by series and exit (from 1), and a line on every run that is left out.

    Runs whose labels are not those of most others are among these: images are paired by their position.
    """
    read, left_out = [], []
    for run in runs:
        try:
            labels, right = read_right(run)
            read.append((run, labels.tobytes(), right))
        except UsageError as error:
            left_out.append(str(error))
    [(shared, _)] = Counter(order for _, order, _ in read).most_common(1) or [(b"", 0)]
    seeds: dict[tuple[str, int], dict[int, np.ndarray]] = {}
    for run, order, right in read:
        if order == shared:
            for exit, own in enumerate(right, start=1):
                seeds.setdefault((series(run), exit), {})[run.record.seed] = own
        else:
            left_out.append(f"run {run.id}: {PREDICTIONS} is on other test images, or in another order")
    return {key: Scores.of(own) for key, own in seeds.items()}, left_out


def of_last_exits(scores: Mapping[tuple[str, int], Scores]) -> dict[str, Scores]:
    """Those of the last exits, by series."""
    return {key: scores[key, exit] for key, exit in sorted(scores)}  # the last one stays
