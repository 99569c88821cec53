"""Figures: accuracy against MACs and speed-up, what every block has learnt.

As SVG (the same bytes for the same numbers) and PNG.
"""

from __future__ import annotations

import io
from itertools import cycle
from pathlib import Path
from typing import Any

import matplotlib
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from compress.errors import UsageError
from compress.runs import write_atomically

# Okabe and Ito's colours; lines and shapes tell the families of methods apart in grey too.
COLOURS = ("#000000", "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00")
MARKERS = {"train": "o", "width": "^v<>P*", "depth": "dXph", "control": "osD^v"}
LINES = {"train": "-", "width": "-", "depth": "-.", "control": ":"}
WIDE_RANGE = 20.0  # MACs spread wider than this factor are drawn on a logarithmic axis
LEGEND_INSIDE = 8  # entries; more of them stand beside the axes
SPEEDUPS = (1, 1.25, 1.5, 2, 2.5, 3, 4, 6, 8, 10, 15, 20, 30, 50, 100)  # marked on an axis


def accuracy_against_macs(summary: pd.DataFrame, title: str) -> Figure:
    """One line a network through its exits, and one an arm through its budgets, with 95% intervals over seeds if any.

    `summary` is `tables.summarise`'s.
    """
    single = (summary["exits"] == 1) & (summary["family"] != "train")
    lines = list(summary.groupby(summary["arm_key"].where(single, summary["series"]), sort=False))
    beside = len(lines) > LEGEND_INSIDE
    figure = Figure(figsize=(10 if beside else 7.5, max(4.8, 0.22 * len(lines))), layout="constrained")
    axes = figure.add_subplot()
    numbers = _numbers(summary)
    for _, line in lines:
        points, first = line.sort_values("macs"), line.iloc[0]
        label = first["network"]
        if line["series"].nunique() > 1:  # shallower nets of several budgets are of no one network
            label = first["arm"] if line["base"].nunique() > 1 else f"{first['base']}, {first['arm']}"
        style = _style(first["family"], numbers[first["arm_key"]])
        if first["exits"] > 1:
            style |= {"marker": "s", "markersize": 9, "markerfacecolor": "none"}  # a point on top of another shows
        _interval_line(axes, points["macs"] / 1e6, points, label, style)
    if summary["macs"].max() > WIDE_RANGE * summary["macs"].min():
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter("{x:g}")
    axes.set_xlabel("MACs of one image (millions)")
    axes.set_ylabel("test accuracy (%)")
    axes.set_title(_plain(title), fontsize="medium")
    axes.grid(alpha=0.3)
    if beside:
        figure.legend(loc="outside right upper", fontsize="small")
    else:
        axes.legend(fontsize="small")
    return figure


def pruning_curves(summary: pd.DataFrame, reference: str | None, title: str) -> Figure:
    """Accuracy against speed-up, a line an arm: at the end, and beside it right after pruning where that was measured.

    Of the last exits of what was pruned, and of controls. `summary` is `tables.summarise`'s; `reference` is the series
    drawn as a horizontal line. An arm looks as it does in `accuracy_against_macs`.
    """
    last, numbers = summary[summary["last"]], _numbers(summary)
    points = last[(last["family"] != "train") & last["step"].isna()]
    fresh = points["val_accuracy_pruned"].notna().any()
    arms = list(points.groupby("arm_key", sort=False))
    figure = Figure(figsize=(13.5 if fresh else 9, max(5.0, 0.24 * len(arms))), layout="constrained")
    panels = figure.subplots(1, 2 if fresh else 1, squeeze=False)[0]
    for key, arm in arms:
        curve, first = arm.sort_values("achieved_speedup"), arm.iloc[0]
        style = _style(first["family"], numbers[str(key)])
        _interval_line(panels[0], curve["achieved_speedup"], curve, first["arm"], style)
        if fresh and first["steps"] == 1:  # of a chain it is what the last of several steps alone does
            panels[1].plot(curve["achieved_speedup"], 100 * curve["val_accuracy_pruned"], **style)
    for row in last[last["series"] == reference].to_dict("records"):
        panels[0].axhline(100 * row["test_accuracy"], color="grey", linestyle="--", label=_plain(row["network"]))
    for axes, label in zip(panels, ("test accuracy (%)", "validation accuracy right after pruning (%)"), strict=False):
        axes.set_ylabel(label)
    for axes in panels:
        _speedup_axis(axes, points["achieved_speedup"])
    figure.legend(loc="outside right upper", fontsize="small")
    figure.suptitle(_plain(title), fontsize="medium")
    return figure


def _numbers(summary: pd.DataFrame) -> dict[str, int]:
    """Of every arm, its place among all."""
    return {key: number for number, key in enumerate(summary["arm_key"].unique())}


def _style(family: str, number: int) -> dict[str, Any]:
    """How the so-manieth line is drawn: its family shows in line and shape; controls' shapes are hollow."""
    colour, shapes = COLOURS[number % len(COLOURS)], MARKERS[family]
    return {
        "color": colour,
        "linestyle": LINES[family],
        "linewidth": 1.5,
        "marker": shapes[number % len(shapes)],
        "markersize": 6,
        "markerfacecolor": "none" if family == "control" else colour,
    }


def _interval_line(axes: Axes, x: pd.Series, points: pd.DataFrame, label: str, style: dict[str, Any]) -> None:
    half_width = points["test_accuracy_half_width"]
    errors = None if half_width.isna().all() else 100 * half_width
    axes.errorbar(x, 100 * points["test_accuracy"], yerr=errors, label=_plain(label), capsize=3, **style)


def _speedup_axis(axes: Axes, speedups: pd.Series) -> None:
    """Speed-ups on a logarithmic axis, marked by usual ones."""
    low, high = 0.95 * speedups.min(), 1.05 * speedups.max()
    marks = [mark for mark in SPEEDUPS if low <= mark <= high]
    axes.set_xscale("log")
    axes.set_xlim(low, high)
    axes.set_xticks(marks, [f"{mark:g}x" for mark in marks])
    axes.minorticks_off()
    axes.set_xlabel("speed-up (MACs before / after)")
    axes.grid(alpha=0.3)


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
    figure.suptitle(_plain(title), fontsize="medium")
    return figure


def _lines(axes: Axes, frame: pd.DataFrame, x: str, colours: dict[str, str]) -> None:
    """One line a run; the runs of a network share colour, marker and label."""
    markers = dict(zip(colours, cycle("os^Dv"), strict=False))
    for key, network in frame.groupby("series", sort=False):
        for number, (_, run) in enumerate(network.groupby("run", sort=False)):
            label = _plain(run["network"].iloc[0]) if number == 0 else None
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


def _plain(text: str) -> str:
    """Text that matplotlib does not take for mathematics."""
    return text.replace("$", r"\$")


def make_directory(out: Path) -> None:
    """Create the directory of a report.

    Raises:
        UsageError: it cannot be.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"cannot write to {out}: {error.strerror}; choose another directory with --out") from error


def save(figure: Figure, path: Path) -> None:
    """Write the figure as `path` with the suffixes .svg and .png."""
    with matplotlib.rc_context({"svg.hashsalt": "multiway-compress"}):
        for suffix, options in ((".svg", {"metadata": {"Date": None}}), (".png", {"dpi": 150})):
            buffer = io.BytesIO()
            FigureCanvasAgg(figure)
            figure.savefig(buffer, format=suffix[1:], **options)
            write_atomically(path.with_suffix(suffix), buffer.getvalue())
