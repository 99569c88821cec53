"""How lines and points look: by colour, and in grey by shape and line alone; an arm alike in all figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

# Okabe and Ito's colours, safe for the colour-blind; shapes and lines tell families of methods apart in grey too.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")
SEPARATE, EXITS = "separate", "exits"
MARKERS = {SEPARATE: "oPXhd", EXITS: "sDphv", "width": "^v<>P*", "depth": "dXph", "control": "osD^v"}
LINES: dict[str, tuple[Any, ...]] = {
    SEPARATE: ("none",),
    EXITS: ("-", "--", "-.", (0, (6, 1, 1, 1, 1, 1))),
    "width": ("-",),
    "depth": ("-.",),
    "control": (":",),
}
Drawn: TypeAlias = tuple[pd.Series, pd.DataFrame, Mapping[str, Any]]  # where on the x axis, what, and how it looks
FADED = 0.4
FAR_OUT = 3  # times the interquartile range below the lower quartile: Tukey's


def separate(summary: pd.DataFrame) -> pd.Series:
    """Which rows are of a network with one exit that was trained by itself: neither pruned nor a control of pruning."""
    return (summary["exits"] == 1) & (summary["family"] == "train")


def numbers(summary: pd.DataFrame) -> dict[str, int]:
    """The place of every arm among all that are told apart by their looks: all but nets trained separately."""
    return {key: number for number, key in enumerate(summary[~separate(summary)]["arm_key"].unique())}


def style(kind: str, number: int) -> dict[str, Any]:
    """How the so-manieth line of a kind is drawn: exits and controls hollow, so that what is below shows."""
    colour, shapes, dashes = COLOURS[number % len(COLOURS)], MARKERS[kind], LINES[kind]
    return {
        "color": "#000000" if kind == SEPARATE else colour,
        "linestyle": dashes[number % len(dashes)],
        "linewidth": 1.8 if kind == EXITS else 1.2,
        "marker": shapes[number % len(shapes)],
        "markersize": 9 if kind == EXITS else 6,
        "markerfacecolor": "none" if kind in (EXITS, "control") else "#000000" if kind == SEPARATE else colour,
    }


def line_label(line: pd.DataFrame) -> str:
    """The name of the network whose exits the line joins, or of the arm whose budgets."""
    first = line.iloc[0]
    if line["series"].nunique() == 1:
        return str(first["network"])
    # Shallower nets of several budgets are of no one network.
    return str(first["arm"] if line["base"].nunique() > 1 else f"{first['base']}, {first['arm']}")


def legend_handle(look: Mapping[str, Any], label: str) -> Line2D:
    """What stands for a line in the legend, never faded."""
    return Line2D([], [], label=plain(label), **look)


def draw_points(
    axes: Axes, x: pd.Series, points: pd.DataFrame, look: Mapping[str, Any], faded: pd.Series | None = None
) -> None:
    """Mean accuracies joined as the look says, with their intervals; faded ones pale, and so a line of such alone."""
    pale = faded if faded is not None else pd.Series(False, index=points.index)
    marks = {**look, "linestyle": "none"}
    if len(points) > 1 and look["linestyle"] != "none":
        line = {**look, "marker": "none", "alpha": FADED if pale.all() else 1}
        axes.plot(x, 100 * points["test_accuracy"], **line)
    for chosen, alpha in ((pale, FADED), (~pale, 1.0)):
        some = points[chosen]
        if len(some):
            bars = some["test_accuracy_half_width"]
            errors = None if bars.isna().all() else 100 * bars.fillna(0)
            options: dict[str, Any] = {"alpha": alpha, "capsize": 3, "elinewidth": 1}
            axes.errorbar(x[chosen], 100 * some["test_accuracy"], yerr=errors, **marks, **options)


def reference_line(axes: Axes, accuracy: float, network: str) -> Line2D:
    """A thin horizontal line at the reference's accuracy, with its label for the legend."""
    label = plain(f"{network}, the reference")
    return axes.axhline(100 * accuracy, color="grey", linewidth=0.9, linestyle=(0, (8, 3)), zorder=1, label=label)


def limit_accuracies(axes: Axes, lines: Sequence[Drawn], level: float | None = None) -> list[tuple[float, float, str]]:
    """Make the axis of accuracies fit the means, the reference's `level`, and intervals as far as there is room.

    Networks of one exit that are far worse than all others would squeeze these together: where that took half of the
    axis they are marked at its lower edge. Returns these marks' labels, `(x, y, text)`: an arrow and the accuracy.
    """
    points = pd.concat([points for _, points, _ in lines])
    values, bars = 100 * points["test_accuracy"], 100 * points["test_accuracy_half_width"].fillna(0)
    lower, upper = values.quantile(0.25), values.quantile(0.75)
    inside = (values >= lower - FAR_OUT * (upper - lower)) | (points["exits"] > 1)
    if values[inside].min() - values.min() <= (values.max() - values.min()) / 2:
        inside[:] = True
    levels = [] if level is None else [100 * level]
    least, most = min(values[inside].min(), *levels, 100), max(values.max(), *levels, 0)
    spread = max(most - least, 2.0)
    low = max(least - spread, min((values - bars)[inside].min(), least), 0) - 0.07 * spread
    high = min(most + spread, max((values + bars)[inside].max(), most), 100) + 0.07 * spread
    axes.set_ylim(low, high)
    marks = []
    for x, line, look in lines:
        for place, accuracy in zip(x, 100 * line["test_accuracy"], strict=True):
            if accuracy < low:
                axes.plot([place], [low], **{**look, "linestyle": "none"}, clip_on=False)
                marks.append((float(place), float(low), f"\N{DOWNWARDS ARROW}{accuracy:.1f}"))
    return marks


def size_beside(labels: Sequence[str], panels: float = 1) -> tuple[float, float]:
    """Of a figure with so many panels beside one another and a legend of these labels beside them, in inches."""
    return 6.4 * panels + 0.9 + 0.066 * max(map(len, labels)), max(5.0, 0.6 + 0.21 * len(labels))


def plain(text: str) -> str:
    """Text that matplotlib does not take for mathematics."""
    return text.replace("$", r"\$")
