"""What each block of a network has learnt: the measures of probes, several networks laid over one another."""

from __future__ import annotations

from itertools import cycle
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks.report.figures.style import COLOURS, plain
from benchmarks.report.figures.tooltips import draw_point, tooltip

MARKERS = "os^Dv"
POSITION, DEPTH = "depth (share of the blocks)", "depth (layers)"
FROZEN = "frozen blocks (share; 1: not retrained)"


def block_probes(blocks: pd.DataFrame, retrained: pd.DataFrame, title: str) -> Figure:
    """Five measures of each block, a panel each, and accuracy after retraining in a sixth if there is any.

    Each run is a line; the runs of a network share colour and marker. Networks of different depth are laid over one
    another by the share of their blocks, where the stages of 6n+2-layer networks coincide (dotted lines), and the
    probes also by layers. `blocks` and `retrained` are those of `read_probes`.
    """
    figure = Figure(figsize=(12, 7), layout="constrained")
    grid = figure.subplots(2, 3)
    accuracy, skipped = 100 * blocks["probe_accuracy"], 100 * blocks["skip_drop"]
    gradient = blocks["gradient_share"] * blocks["blocks"]
    looks = dict(zip(blocks["series"].unique(), zip(cycle(COLOURS), cycle(MARKERS), strict=False), strict=False))
    _draw(grid[0, 0], blocks, accuracy, ("position", POSITION), "accuracy of a linear probe (%)", looks)
    _draw(grid[0, 1], blocks, accuracy, ("depth", DEPTH), "accuracy of a linear probe (%)", looks)
    _draw(grid[0, 2], blocks, gradient, ("position", POSITION), "share of the gradient (1 = even)", looks)
    _draw(grid[1, 0], blocks, blocks["cka_to_next"], ("position", POSITION), "CKA with the next block", looks)
    _draw(grid[1, 1], blocks, skipped, ("position", POSITION), "accuracy lost without the block (points)", looks)
    for axes, level in ((grid[0, 2], 1), (grid[1, 1], 0)):  # where nothing stands out
        axes.axhline(level, color="grey", linewidth=0.8)
    grid[1, 1].set_yscale("symlog", linthresh=5, linscale=1)  # most blocks lose little, the first of a stage nearly all
    grid[1, 1].set_ylim(bottom=min(-1, 1.1 * skipped.min()))
    grid[1, 1].set_yticks([0, 5, 10, 20, 50, 100], ["0", "5", "10", "20", "50", "100"])
    if retrained.empty:
        grid[1, 2].axis("off")
    else:
        whole = blocks[blocks["position"] == 1]  # as if all blocks were frozen
        points = pd.concat([retrained, whole.assign(retrained_accuracy=whole["accuracy"])], ignore_index=True)
        label = f"accuracy, {retrained['epochs'].iloc[0]} epoch(s) retrained (%)"
        _draw(grid[1, 2], points, 100 * points["retrained_accuracy"], ("position", FROZEN), label, looks)
        _mark_stages(grid[1, 2], blocks)
    for axes in (grid[0, 0], grid[0, 2], grid[1, 0], grid[1, 1]):
        _mark_stages(axes, blocks)
    handles, labels = grid[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=4, fontsize="small", frameon=False)
    figure.suptitle(plain(title), fontsize="medium")
    return figure


def _draw(
    axes: Axes, rows: pd.DataFrame, values: pd.Series, across: tuple[str, str], label: str, looks: dict[str, Any]
) -> None:
    """Draw a measure's values: a line for each run, over a column that `across` names and labels."""
    column, axis = across
    for key, network in rows.assign(value=values).groupby("series", sort=False):
        colour, marker = looks[str(key)]
        look: dict[str, Any] = {"color": colour, "linewidth": 1.2, "marker": marker, "markersize": 4}
        axes.plot([], [], label=plain(network["network"].iloc[0]), **look)
        for _, run in network.groupby("run", sort=False):
            axes.plot(run[column], run["value"], **look | {"marker": "none"})
            for row in run.dropna(subset="value").to_dict("records"):
                details = {"seed": row["seed"], "block": row["block"], label: f"{row['value']:.2f}"}
                draw_point(axes, row[column], row["value"], tooltip(row["network"], details), look, in_layout=False)
    axes.set_xlabel(axis)
    axes.set_ylabel(label)
    axes.grid(alpha=0.3)


def _mark_stages(axes: Axes, blocks: pd.DataFrame) -> None:
    """Mark where a stage ends, if it does so at the same share of the blocks in all networks."""
    ends = [
        set(run["position"][run["features"] != run["features"].shift(-1, fill_value=run["features"].iloc[-1])].round(3))
        for _, run in blocks.groupby("run")
    ]
    axes.set_xlim(0, 1.04)
    for end in set.intersection(*ends):
        axes.axvline(end, color="grey", linewidth=0.8, linestyle=":")
