"""Accuracy and loss of each network after every epoch of its training."""

from __future__ import annotations

import math
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from benchmarks.report.figures.style import COLOURS, plain
from benchmarks.report.figures.tooltips import draw_point, tooltip
from benchmarks.results.epochs import PANELS

TOGETHER = 7  # networks in a row of panels
MARKED = 20  # epochs of a network, at most
DASHES = ("-", "--", "-.", ":")
MARKERS = "os^DvPX"
DIGITS = {"val_accuracy": ".2f"}


def training_curves(epochs: pd.DataFrame, title: str) -> Figure | None:
    """Accuracy and losses of final exits after every epoch: means over seeds, and bands from the least to the greatest.

    Up to seven networks share a row of panels. None if no run took two epochs. `epochs` are those of `read_epochs`.
    """
    lasting = epochs[epochs.groupby("run")["epoch"].transform("nunique") > 1] if len(epochs) else epochs
    if lasting.empty:
        return None
    networks = [network for _, network in lasting.groupby("series", sort=False)]
    columns = [column for column in PANELS if lasting[column].notna().any()]
    groups = [networks[start : start + TOGETHER] for start in range(0, len(networks), TOGETHER)]
    size = (1.9 + 3.4 * len(columns), 0.7 + 2.9 * len(groups))
    figure = Figure(figsize=size, layout="constrained")
    grid = figure.subplots(len(groups), len(columns), sharex=True, sharey="col", squeeze=False)
    for panels, group in zip(grid, groups, strict=True):
        handles = [_draw(list(panels), network, columns, number) for number, network in enumerate(group)]
        for axes, column in zip(panels, columns, strict=True):
            axes.set_ylabel(PANELS[column])
            axes.grid(alpha=0.25)
        place = {"loc": "upper left", "bbox_to_anchor": (1.02, 1), "borderaxespad": 0}
        panels[-1].legend(handles=handles, fontsize="small", frameon=False, **place)
    for axes in grid[-1]:
        axes.set_xlabel("epoch")
        axes.xaxis.get_major_locator().set_params(integer=True)
    figure.suptitle(plain(title), fontsize="medium")
    return figure


def _draw(panels: list[Axes], epochs: pd.DataFrame, columns: list[str], number: int) -> Line2D:
    """Draw a network's curve in each panel, up to 20 of its epochs marked; returns the legend's handle."""
    name = epochs["network"].iloc[0]
    values = epochs.groupby("epoch")[columns].agg(["mean", "min", "max"])
    look: dict[str, Any] = {"color": COLOURS[number % len(COLOURS)], "linestyle": DASHES[number % len(DASHES)]}
    point: dict[str, Any] = {"marker": MARKERS[number % len(MARKERS)], "markersize": 4, "in_layout": False}
    for axes, column in zip(panels, columns, strict=True):
        axes.plot(values.index, values[column, "mean"], linewidth=1.4, **look)
        if epochs["run"].nunique() > 1:
            band = values[column, "min"], values[column, "max"]
            axes.fill_between(values.index, *band, color=look["color"], alpha=0.15, linewidth=0)
    stride = math.ceil(len(values) / MARKED)
    for epoch, row in values[(len(values) - 1) % stride :: stride].iterrows():  # the last is marked
        means = {PANELS[column]: f"{row[column, 'mean']:{DIGITS.get(column, '.3f')}}" for column in columns}
        text = tooltip(name, {"epoch": epoch} | means | {"seeds": epochs["run"].nunique()})
        for axes, column in zip(panels, columns, strict=True):
            draw_point(axes, float(str(epoch)), row[column, "mean"], text, look | point)
    return Line2D([], [], label=plain(name), linewidth=1.4, **look, **point)
