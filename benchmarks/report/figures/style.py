"""The look of lines and points: colours, and markers and dashes that tell them apart in grey; an arm keeps its look."""

from __future__ import annotations

from typing import Any

import pandas as pd

# Okabe and Ito's colours, safe for the colour-blind; markers and dashes tell families of methods apart in grey too.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")
EXITS = "exits"
MARKERS = {"train": "oPXhd", EXITS: "sDphv", "width": "^v<>P*", "depth": "dXph", "control": "osD^v"}
DASHES = {"train": "none", EXITS: "-", "width": "-", "depth": "-.", "control": ":"}
FADED = 0.4  # opacity


def styles(summary: pd.DataFrame, **look: Any) -> dict[str, dict[str, Any]]:
    """The look of each series as properties of a `Line2D`, those of `look` above all; an arm's series share one.

    Exits and controls are hollow: points below them show.
    """
    arms = list(summary["arm_key"].unique())
    first = summary.drop_duplicates("series")
    kinds = first["family"].where(first["exits"] == 1, EXITS)
    return {
        series: _style(kind, arms.index(arm)) | look
        for series, kind, arm in zip(first["series"], kinds, first["arm_key"], strict=True)
    }


def _style(kind: str, number: int) -> dict[str, Any]:
    colour = COLOURS[number % len(COLOURS)]
    return {
        "color": colour,
        "linestyle": DASHES[kind],
        "linewidth": 1.8 if kind == EXITS else 1.2,
        "marker": MARKERS[kind][number % len(MARKERS[kind])],
        "markersize": 9 if kind == EXITS else 6,
        "markerfacecolor": "none" if kind in (EXITS, "control") else colour,
    }


def plain(text: str) -> str:
    """Text that matplotlib does not take for mathematics."""
    return text.replace("$", r"\$")
