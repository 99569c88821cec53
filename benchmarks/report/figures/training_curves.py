"""How training went: accuracy and loss, epoch by epoch."""

from __future__ import annotations

from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks.report.figures.style import COLOURS, plain
from benchmarks.results.epochs import PANELS

ALIKE = 7  # lines in a panel; more of them get rows of their own
DASHES = ("-", "--", "-.", ":")
MARKS = "os^DvPX"


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
