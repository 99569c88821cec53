"""Accuracy by precision: every network in fp32 and int8, against MACs and against the size of its file."""

from __future__ import annotations

from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from benchmarks.report.figures.accuracy_against_cost import joined, line_label, scale_costs
from benchmarks.report.figures.style import plain, styles
from benchmarks.report.figures.tooltips import draw_point, tooltip
from benchmarks.results.both_precisions import FP32, INT8
from benchmarks.results.cells import accuracy_cell, exit_cell, megabytes, millions

PANELS = {"macs": "MACs per image (millions)", "bytes": "size of the ONNX file (MB)"}
LOOKS: dict[str, dict[str, Any]] = {FP32: {"linestyle": "-"}, INT8: {"linestyle": "--", "markerfacecolor": "none"}}


def accuracy_by_precision(points: pd.DataFrame, summary: pd.DataFrame, title: str) -> Figure:
    """A figure of accuracy in fp32, filled, and in int8, hollow, with intervals over seeds.

    The exits of a network, or the budgets of an arm, are a line in each precision. Points whose file's size is not
    known are missing on the right.

    Args:
        points: as `both_precisions` returns them.
        summary: results of `rows.summarise`, which decide the colours.
        title: the figure's title.
    """
    looks, figure = styles(summary), Figure(layout="constrained")
    every: list[Axes] = list(figure.subplots(1, len(PANELS), sharey=True))
    handles = [Line2D([], [], color="grey", marker="o", label=name, **look) for name, look in LOOKS.items()]
    for own in joined(points):
        look = looks[own["series"].iloc[0]] | {"linewidth": 1.2, "markersize": 6}
        handles.append(Line2D([], [], label=line_label(own), **look | {"markerfacecolor": look["color"]}))
        for axes, cost in zip(every, PANELS, strict=True):
            for precision, rows in own.groupby("precision"):
                filled = {"markerfacecolor": look["color"]} | LOOKS[str(precision)]
                _draw_line(axes, rows[rows[cost].notna()].sort_values(cost), cost, look | filled)
    for axes, (cost, label) in zip(every, PANELS.items(), strict=True):
        axes.set_xlabel(label)
        axes.grid(alpha=0.25)
        if points[cost].notna().any():
            scale_costs(axes, points[cost] / 1e6)
    every[0].set_ylabel("test accuracy (%)")
    figure.suptitle(plain(title), fontsize="medium")
    longest = max(len(str(handle.get_label())) for handle in handles)
    figure.set_size_inches(10.3 + 0.066 * longest, max(5.0, 0.6 + 0.21 * len(handles)))  # with room for the legend
    figure.legend(handles=handles, loc="outside right upper", fontsize="small", frameon=False)
    return figure


def _draw_line(axes: Axes, rows: pd.DataFrame, cost: str, look: dict[str, Any]) -> None:
    """Draw the points of a network or an arm in one precision, joined by a line."""
    costs, values = rows[cost] / 1e6, 100 * rows["test_accuracy"]
    axes.plot(costs, values, **look | {"marker": "none"})
    for row, x, y in zip(rows.to_dict("records"), costs, values, strict=True):
        draw_point(axes, x, y, _tooltip(row), look)
        if not pd.isna(half_width := row["test_accuracy_half_width"]):
            axes.errorbar(x, y, 100 * half_width, fmt="none", ecolor=look["color"], capsize=3)


def _tooltip(row: dict[Any, Any]) -> str:
    details = {
        "exit": exit_cell(row),
        "precision": row["precision"],
        "test accuracy, %": accuracy_cell(row),
        "MACs": millions(row["macs"]),
        "file": megabytes(row["bytes"]),
    }
    return tooltip(row["network"], details)
