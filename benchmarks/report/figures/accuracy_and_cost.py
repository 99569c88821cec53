"""Accuracy against what it costs: MACs, latency, training MACs, and the anytime curve."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator

from benchmarks.report.figures.labels import label_points
from benchmarks.report.figures.style import (
    EXITS,
    SEPARATE,
    draw_points,
    legend_handle,
    limit_accuracies,
    line_label,
    numbers,
    plain,
    reference_line,
    separate,
    size_beside,
    style,
)

WIDE_RANGE = 20.0  # costs spread wider than this factor are drawn on a logarithmic axis
MACS, LATENCY, TRAINING = "macs", "latency_ratio_b1", "total_training_macs"


class Line(NamedTuple):
    """What is joined, or at least looks alike: exits of a network, budgets of an arm, nets trained separately."""

    label: str
    points: pd.DataFrame
    look: Mapping[str, Any]


def accuracy_against_macs(summary: pd.DataFrame, title: str, reference: str | None = None) -> Figure:
    """Accuracy against MACs, with 95% intervals over seeds if any: the exits of every network, and every arm's budgets.

    Networks trained separately stand beside them by name. Points are pale where another's mean is no lower at no more
    MACs. `summary` is `tables.summarise`'s; `reference` is the series whose accuracy is drawn as a horizontal line.
    """
    points = summary.assign(cost=summary[MACS] / 1e6)
    return _figure(points, summary, "MACs of one image (millions)", title, reference)


def accuracy_against_latency(summary: pd.DataFrame, title: str, reference: str | None = None) -> Figure | None:
    """The same against the ratio of latencies at batch 1; None where fewer than two points were measured together.

    Of several sessions that with most points: ratios of different ones do not compare.
    """
    if LATENCY not in summary or summary[LATENCY].isna().all():
        return None
    measured = summary[summary[LATENCY].notna()]
    names = dict(zip(measured["run"], measured["network"], strict=True))
    points = measured[measured["bench_session"] == measured["bench_session"].mode()[0]]
    if len(points) < 2:
        return None
    reference_exit, conditions = points[["latency_reference", "latency_conditions"]].iloc[0]
    run, _, exit = str(reference_exit).partition(" exit ")
    label = f"latency, batch 1 (ratio to {names.get(run, run)}, exit {exit}; {conditions})"
    return _figure(points.assign(cost=points[LATENCY]), summary, label, title, reference)


def accuracy_against_training(summary: pd.DataFrame, title: str, reference: str | None = None) -> Figure | None:
    """The same of last exits against all training MACs, logarithmic; None where all cost the same.

    Budgets of an arm are not joined: their order is that of another cost.
    """
    points = summary[summary["last"]]
    if points[TRAINING].nunique() < 2:
        return None
    points = points.assign(cost=points[TRAINING] / 1e12)
    label = "training MACs (trillions), a reference's or teacher's included"
    return _figure(points, summary, label, title, reference, joined=False, log=True)


def anytime(summary: pd.DataFrame, title: str, reference: str | None = None) -> Figure | None:
    """Accuracy within a budget of MACs an image: that of the deepest exit that fits, a step curve a multi-exit network.

    The exit follows from the budget alone; none is chosen by its accuracy on test images. Networks trained separately
    are points. None where no network has several exits.
    """
    points = summary[(summary["exits"] > 1) | separate(summary)]
    if not (points["exits"] > 1).any():
        return None
    points = points.assign(cost=points[MACS] / 1e6)
    return _figure(points, summary, "budget of MACs an image (millions)", title, reference, steps=True)


def dominated(costs: pd.Series, accuracies: pd.Series) -> pd.Series:
    """Of every point, whether another one costs no more, is no less accurate, and is not the same in both."""
    pairs = list(zip(costs, accuracies, strict=True))
    return pd.Series(
        [
            any(other != (cost, value) and other[0] <= cost and other[1] >= value for other in pairs)
            for cost, value in pairs
        ],
        index=costs.index,
    )


def _figure(
    points: pd.DataFrame,
    summary: pd.DataFrame,
    label: str,
    title: str,
    reference: str | None,
    *,
    joined: bool = True,
    log: bool = False,
    steps: bool = False,
) -> Figure:
    """Accuracy of the points against their `cost`; looks are those of the whole summary's lines."""
    lines = _lines(points, summary)
    figure = Figure(figsize=size_beside([line.label for line in lines]), layout="constrained")
    axes = figure.add_subplot()
    if log or points["cost"].max() > WIDE_RANGE * points["cost"].min():
        _logarithmic(axes, points["cost"])
    pale = dominated(points["cost"], points["test_accuracy"])
    if steps:
        pale[:] = False
    for line in lines:
        look = line.look if joined and not steps else {**line.look, "linestyle": "none"}
        if steps:
            _stairs(axes, line, 1.04 * points["cost"].max())
        draw_points(axes, line.points["cost"], line.points, look, pale[line.points.index])
    compared_with = summary[summary["last"] & (summary["series"] == reference)]
    level = None if compared_with.empty else float(compared_with["test_accuracy"].iloc[0])
    marks = limit_accuracies(axes, [(line.points["cost"], line.points, line.look) for line in lines], level)
    axes.set_xlabel(plain(label))
    axes.set_ylabel("test accuracy (%)")
    axes.set_title(plain(title), fontsize="medium")
    axes.grid(alpha=0.25)
    handles = [legend_handle(line.look if joined else {**line.look, "linestyle": "none"}, line.label) for line in lines]
    handles += [] if level is None else [reference_line(axes, level, compared_with["network"].iloc[0])]
    figure.legend(handles=handles, loc="outside right upper", fontsize="small", frameon=False)
    named = points[separate(points)]
    names = zip(named["cost"], 100 * named["test_accuracy"], named["network"], strict=True)
    label_points(axes, [*marks, *names])
    return figure


def _lines(points: pd.DataFrame, summary: pd.DataFrame) -> list[Line]:
    """Points that look alike, those trained separately first."""
    places = numbers(summary)
    methods = list(summary[separate(summary)]["method"].unique())
    alone = separate(points)
    lines = [
        Line(f"trained separately ({method})" if len(methods) > 1 else "trained separately", of_method, look)
        for number, method in enumerate(methods)
        for look in [style(SEPARATE, number)]
        if len(of_method := points[alone & (points["method"] == method)])
    ]
    others = points[~alone]
    keys = others["arm_key"].where(others["exits"] == 1, others["series"])
    for _, line in others.groupby(keys, sort=False):
        first = line.iloc[0]
        kind = EXITS if first["exits"] > 1 else first["family"]
        lines.append(Line(line_label(line), line.sort_values("cost"), style(kind, places[first["arm_key"]])))
    return lines


def _stairs(axes: Axes, line: Line, end: float) -> None:
    """The accuracy that each budget affords, up to the largest; of several exits only."""
    if line.points["exits"].iloc[0] == 1:
        return
    budgets = np.repeat([*line.points["cost"], end], 2)[1:-1]
    look = {key: line.look[key] for key in ("color", "linestyle", "linewidth")}
    axes.plot(budgets, np.repeat(100 * line.points["test_accuracy"].to_numpy(), 2), **look)


def _logarithmic(axes: Axes, costs: pd.Series) -> None:
    """A logarithmic axis with round numbers on it, as many as fit."""
    axes.set_xscale("log")
    within_a_decade = costs.max() < 10 * costs.min()
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 1.5, 2, 3, 4, 5, 6, 8) if within_a_decade else (1, 2, 5)))
    axes.xaxis.set_major_formatter("{x:g}")
    axes.minorticks_off()
