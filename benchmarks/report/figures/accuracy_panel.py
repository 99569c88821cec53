"""A panel of accuracy against a cost: lines of results with intervals, the reference's level, and the axes' ranges."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator

from benchmarks.report.figures.style import EXITS, FADED, SEPARATE, numbers, plain, separate, style
from benchmarks.report.figures.tooltips import draw_point, result_tooltips

WIDE_RANGE = 10.0  # largest / smallest cost from which an axis is logarithmic
FAR_OUT = 3  # times the interquartile range below the lower quartile: Tukey's
Label: TypeAlias = tuple[float, float, str]  # x, y and text


@dataclass(frozen=True, kw_only=True)
class Line:
    """Results with one look and one entry in the legend.

    These are the exits of a network, the budgets of an arm, or all networks trained separately by one method.

    Attributes:
        points: rows of the summary with the columns `cost` (place on the x axis), `pale` and `tooltip`, by cost.
        look: the properties of a `Line2D`.
    """

    label: str
    points: pd.DataFrame
    look: Mapping[str, Any]


def lines_of(points: pd.DataFrame, summary: pd.DataFrame) -> list[Line]:
    """The lines that results belong to, networks trained separately first.

    Args:
        points: rows of the summary with the columns `cost` and `pale`.
        summary: all results of `rows.summarise`, which decide the look of each line.
    """
    points = points.assign(tooltip=result_tooltips(points))
    places, alone = numbers(summary), separate(points)
    methods = list(summary[separate(summary)]["method"].unique())
    lines = []
    for number, method in enumerate(methods):
        label = f"trained separately ({method})" if len(methods) > 1 else "trained separately"
        own = points[alone & (points["method"] == method)]
        lines += [Line(label=label, points=own, look=style(SEPARATE, number))] if len(own) else []
    others = points[~alone]
    keys = others["arm_key"].where(others["exits"] == 1, others["series"])
    for _, own in others.groupby(keys, sort=False):
        first = own.iloc[0]
        look = style(EXITS if first["exits"] > 1 else first["family"], places[first["arm_key"]])
        lines.append(Line(label=_label(own), points=own.sort_values("cost"), look=look))
    return lines


def _label(points: pd.DataFrame) -> str:
    """The name of the network whose exits these are, or of the arm whose budgets."""
    first = points.iloc[0]
    if points["series"].nunique() == 1:
        return str(first["network"])
    several = points["base"].nunique() > 1  # shallower networks, which have no common base
    return str(first["arm"] if several else f"{first['base']}, {first['arm']}")


def draw_accuracies(
    axes: Axes, lines: Sequence[Line], summary: pd.DataFrame, reference: str | None, *, joined: bool = True
) -> tuple[list[Line2D], list[Label]]:
    """Draw lines of test accuracies, and the reference's level across the panel, and limit the y axis to them.

    Returns:
        The legend's handles, and labels of points below the axis.
    """
    for line in lines:
        _draw_line(axes, line, joined=joined)
    handles = [Line2D([], [], label=plain(line.label), **line.look) for line in lines]
    compared_with = summary[summary["last"] & (summary["series"] == reference)]
    levels = [100 * float(accuracy) for accuracy in compared_with["test_accuracy"]]
    for level, network in zip(levels, compared_with["network"], strict=True):
        look: dict[str, Any] = {"color": "grey", "linewidth": 0.9, "linestyle": (0, (8, 3)), "zorder": 1}
        handles.append(axes.axhline(level, label=plain(f"{network}, the reference"), **look))
    axes.set_ylabel("test accuracy (%)")
    return handles, _limit_accuracies(axes, lines, levels)


def _draw_line(axes: Axes, line: Line, *, joined: bool) -> None:
    """Draw mean accuracies with their intervals, joined if the look has a dash; the line is pale if all points are."""
    points, look = line.points, line.look
    if joined and len(points) > 1 and look["linestyle"] != "none":
        alpha = FADED if points["pale"].all() else 1
        axes.plot(points["cost"], 100 * points["test_accuracy"], **{**look, "marker": "none", "alpha": alpha})
    for point in points.to_dict("records"):
        half_width = point["test_accuracy_half_width"]
        drawn = axes.errorbar(
            [point["cost"]],
            [100 * point["test_accuracy"]],
            yerr=None if pd.isna(half_width) else 100 * half_width,
            **{**look, "linestyle": "none", "alpha": FADED if point["pale"] else 1, "capsize": 3, "elinewidth": 1},
        )
        drawn.lines[0].set_gid(point["tooltip"])


def _limit_accuracies(axes: Axes, lines: Sequence[Line], levels: Sequence[float]) -> list[Label]:
    """Limit the y axis to the means, the `levels`, and as much of the intervals as does not squeeze the means.

    Networks with one exit that are far worse than all others would squeeze these into less than half of the axis. They
    are marked at its lower edge instead. Returns a label of each such mark: an arrow and the accuracy.
    """
    points = pd.concat([line.points for line in lines])
    values, bars = 100 * points["test_accuracy"], 100 * points["test_accuracy_half_width"].fillna(0)
    lower, upper = values.quantile(0.25), values.quantile(0.75)
    inside = (values >= lower - FAR_OUT * (upper - lower)) | (points["exits"] > 1)
    if values[inside].min() - values.min() <= (values.max() - values.min()) / 2:
        inside[:] = True
    least, most = min(values[inside].min(), *levels, 100), max(values.max(), *levels, 0)
    spread = max(most - least, 2.0)
    low = max(least - spread, min((values - bars)[inside].min(), least), 0) - 0.07 * spread
    high = min(most + spread, max((values + bars)[inside].max(), most), 100) + 0.07 * spread
    axes.set_ylim(low, high)
    below = [(line, point) for line in lines for point in line.points.to_dict("records")]
    below = [(line, point) for line, point in below if 100 * point["test_accuracy"] < low]
    for line, point in below:
        draw_point(axes, point["cost"], low, point["tooltip"], line.look, clip_on=False)
    arrow = "\N{DOWNWARDS ARROW}"
    return [(point["cost"], float(low), f"{arrow}{100 * point['test_accuracy']:.1f}") for _, point in below]


def scale_cost(axes: Axes, costs: pd.Series, label: str, unit: str = "") -> None:
    """Title the x axis, with `unit` behind its numbers; it is logarithmic if its range is wide, else linear."""
    if costs.max() > WIDE_RANGE * costs.min() > 0:
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.minorticks_off()
    axes.xaxis.set_major_formatter(f"{{x:g}}{unit}")
    axes.set_xlabel(plain(label))
    axes.grid(alpha=0.25)
