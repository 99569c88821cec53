"""Accuracy against what it costs: MACs, latency or training MACs; and the accuracy that a budget of MACs affords."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks.report.figures.accuracy_panel import Line, draw_accuracies, lines_of, scale_cost
from benchmarks.report.figures.labels import label_points
from benchmarks.report.figures.style import plain, separate, size_beside
from benchmarks.results.cells import exit_name
from benchmarks.results.escaping import one_line
from benchmarks.statistics.fronts import on_front

MACS, LATENCY, TRAINING = "macs", "latency_ratio_b1", "total_training_macs"
ALIKE = ["bench_session", "latency_reference", "latency_conditions"]  # latencies compare only where these are equal


def accuracy_against_macs(summary: pd.DataFrame, title: str, reference: str | None = None) -> Figure:
    """Accuracy against MACs: the exits of every network, the budgets of every arm, and networks trained separately.

    Args:
        summary: results of `rows.summarise`.
        title: the figure's title.
        reference: series of the network whose accuracy is drawn as a horizontal line.
    """
    points = summary.assign(cost=summary[MACS] / 1e6)
    return _against_cost(points, summary, "MACs per image (millions)", title, reference)


def accuracy_against_latency(summary: pd.DataFrame, title: str, reference: str | None = None) -> Figure | None:
    """Accuracy against the latency ratio at batch size 1; None if fewer than two results were measured together.

    Shown are the results measured in the same session, under the same conditions and against the same reference as
    most others: other ratios do not compare. Arguments are those of `accuracy_against_macs`.
    """
    if LATENCY not in summary or summary[LATENCY].isna().all():
        return None
    measured = summary[summary[LATENCY].notna()]
    most = measured[ALIKE].value_counts().index[0]
    points = measured[(measured[ALIKE] == list(most)).all(axis=1)]
    if len(points) < 2:
        return None
    exits = {f"{row['run']} exit {row['exit']}": exit_name(row) for row in measured.to_dict("records")}
    _, compared_with, conditions = most
    label = f"latency at batch size 1 (ratio to {exits.get(compared_with) or one_line(compared_with)}; {conditions})"
    return _against_cost(points.assign(cost=points[LATENCY]), summary, label, title, reference)


def accuracy_against_training(summary: pd.DataFrame, title: str, reference: str | None = None) -> Figure | None:
    """Accuracy of final exits against all training MACs; None if all networks cost the same.

    The budgets of an arm are not joined, since their order is that of another cost. Arguments are those of
    `accuracy_against_macs`.
    """
    points = summary[summary["last"]]
    if points[TRAINING].nunique() < 2:
        return None
    points = points.assign(cost=points[TRAINING] / 1e12)
    label = "training MACs (trillions), those of a reference or teacher included"
    return _against_cost(points, summary, label, title, reference, joined=False)


def anytime(summary: pd.DataFrame, title: str, reference: str | None = None) -> Figure | None:
    """Accuracy within a budget of MACs per image, a step curve for each multi-exit network; None if there is none.

    It is the accuracy of the deepest exit that the budget affords: no exit is chosen by its accuracy on test images.
    Networks trained separately are points. Arguments are those of `accuracy_against_macs`.
    """
    points = summary[(summary["exits"] > 1) | separate(summary)]
    if not (points["exits"] > 1).any():
        return None
    points = points.assign(cost=points[MACS] / 1e6)
    return _against_cost(points, summary, "budget of MACs per image (millions)", title, reference, steps=True)


def _against_cost(
    points: pd.DataFrame,
    summary: pd.DataFrame,
    label: str,
    title: str,
    reference: str | None,
    *,
    joined: bool = True,
    steps: bool = False,
) -> Figure:
    """The figure of results against their `cost`. Those off the front are pale, but not along steps."""
    [front] = on_front(points["cost"].to_numpy(), points["test_accuracy"].to_numpy()[None])
    lines = lines_of(points.assign(pale=~front & (not steps)), summary)
    if not joined:
        lines = [replace(line, look={**line.look, "linestyle": "none"}) for line in lines]
    figure = Figure(figsize=size_beside([line.label for line in lines]), layout="constrained")
    axes = figure.add_subplot()
    scale_cost(axes, points["cost"], label)
    for line in lines if steps else ():
        _draw_steps(axes, line, 1.04 * points["cost"].max())
    handles, labels = draw_accuracies(axes, lines, summary, reference, joined=not steps)
    axes.set_title(plain(title), fontsize="medium")
    figure.legend(handles=handles, loc="outside right upper", fontsize="small", frameon=False)
    named = points[separate(points)]
    label_points(axes, [*labels, *zip(named["cost"], 100 * named["test_accuracy"], named["network"], strict=True)])
    return figure


def _draw_steps(axes: Axes, line: Line, end: float) -> None:
    """Draw the accuracy that each budget up to `end` affords, for a network with several exits."""
    if line.points["exits"].iloc[0] > 1:
        budgets = np.repeat([*line.points["cost"], end], 2)[1:-1]
        look = {key: line.look[key] for key in ("color", "linestyle", "linewidth")}
        axes.plot(budgets, np.repeat(100 * line.points["test_accuracy"].to_numpy(), 2), **look)
