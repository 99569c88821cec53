"""The look of lines and points: colours, and markers and dashes that tell them apart in grey; an arm keeps its look."""

from __future__ import annotations

from typing import Any

import pandas as pd

# Okabe and Ito's colours, safe for the colour-blind; markers and dashes tell families of methods apart in grey too.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")
SEPARATE, EXITS = "separate", "exits"
MARKERS = {SEPARATE: "oPXhd", EXITS: "sDphv", "width": "^v<>P*", "depth": "dXph", "control": "osD^v"}
DASHES: dict[str, tuple[Any, ...]] = {
    SEPARATE: ("none",),
    EXITS: ("-", "--", "-.", (0, (6, 1, 1, 1, 1, 1))),
    "width": ("-",),
    "depth": ("-.",),
    "control": (":",),
}
FADED = 0.4  # opacity


def separate(summary: pd.DataFrame) -> pd.Series:
    """Whether each row is a network with one exit that was trained by itself, neither pruned nor a control."""
    return (summary["exits"] == 1) & (summary["family"] == "train")


def numbers(summary: pd.DataFrame) -> dict[str, int]:
    """The number by which `style` tells each arm apart, by its key; networks trained separately have none."""
    return {key: number for number, key in enumerate(summary[~separate(summary)]["arm_key"].unique())}


def style(kind: str, number: int) -> dict[str, Any]:
    """The properties of a `Line2D` for a line of a kind. Exits and controls are hollow: points below them show."""
    colour, markers, dashes = COLOURS[number % len(COLOURS)], MARKERS[kind], DASHES[kind]
    return {
        "color": "#000000" if kind == SEPARATE else colour,
        "linestyle": dashes[number % len(dashes)],
        "linewidth": 1.8 if kind == EXITS else 1.2,
        "marker": markers[number % len(markers)],
        "markersize": 9 if kind == EXITS else 6,
        "markerfacecolor": "none" if kind in (EXITS, "control") else "#000000" if kind == SEPARATE else colour,
    }


def size_beside(labels: list[str], panels: float = 1) -> tuple[float, float]:
    """Width and height, in inches, of a figure with panels side by side and a legend of these labels beside them."""
    return 6.4 * panels + 0.9 + 0.066 * max(map(len, labels)), max(5.0, 0.6 + 0.21 * len(labels))


def plain(text: str) -> str:
    """Text that matplotlib does not take for mathematics."""
    return text.replace("$", r"\$")
