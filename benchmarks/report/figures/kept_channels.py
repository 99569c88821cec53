"""The share of its channels that each block keeps when it is pruned."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks.report.figures.style import plain
from benchmarks.report.figures.tooltips import draw_point, tooltip
from benchmarks.results.cells import number
from benchmarks.results.series import series
from compress.networks import Spec
from compress.runs import Run

SHADES = ("#9ecae1", "#4292c6", "#08306b", "#000000")  # light to dark, in grey too: small to large speed-ups
COLUMNS = 4


def kept_channels(runs: Sequence[Run], summary: pd.DataFrame, title: str) -> Figure | None:
    """The share of its channels that each block kept, a panel for each arm and a shade for each speed-up.

    Solid lines are channels within a block; dotted lines are those it hands on, which residual sums make equal within a
    stage. Both are means over seeds. None if no channels were removed.

    Args:
        runs: whose specs are compared with those of the networks they were pruned from.
        summary: results of `rows.summarise`, of these runs.
        title: the figure's title.
    """
    width = summary[summary["last"] & (summary["family"] == "width") & summary["step"].isna()]
    shares = _shares([run for run in runs if series(run) in set(width["series"])])
    pruned = width[width["series"].isin(shares.index.get_level_values("series"))] if len(shares) else width[:0]
    if pruned.empty:
        return None
    arms = list(pruned.groupby("arm_key", sort=False))
    columns = min(COLUMNS, len(arms))
    lines = -(-len(arms) // columns)
    figure = Figure(figsize=(max(5.5, 3.1 * columns), 0.9 + 2.3 * lines), layout="constrained")
    grid = figure.subplots(lines, columns, sharex=True, sharey=True, squeeze=False)
    for axes, (_, arm) in zip(grid.flat, arms, strict=False):
        for position, network in enumerate(arm.sort_values("macs", ascending=False).to_dict("records")):
            shade = SHADES[-1] if len(arm) == 1 else SHADES[min(position, len(SHADES) - 1)]
            _draw(axes, network, shares.loc[network["series"]], shade)
        axes.set_ylim(0, 1.03)
        axes.grid(alpha=0.25)
        place: dict[str, Any] = {"loc": "lower center", "bbox_to_anchor": (0.5, 1), "borderaxespad": 0.1, "ncols": 4}
        axes.legend(title=plain(arm["arm"].iloc[0]), fontsize="x-small", handlelength=1.2, frameon=False, **place)
    for axes in grid.flat[len(arms) :]:
        axes.axis("off")
    figure.supxlabel("block", fontsize="medium")
    figure.supylabel("share of the channels kept", fontsize="medium")
    figure.suptitle(plain(title), fontsize="medium")
    return figure


def _draw(axes: Axes, network: Mapping[Any, Any], shares: pd.DataFrame, shade: str) -> None:
    """Draw a network's shares of channels by block."""
    look: dict[str, Any] = {"color": shade, "linewidth": 1.3}
    axes.plot(shares.index, shares["within"], label=number(network["achieved_speedup"], ".2f", "x"), **look)
    axes.step(shares.index, shares["out"], **look, linestyle=":", where="mid")
    for block, share in shares.iterrows():
        details = {"block": block, "kept within it": f"{share['within']:.2f}", "handed on": f"{share['out']:.2f}"}
        point: dict[str, Any] = {"color": shade, "marker": "o", "markersize": 2.5, "in_layout": False}
        draw_point(axes, float(str(block)), share["within"], tooltip(network["network"], details), point)


def _shares(runs: Sequence[Run]) -> pd.DataFrame:
    """Shares of channels `within` a block and handed `out`, by series and block, of runs that lost some."""
    rows: list[dict[str, Any]] = []
    for run in runs:
        origin = run.record.config
        while origin.get("reference"):
            origin = origin["reference"]
        blocks = list(zip(run.spec.blocks, Spec.from_json(origin["spec"]).blocks, strict=False))
        if any((now.width, now.out) != (before.width, before.out) for now, before in blocks):
            rows += [
                {"series": series(run), "block": block, "within": now.width / before.width, "out": now.out / before.out}
                for block, (now, before) in enumerate(blocks, start=1)
            ]
    return pd.DataFrame(rows).groupby(["series", "block"], sort=False).mean() if rows else pd.DataFrame()
