"""What every block has learnt: probes of several networks laid over one another."""

from __future__ import annotations

from itertools import cycle
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks.figures.style import COLOURS, plain


def blocks_overlaid(blocks: pd.DataFrame, retrained: pd.DataFrame, title: str) -> Figure:
    """What every block has learnt, a line a run and a colour a network, in five panels, and a sixth for retraining.

    `blocks` and `retrained` are what `supervision.read_probes` read. Networks of different depth are laid
    over one another by the share of their blocks, where the stages of 6n+2-layer networks coincide (dotted lines), and
    the probes also by layers.
    """
    panels = [
        ("position", 100 * blocks["probe_accuracy"], "linear probe, accuracy (%)", None),
        ("depth", 100 * blocks["probe_accuracy"], "linear probe, accuracy (%)", None),
        ("position", blocks["gradient_share"] * blocks["blocks"], "final loss's gradient (1 = even share)", 1.0),
        ("position", blocks["cka_to_next"], "CKA to the next block", None),
        ("position", 100 * blocks["skip_drop"], "accuracy lost when skipped (points)", 0.0),
    ]
    figure = Figure(figsize=(12, 7), layout="constrained")
    grid = figure.subplots(2, 3)
    colours = dict(zip(blocks["series"].unique(), cycle(COLOURS), strict=False))
    for axes, (x, values, label, level) in zip(grid.flat, panels, strict=False):
        _lines(axes, blocks.assign(value=values), x, colours)
        axes.set_ylabel(label)
        axes.set_xlabel("depth (layers)" if x == "depth" else "depth (share of the blocks)")
        if x == "position":
            _stages(axes, blocks)
        if level is not None:
            axes.axhline(level, color="grey", linewidth=0.8)
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
        whole = blocks[blocks["position"] == 1]  # all blocks kept: the network as it was trained
        points = pd.concat(
            [retrained.assign(value=retrained["retrained_accuracy"]), whole.assign(value=whole["accuracy"])]
        )
        _lines(last, points.assign(value=100 * points["value"]), "position", colours)
        _stages(last, blocks)
        last.set_ylabel(f"accuracy, the rest {retrained['epochs'].iloc[0]} epochs anew (%)")
        last.set_xlabel("frozen blocks (share; at 1 the network itself)")
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
