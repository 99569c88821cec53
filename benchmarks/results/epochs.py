"""Epochs: accuracy and loss of finished runs after every epoch, as a frame."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import pandas as pd
from msgspec import Struct

from benchmarks.results.rows import distinct_names, series
from compress.console import console
from compress.documents import fitted, parse_json, read_file
from compress.errors import UsageError
from compress.records import Amount, Number, Share
from compress.runs import METRICS, Run

PANELS = {
    "val_accuracy": "validation accuracy (%)",
    "val_loss": "validation loss (nats)",
    "train_loss": "training loss (nats)",
}


def read_epochs(runs: Sequence[Run]) -> pd.DataFrame:
    """A row an epoch of every run, of its last exit: `series`, `network`, `run`, `epoch` and the columns of `PANELS`.

    Accuracies are in per cent; what was not held out is missing. Runs without a readable `metrics.jsonl` are left out.
    """
    names = distinct_names(runs)
    return pd.DataFrame([row for run in runs for row in _epochs(run, names[run.id])])


class Epoch(Struct, frozen=True, kw_only=True):
    """A line of `metrics.jsonl`; what is of every exit is empty where nothing was held out."""

    epoch: Number
    learning_rate: Amount
    seconds: Amount
    images_per_second: Amount
    train_loss: tuple[float, ...]
    train_accuracy: tuple[Share, ...]
    val_loss: tuple[float, ...]
    val_accuracy: tuple[Share, ...]


def _epochs(run: Run, network: str) -> list[dict[str, Any]]:
    shared = {"series": series(run), "network": network, "run": run.id}
    try:
        lines = _read_lines(run)
    except FileNotFoundError:
        return []
    except UsageError as error:
        console.print(f"skipped: {run.path / METRICS} is corrupt ({error})")
        return []
    return [
        shared
        | {"epoch": line.epoch}
        | {column: values[-1] if (values := getattr(line, column)) else math.nan for column in PANELS}
        | {"val_accuracy": 100 * line.val_accuracy[-1] if line.val_accuracy else math.nan}
        for line in lines
    ]


def _read_lines(run: Run) -> list[Epoch]:
    lines, epochs = read_file(run.path / METRICS).splitlines(), run.record.cost["epochs"]
    found = [fitted(parse_json(line), Epoch, f"line {number}") for number, line in enumerate(lines, start=1)]
    if len(found) != epochs or any(line.epoch != number for number, line in enumerate(found, start=1)):
        raise UsageError(f"not a line for each of the run's {epochs} epochs")
    for number, line in enumerate(found, start=1):
        lengths = {len(line.train_loss), len(line.train_accuracy), len(line.val_loss or line.train_loss)}
        if lengths != {len(run.exits)} or len(line.val_accuracy) != len(line.val_loss):
            raise UsageError(f"line {number}: not of the run's {len(run.exits)} exit(s)")
    return found
