"""How training went: accuracy and loss, epoch by epoch."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from msgspec import Struct

from benchmarks.figures.style import COLOURS, plain
from benchmarks.tables import distinct_names, series
from compress.documents import fitted, parse_json, read_file
from compress.errors import UsageError
from compress.records import Amount, Number, Share
from compress.runs import METRICS, Run
from compress.training.progress import console

ALIKE = 7  # lines in a panel; more of them get rows of their own
PANELS = {
    "val_accuracy": "validation accuracy (%)",
    "val_loss": "validation loss (nats)",
    "train_loss": "training loss (nats)",
}
DASHES = ("-", "--", "-.", ":")
MARKS = "os^DvPX"


def read_epochs(runs: Sequence[Run]) -> pd.DataFrame:
    """A row an epoch of every run, of its last exit: `series`, `network`, `run`, `epoch` and the columns of `PANELS`.

    Accuracies are in per cent; what was not held out is missing. Runs without a readable `metrics.jsonl` are left out.
    """
    names = distinct_names(runs)
    return pd.DataFrame([row for run in runs for row in _epochs(run, names[run.id])])


def training_curves(epochs: pd.DataFrame, title: str) -> Figure | None:
    """Accuracy and losses of last exits after every epoch: means over seeds, with bands from the least to the greatest.

    `epochs` is `read_epochs`'s. Up to seven networks share a row of panels. None where nothing took two epochs.
    """
    lasting = epochs[epochs.groupby("run")["epoch"].transform("nunique") > 1] if len(epochs) else epochs
    if lasting.empty:
        return None
    keys, columns = list(lasting["series"].unique()), [column for column in PANELS if lasting[column].notna().any()]
    groups = [keys[start : start + ALIKE] for start in range(0, len(keys), ALIKE)]
    size = (1.9 + 3.4 * len(columns), 0.7 + 2.9 * len(groups))
    figure = Figure(figsize=size, layout="constrained")
    grid = figure.subplots(len(groups), len(columns), sharex=True, sharey="col", squeeze=False)
    for panels, group in zip(grid, groups, strict=True):
        for axes, column in zip(panels, columns, strict=True):
            for number, key in enumerate(group):
                _band(axes, lasting[lasting["series"] == key], column, number)
            axes.set_ylabel(PANELS[column])
            axes.grid(alpha=0.25)
        place = {"loc": "upper left", "bbox_to_anchor": (1.02, 1), "borderaxespad": 0}
        panels[-1].legend(fontsize="small", frameon=False, **place)
    for axes in grid[-1]:
        axes.set_xlabel("epoch")
        axes.xaxis.get_major_locator().set_params(integer=True)
    figure.suptitle(plain(title), fontsize="medium")
    return figure


def _band(axes: Axes, epochs: pd.DataFrame, column: str, number: int) -> None:
    """One network's mean over seeds, and the range of its seeds where there are several."""
    values = epochs.groupby("epoch")[column].agg(["mean", "min", "max"])
    colour = COLOURS[number % len(COLOURS)]
    style: dict[str, Any] = {"color": colour, "linestyle": DASHES[number % len(DASHES)], "linewidth": 1.4}
    marks: dict[str, Any] = {"marker": MARKS[number % len(MARKS)], "markersize": 4, "markevery": 0.15}
    axes.plot(values.index, values["mean"], label=plain(epochs["network"].iloc[0]), **style, **marks)
    if epochs["run"].nunique() > 1:
        axes.fill_between(values.index, values["min"], values["max"], color=colour, alpha=0.15, linewidth=0)


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
