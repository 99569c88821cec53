"""Epochs: a frame of accuracy and loss of finished runs after every epoch."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from benchmarks.results.series import network_name, series
from compress.console import console
from compress.documents import fitted, parse_json, read_file
from compress.errors import UsageError
from compress.records import Amount, Number, Share
from compress.runs import METRICS, Run
from compress.schema import Struct

PANELS = {
    "val_accuracy": "validation accuracy (%)",
    "val_loss": "validation loss (nats)",
    "train_loss": "training loss (nats)",
}


class Epoch(Struct, frozen=True, kw_only=True):
    """What is read of a line of `metrics.jsonl`: a value for every exit, or none where no images were held out.

    Attributes:
        load: see `compress.machine.load`; None in records that are older, or where the system does not say.
    """

    epoch: Number
    train_loss: tuple[float, ...]
    val_loss: tuple[float, ...]
    val_accuracy: tuple[Share, ...]
    seconds: Amount | None = None
    load: Amount | None = None


def read_epochs(runs: Sequence[Run], names: Mapping[str, str] | None = None) -> pd.DataFrame:
    """A row an epoch of every run, for its last exit.

    Columns are `series`, `network`, `run`, `epoch`, `seconds`, `load`, and those of `PANELS`. Accuracies are in per
    cent; gaps where no images were held out, and where a time or load is not known. Runs without a readable
    `metrics.jsonl` are left out.

    Args:
        names: network names by series, see `names_by_series`; by default every run's `network_name`.
    """
    named = [(run, names[series(run)] if names else network_name(run)) for run in runs]
    return pd.DataFrame([row for run, network in named for row in _rows(run, network)])


def _rows(run: Run, network: str) -> list[dict[str, Any]]:
    try:
        lines = _read_lines(run)
    except FileNotFoundError:
        return []
    except UsageError as error:
        console.print(f"skipped: {run.path / METRICS} is corrupt ({error})")
        return []
    shared = {"series": series(run), "network": network, "run": run.id}
    return [
        shared
        | {"epoch": line.epoch, **{key: _known(getattr(line, key)) for key in ("seconds", "load")}}
        | {column: values[-1] if (values := getattr(line, column)) else math.nan for column in PANELS}
        | {"val_accuracy": 100 * line.val_accuracy[-1] if line.val_accuracy else math.nan}
        for line in lines
    ]


def _known(value: float | None) -> float:
    return math.nan if value is None else value


def _read_lines(run: Run) -> list[Epoch]:
    lines, epochs = read_file(run.path / METRICS).splitlines(), run.record.cost["epochs"]
    found = [fitted(parse_json(line), Epoch, f"line {number}") for number, line in enumerate(lines, start=1)]
    if [line.epoch for line in found] != [*range(1, epochs + 1)]:
        raise UsageError(f"not a line for each of the run's {epochs} epochs")
    for line in found:
        lengths = {len(line.train_loss), len(line.val_loss or line.train_loss)}
        if lengths != {len(run.exits)} or len(line.val_accuracy) != len(line.val_loss):
            raise UsageError(f"line {line.epoch}: not of the run's {len(run.exits)} exit(s)")
    return found
