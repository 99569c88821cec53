"""Accuracy against what it costs: MACs, latency, training MACs, a budget of MACs, or what pruning saves."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator

from benchmarks.report.figures.style import FADED, plain, styles
from benchmarks.report.figures.tooltips import draw_point, result_tooltips
from benchmarks.results.cells import exit_name
from benchmarks.results.escaping import short_line
from benchmarks.statistics.fronts import on_front

WIDE_RANGE = 10.0  # largest / smallest cost from which an axis is logarithmic
FAR_OUT = 3  # times the interquartile range below the lower quartile: Tukey's
LATENCY = "latency_ratio_b1"
ALIKE = ["bench_session", "latency_reference", "latency_conditions"]  # latencies compare only where these are equal
Costs: TypeAlias = tuple[pd.DataFrame, pd.Series, str]  # rows of the summary, their costs, the axis' label


def accuracy_against(kind: str, summary: pd.DataFrame, title: str, reference: str | None = None) -> Figure | None:
    """A figure of accuracy against a cost; None if there is nothing to compare.

    The exits of a network, or the budgets of an arm, are a line. Points off the front of the first three kinds are
    pale.

    Args:
        kind: one of `KINDS`.
        summary: results of `rows.summarise`.
        title: the figure's title.
        reference: series of the network whose accuracy is drawn as a horizontal line.
    """
    points, costs, label = KINDS[kind][1](summary)
    if points.empty:
        return None
    [front] = on_front(costs.to_numpy(), points["test_accuracy"].to_numpy()[None])
    points = points.assign(cost=costs, pale=~front & kind.startswith("accuracy"), tooltip=result_tooltips(points))
    looks = styles(summary) if kind != "accuracy-training" else styles(summary, linestyle="none")
    lines = [(own.sort_values("cost"), looks[own["series"].iloc[0]]) for own in joined(points)]
    compared_with = summary[summary["last"] & (summary["series"] == reference)]
    figure = Figure(layout="constrained")
    axes = figure.add_subplot()
    floor = _limit_accuracies(axes, points, compared_with)
    for own, look in lines:
        _draw_line(axes, own, look, floor, until=1.04 * costs.max() if kind == "anytime" else None)
    handles = [Line2D([], [], label=line_label(own), **look) for own, look in lines]
    for network in compared_with.to_dict("records"):
        level, look = 100 * network["test_accuracy"], {"color": "grey", "linewidth": 0.9, "linestyle": (0, (8, 3))}
        handles.append(axes.axhline(level, label=plain(f"{network['network']}, the reference"), zorder=1, **look))
    axes.set_ylabel("test accuracy (%)")
    axes.set_xlabel(plain(label))
    axes.grid(alpha=0.25)
    scale_costs(axes, costs)
    axes.set_title(plain(title), fontsize="medium")
    longest = max(len(str(handle.get_label())) for handle in handles)
    figure.set_size_inches(7.3 + 0.066 * longest, max(5.0, 0.6 + 0.21 * len(handles)))  # with room for the legend
    figure.legend(handles=handles, loc="outside right upper", fontsize="small", frameon=False)
    return figure


def joined(points: pd.DataFrame) -> list[pd.DataFrame]:
    """The points that a line joins: exits of a network, or budgets of an arm."""
    keys = points["arm_key"].where(points["exits"] == 1, points["series"])
    return [own for _, own in points.groupby(keys, sort=False)]


def scale_costs(axes: Axes, costs: pd.Series) -> None:
    """Make the axis of costs logarithmic where they differ widely; its numbers are written out."""
    if costs.max() > WIDE_RANGE * costs.min() > 0:
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.minorticks_off()
    axes.xaxis.set_major_formatter("{x:g}")


def _by_macs(summary: pd.DataFrame) -> Costs:
    return summary, summary["macs"] / 1e6, "MACs per image (millions)"


def latency_points(summary: pd.DataFrame) -> pd.DataFrame:
    """The results measured in the same session, conditions and against the same reference as most; at least two."""
    measured = summary[summary[LATENCY].notna()] if LATENCY in summary else summary[:0]
    if measured.empty:
        return measured
    points = measured[(measured[ALIKE] == list(measured[ALIKE].value_counts().index[0])).all(axis=1)]
    return points if len(points) > 1 else points[:0]


def _by_latency(summary: pd.DataFrame) -> Costs:
    """Those of `latency_points`."""
    points = latency_points(summary)
    if points.empty:
        return points, points["macs"], ""
    exits = {f"{row['run']} exit {row['exit']}": exit_name(row) for row in summary.to_dict("records")}
    _, compared_with, conditions = points[ALIKE].iloc[0]
    label = f"latency at batch size 1 (ratio to {exits.get(compared_with) or short_line(compared_with)}; {conditions})"
    return points, points[LATENCY], label


def _by_training(summary: pd.DataFrame) -> Costs:
    """The last exits, unless all cost the same. Budgets are not joined: their order is that of another cost."""
    points = summary[summary["last"] & summary["total_training_macs"].notna()]
    costs = points["total_training_macs"] / 1e12
    label = "training MACs (trillions), those of a reference or teacher included"
    return points if costs.nunique() > 1 else points[:0], costs, label


def _by_budget(summary: pd.DataFrame) -> Costs:
    """The networks with several exits beside those trained with one.

    The accuracy within a budget is that of the deepest exit that the budget affords: no exit is chosen by its accuracy
    on test images.
    """
    points = summary[(summary["exits"] > 1) | (summary["family"] == "train")]
    points = points if (points["exits"] > 1).any() else points[:0]
    return points, points["macs"] / 1e6, "budget of MACs per image (millions)"


def _by_speedup(summary: pd.DataFrame) -> Costs:
    """The pruned networks and their controls, without the steps on the way to another network."""
    speedups = summary.get("achieved_speedup", pd.Series(float("nan"), index=summary.index))
    points = summary[summary["last"] & (summary["family"] != "train") & summary["step"].isna() & speedups.notna()]
    return points, speedups[points.index], "speed-up (MACs before / after)"


KINDS: dict[str, tuple[str, Callable[[pd.DataFrame], Costs]]] = {  # by the file's name: its caption, what it shows
    "accuracy-latency": ("Accuracy against latency", _by_latency),
    "accuracy-macs": ("Accuracy against MACs", _by_macs),
    "accuracy-training": ("Accuracy against training MACs", _by_training),
    "anytime": ("Accuracy within a budget of MACs", _by_budget),
    "pruning-curves": ("Pruning curves", _by_speedup),
}


def line_label(points: pd.DataFrame) -> str:
    """The name of the network whose exits these are, or of the arm whose budgets."""
    first = points.iloc[0]
    if points["series"].nunique() == 1:
        return plain(first["network"])
    several = points["base"].nunique() > 1  # shallower networks, which have no common base
    return plain(first["arm"] if several else f"{first['base']}, {first['arm']}")


def _limit_accuracies(axes: Axes, points: pd.DataFrame, compared_with: pd.DataFrame) -> float:
    """Limit the y axis to the means, and to as much of the intervals as does not squeeze the means.

    Networks with one exit that are far worse than all others would squeeze these into less than half of the axis; they
    are drawn at its lower edge instead. Returns that edge's accuracy.
    """
    values, bars = 100 * points["test_accuracy"], 100 * points["test_accuracy_half_width"].fillna(0)
    lower, upper = values.quantile(0.25), values.quantile(0.75)
    inside = (values >= lower - FAR_OUT * (upper - lower)) | (points["exits"] > 1)
    if values[inside].min() - values.min() <= (values.max() - values.min()) / 2:
        inside[:] = True
    shown = pd.concat([values[inside], 100 * compared_with["test_accuracy"]])
    least, most, spread = shown.min(), shown.max(), max(shown.max() - shown.min(), 2.0)
    low = max(least - spread, min((values - bars)[inside].min(), least), 0) - 0.07 * spread
    high = min(most + spread, max((values + bars)[inside].max(), most), 100) + 0.07 * spread
    axes.set_ylim(low, high)
    return float(low)


def _draw_line(axes: Axes, points: pd.DataFrame, look: Mapping[str, Any], floor: float, until: float | None) -> None:
    """Draw mean accuracies with their intervals, joined by a line; those below `floor` there, with a label.

    If `until` is given, the line shows what each budget up to it affords. It is pale if all points are.
    """
    costs, values = points["cost"], 100 * points["test_accuracy"]
    line = {**look, "marker": "none", "alpha": FADED if points["pale"].all() else 1}
    if until is not None and points["exits"].iloc[0] > 1:
        axes.step([*costs, until], [*values, values.iloc[-1]], where="post", **line)
    elif until is None and len(points) > 1:
        axes.plot(costs, values, **line)
    for point, value in zip(points.to_dict("records"), values, strict=True):
        cost, alpha = point["cost"], FADED if point["pale"] else 1
        draw_point(axes, cost, max(value, floor), point["tooltip"], look, alpha=alpha, clip_on=False)
        if value < floor:
            label = f"\N{LEFTWARDS ARROW}{value:.1f}"  # points down as the text stands upright, so that two have room
            axes.annotate(
                label, (cost, floor), (0, 7), textcoords="offset points", ha="center", rotation=90, fontsize="small"
            )
        elif not pd.isna(half_width := point["test_accuracy_half_width"]):
            axes.errorbar(cost, value, 100 * half_width, fmt="none", ecolor=look["color"], alpha=alpha, capsize=3)
