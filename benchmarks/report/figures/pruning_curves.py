"""Accuracy against speed-up: what each pruning technique, and each control, attains at its budgets."""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import Figure

from benchmarks.report.figures.accuracy_panel import draw_accuracies, lines_of, scale_cost
from benchmarks.report.figures.labels import label_points
from benchmarks.report.figures.style import plain, size_beside
from benchmarks.report.figures.tooltips import draw_point, tooltip


def pruning_curves(summary: pd.DataFrame, title: str, reference: str | None = None) -> Figure | None:
    """Accuracy of pruned networks and controls against their speed-up, a line for each arm; None if there are none.

    A second panel shows validation accuracy right after pruning, if it was measured; not for arms of several steps,
    where it would be that of the last step alone. Arguments are those of `accuracy_against_macs`.
    """
    points = summary.assign(cost=summary.get("achieved_speedup"), pale=False)
    points = points[points["last"] & (points["family"] != "train") & points["step"].isna() & points["cost"].notna()]
    if points.empty:
        return None
    lines = lines_of(points, summary)
    fresh = "val_accuracy_pruned" in points and points["val_accuracy_pruned"].notna().any()
    figure = Figure(figsize=size_beside([line.label for line in lines], 1.8 if fresh else 1), layout="constrained")
    panels = figure.subplots(1, 2 if fresh else 1, squeeze=False, sharex=True)[0]
    handles, labels = draw_accuracies(panels[0], lines, summary, reference)
    for axes in panels:
        scale_cost(axes, points["cost"], "speed-up (MACs before / after)", "x")
    for axes in panels[1:]:
        axes.set_ylabel("validation accuracy right after pruning (%)")
        for line in lines:
            measured = line.points[line.points["val_accuracy_pruned"].notna() & (line.points["steps"] == 1)]
            axes.plot(measured["cost"], 100 * measured["val_accuracy_pruned"], **{**line.look, "marker": "none"})
            for point in measured.to_dict("records"):
                accuracy = 100 * point["val_accuracy_pruned"]
                details = {"speed-up": f"{point['cost']:.2f}x", "right after pruning, %": f"{accuracy:.2f}"}
                draw_point(axes, point["cost"], accuracy, tooltip(point["network"], details), line.look)
    figure.legend(handles=handles, loc="outside right upper", fontsize="small", frameon=False)
    figure.suptitle(plain(title), fontsize="medium")
    label_points(panels[0], labels)
    return figure
