"""Accuracy of early exit against mean MACs and against measured time, beside static networks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from matplotlib.figure import Figure

from benchmarks.report.figures.style import plain


class Series(NamedTuple):
    """Points of one look: costs and accuracies, both as axes show them."""

    label: str
    costs: Sequence[float]
    accuracies: Sequence[float]
    look: dict[str, Any]


def early_exit_figure(panels: Sequence[tuple[str, Sequence[Series]]], title: str) -> Figure:
    """A panel for each cost, by its label: the accuracy of early exit and of static networks."""
    figure = Figure(figsize=(2 + 4.4 * len(panels), 4.4), layout="constrained")
    for number, (label, shown) in enumerate(panels, start=1):
        axes = figure.add_subplot(1, len(panels), number)
        for series in shown:
            axes.plot(series.costs, series.accuracies, label=plain(series.label), **series.look)
        axes.set_xlabel(plain(label))
        axes.set_ylabel("test accuracy (%)")
        axes.grid(alpha=0.25)
        axes.legend(fontsize="small", frameon=False)
    figure.suptitle(plain(title), fontsize="medium")
    return figure
