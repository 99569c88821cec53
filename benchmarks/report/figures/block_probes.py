"""What every block has learnt: probes of several networks laid over one another."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import cycle
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks.report.figures.style import COLOURS, plain

DEPTHS = {"position": "depth (share of the blocks)", "depth": "depth (layers)"}
FROZEN = "frozen blocks (share; at 1 the network itself)"


@dataclass(frozen=True, kw_only=True)
class Panel:
    """A measure of every block.

    Attributes:
        across: a key of `DEPTHS`.
        values: a block's each, in the blocks' order.
        level: where nothing stands out, if there is such a value.
    """

    across: str
    values: pd.Series
    label: str
    level: float | None = None


def panels(blocks: pd.DataFrame) -> list[Panel]:
    """The measures of `supervision.read_probes`' blocks, in percent and points."""
    accuracy, label = 100 * blocks["probe_accuracy"], "linear probe, accuracy (%)"
    gradient = blocks["gradient_share"] * blocks["blocks"]
    skipped = 100 * blocks["skip_drop"]
    return [
        Panel(across="position", values=accuracy, label=label),
        Panel(across="depth", values=accuracy, label=label),
        Panel(across="position", values=gradient, label="final loss's gradient (1 = even share)", level=1.0),
        Panel(across="position", values=blocks["cka_to_next"], label="CKA to the next block"),
        Panel(across="position", values=skipped, label="accuracy lost when skipped (points)", level=0.0),
    ]


def anew(blocks: pd.DataFrame, retrained: pd.DataFrame) -> tuple[pd.DataFrame, str]:
    """Rows with a `value`, and its label: retrainings and, as if all blocks were frozen, the network as it was."""
    whole = blocks[blocks["position"] == 1]
    points = pd.concat([retrained.assign(value=retrained["retrained_accuracy"]), whole.assign(value=whole["accuracy"])])
    label = f"accuracy, the rest {retrained['epochs'].iloc[0]} epochs anew (%)"
    return points.assign(value=100 * points["value"]), label


def blocks_overlaid(blocks: pd.DataFrame, retrained: pd.DataFrame, title: str) -> Figure:
    """What every block has learnt, a line a run and a colour a network, in five panels, and a sixth for retraining.

    `blocks` and `retrained` are what `supervision.read_probes` read. Networks of different depth are laid
    over one another by the share of their blocks, where the stages of 6n+2-layer networks coincide (dotted lines), and
    the probes also by layers.
    """
    figure = Figure(figsize=(12, 7), layout="constrained")
    grid = figure.subplots(2, 3)
    colours = dict(zip(blocks["series"].unique(), cycle(COLOURS), strict=False))
    for axes, panel in zip(grid.flat, panels(blocks), strict=False):
        _lines(axes, blocks.assign(value=panel.values), panel.across, colours)
        axes.set_ylabel(panel.label)
        axes.set_xlabel(DEPTHS[panel.across])
        if panel.across == "position":
            _stages(axes, blocks)
        if panel.level is not None:
            axes.axhline(panel.level, color="grey", linewidth=0.8)
    skipped = grid[1, 1]
    skipped.set_yscale("symlog", linthresh=5, linscale=1)  # most blocks lose little, those that open a stage nearly all
    skipped.set_ylim(bottom=min(-1, 110 * blocks["skip_drop"].min()))
    skipped.set_yticks([0, 5, 10, 20, 50, 100], ["0", "5", "10", "20", "50", "100"])
    handles, labels = grid[0, 0].get_legend_handles_labels()
    last = grid[1, 2]
    if retrained.empty:
        last.axis("off")
        last.legend(handles, labels, loc="center")
    else:
        points, label = anew(blocks, retrained)
        _lines(last, points, "position", colours)
        _stages(last, blocks)
        last.set_ylabel(label)
        last.set_xlabel(FROZEN)
        figure.legend(handles, labels, loc="outside lower center", ncols=4, fontsize="small")
    figure.suptitle(plain(title), fontsize="medium")
    return figure


def _lines(axes: Axes, frame: pd.DataFrame, x: str, colours: dict[str, str]) -> None:
    """One line a run; the runs of a network share colour, marker and label."""
    markers = dict(zip(colours, cycle("os^Dv"), strict=False))
    for key, network in frame.groupby("series", sort=False):
        for number, (_, run) in enumerate(network.groupby("run", sort=False)):
            label = plain(run["network"].iloc[0]) if number == 0 else None
            style: dict[str, Any] = {"color": colours[str(key)], "marker": markers[str(key)]}
            axes.plot(run[x], run["value"], label=label, markersize=4, linewidth=1.2, **style)
    axes.grid(alpha=0.3)


def _stages(axes: Axes, blocks: pd.DataFrame) -> None:
    """Mark where a stage ends, if it does so at the same share of the blocks in all networks."""
    ends = [
        set(run["position"][run["features"] != run["features"].shift(-1, fill_value=run["features"].iloc[-1])].round(3))
        for _, run in blocks.groupby("run")
    ]
    axes.set_xlim(0, 1.04)
    for end in set.intersection(*ends):
        axes.axvline(end, color="grey", linewidth=0.8, linestyle=":")
