"""Tooltips: what the SVG shows of a point while the mouse is over it.

The text of an artist's tooltip is its gid (matplotlib's group id); `files.svg` turns it into a `<title>`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd
from matplotlib.axes import Axes

from benchmarks.results.cells import accuracy_cell, exit_cell, millions, number


def tooltip(network: str, details: Mapping[str, object]) -> str:
    """The network's name and, below it, a line for each detail."""
    return "\n".join([network, *(f"{name}: {value}" for name, value in details.items())])


def result_tooltips(summary: pd.DataFrame) -> list[str]:
    """A tooltip for each row of a summary: accuracy, costs and latencies, named as in the report's tables."""
    latencies = [column for column in summary if str(column).startswith("latency_ratio_b")]
    return [
        tooltip(
            row["network"],
            {
                "exit": exit_cell(row),
                "test accuracy, %": accuracy_cell(row),
                "MACs": millions(row["macs"]),
                "parameters": millions(row["params"]),
                "training MACs": number(row["total_training_macs"] / 1e12, ".2f", "T"),
            }
            | {f"latency ratio, batch {name[15:]}": number(row[name], ".2f", "x") for name in map(str, latencies)},
        )
        for _, row in summary.iterrows()
    ]


def draw_point(axes: Axes, x: float, y: float, text: str, look: Mapping[str, Any], **options: Any) -> None:
    """Draw one point above all lines, with its tooltip; the look and options are properties of a `Line2D`."""
    axes.plot([x], [y], gid=text, **{**look, "linestyle": "none", "zorder": 3, **options})
