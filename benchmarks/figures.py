"""Figures: accuracy against MACs, as SVG (the same bytes for the same numbers) and PNG."""

from __future__ import annotations

import io
from itertools import cycle
from pathlib import Path

import matplotlib
import pandas as pd
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from compress.runs import write_atomically

# Okabe and Ito's colours, and shapes that tell the kinds apart in grey too.
COLOURS = ("#000000", "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00")
MARKERS = {"train": "o", "prune": "^", "control": "D"}
WIDE_RANGE = 20.0  # MACs spread wider than this factor are drawn on a logarithmic axis


def accuracy_against_macs(summary: pd.DataFrame, title: str) -> Figure:
    """One line a network through its exits (a point where it has one), with 95% intervals over seeds if any.

    `summary` is `tables.summarise`'s.
    """
    figure = Figure(figsize=(7.5, 4.8), layout="constrained")
    axes = figure.add_subplot()
    for (_, network), colour in zip(summary.groupby("series", sort=False), cycle(COLOURS), strict=False):
        first = network.iloc[0]
        several, half_width = first["exits"] > 1, network["test_accuracy_half_width"]
        axes.errorbar(
            network["macs"] / 1e6,
            100 * network["test_accuracy"],
            yerr=None if half_width.isna().all() else 100 * half_width,
            label=_plain(first["network"]),
            color=colour,
            marker="s" if several else MARKERS[first["kind"]],
            markersize=9 if several else 6,
            markerfacecolor="none" if several else colour,  # a point on top of another shows
            linewidth=1.5,
            capsize=3,
        )
    if summary["macs"].max() > WIDE_RANGE * summary["macs"].min():
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter("{x:g}")
    axes.set_xlabel("MACs of one image (millions)")
    axes.set_ylabel("test accuracy (%)")
    axes.set_title(_plain(title), fontsize="medium")
    axes.grid(alpha=0.3)
    axes.legend(fontsize="small")
    return figure


def _plain(text: str) -> str:
    """Text that matplotlib does not take for mathematics."""
    return text.replace("$", r"\$")


def save(figure: Figure, path: Path) -> None:
    """Write the figure as `path` with the suffixes .svg and .png."""
    with matplotlib.rc_context({"svg.hashsalt": "multiway-compress"}):
        for suffix, options in ((".svg", {"metadata": {"Date": None}}), (".png", {"dpi": 150})):
            buffer = io.BytesIO()
            FigureCanvasAgg(figure)
            figure.savefig(buffer, format=suffix[1:], **options)
            write_atomically(path.with_suffix(suffix), buffer.getvalue())
