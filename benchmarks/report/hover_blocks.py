"""Plots to hover over, block by block: the channels that pruning kept, and what probes measure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import cycle
from typing import TYPE_CHECKING, Any

import pandas as pd

from benchmarks.report.figures.block_probes import DEPTHS, FROZEN, anew, panels
from benchmarks.report.figures.kept_channels import COLUMNS, Kept, kept_by_arm
from benchmarks.report.figures.style import COLOURS
from benchmarks.report.hover import source_of
from benchmarks.results.probed_blocks import read_probes
from benchmarks.results.rows import names_by_series
from compress.runs import Run

if TYPE_CHECKING:
    from bokeh.model import Model
    from bokeh.plotting import figure

HEIGHT = 300  # pixels, of a panel
PROBE_COLUMNS = 3


def block_plots(runs: Sequence[Run], summary: pd.DataFrame, suffix: str) -> dict[str, Model]:
    """By the stem of the figure that each stands for, plots of as many panels; those there is something to show in.

    Arguments as `hover.hover_plots` has them.
    """
    kept, (blocks, retrained) = kept_by_arm(runs, summary), read_probes(runs, names_by_series(summary))
    plots: dict[str, Model] = {}
    if kept:
        plots[f"channels{suffix}"] = _grid([_channels(*arm) for arm in kept], COLUMNS)
    if not blocks.empty:
        plots[f"probe{suffix}"] = _grid(_probes(blocks, retrained), PROBE_COLUMNS)
    return plots


def _channels(arm: str, networks: Sequence[Kept]) -> figure:
    plot = _empty("block", "share of the channels kept", title=arm, y_range=(0, 1.03))
    for one in networks:
        shares = one.shares.reset_index()
        source = source_of(shares.assign(network=one.network))
        plot.line("block", "within", source=source, line_color=one.shade, line_width=1.5)
        plot.step("block", "out", source=source, line_color=one.shade, line_dash="dotted", mode="center")
        plot.scatter("block", "within", source=source, name="points", size=4, color=one.shade)
    return _with_hover(plot, {"block": "block", "within the block": "within{0.00}", "handed on": "out{0.00}"})


def _probes(blocks: pd.DataFrame, retrained: pd.DataFrame) -> list[figure]:
    """The first with a legend that stands for all."""
    colours = dict(zip(blocks["series"].unique(), cycle(COLOURS), strict=False))
    plots = [
        _probe(blocks.assign(value=panel.values), panel.across, (DEPTHS[panel.across], panel.label), colours)
        for panel in panels(blocks)
    ]
    for plot, panel in zip(plots, panels(blocks), strict=True):
        if panel.level is not None:
            plot.hspan(y=[panel.level], line_color="grey", line_width=0.8)
    legend = plots[0].legend
    legend.visible, legend.location, legend.label_text_font_size = True, "bottom_right", "10px"
    legend.background_fill_alpha = 0.7
    if not retrained.empty:
        points, label = anew(blocks, retrained)
        plots.append(_probe(points, "position", (FROZEN, label), colours))
    return plots


def _probe(rows: pd.DataFrame, across: str, labels: tuple[str, str], colours: Mapping[str, str]) -> figure:
    """A line a run, a colour a network."""
    plot = _empty(*labels)
    measured = rows[["run", "network", "series", "seed", "block", across, "value"]].dropna(subset="value")
    for _, run in measured.groupby("run", sort=False):
        look: dict[str, Any] = {"source": source_of(run), "color": colours[run["series"].iloc[0]]}
        look |= {"legend_label": run["network"].iloc[0]}
        plot.line(across, "value", line_width=1.2, **look)
        plot.scatter(across, "value", name="points", size=5, **look)
    plot.legend.visible = False
    return _with_hover(plot, {"seed": "seed", "block": "block", labels[1]: "value{0.00}"})


def _empty(across: str, up: str, **options: Any) -> figure:
    from bokeh.plotting import figure  # a second, which `compress --help` does not wait for

    plot = figure(height=HEIGHT, x_axis_label=across, y_axis_label=up, tools="pan,box_zoom,wheel_zoom,reset", **options)
    plot.axis.axis_label_text_font_style, plot.axis.axis_label_text_font_size = "normal", "11px"
    plot.axis.minor_tick_line_color = plot.outline_line_color = None
    plot.grid.grid_line_color = "#eaedf0"
    return plot


def _with_hover(plot: figure, shown: dict[str, str]) -> figure:
    from bokeh.models import HoverTool

    points: list[Any] = [renderer for renderer in plot.renderers if renderer.name == "points"]
    texts = [("network", "@network"), *((name, f"@{column}") for name, column in shown.items())]
    plot.add_tools(HoverTool(renderers=points, tooltips=texts))
    return plot


def _grid(plots: Sequence[figure], columns: int) -> Model:
    from bokeh.layouts import gridplot

    grid = gridplot(list(plots), ncols=min(columns, len(plots)), sizing_mode="stretch_width", merge_tools=True)
    grid.toolbar.logo = None
    return grid
