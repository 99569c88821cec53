"""What pruning did: accuracy against speed-up, and the channels that each layer kept."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from benchmarks.report.figures.labels import label_points
from benchmarks.report.figures.style import (
    Drawn,
    draw_points,
    legend_handle,
    limit_accuracies,
    numbers,
    plain,
    reference_line,
    size_beside,
    style,
)
from benchmarks.results.arms import family
from benchmarks.results.series import series
from compress.networks import Spec
from compress.runs import Run

SPEEDUPS = (1, 1.25, 1.5, 2, 2.5, 3, 4, 6, 8, 10, 15, 20, 30, 50, 100)  # marked on an axis
SHADES = ("#9ecae1", "#4292c6", "#08306b", "#000000")  # light to dark, in grey too: small to large speed-ups
COLUMNS = 4


def pruning_curves(summary: pd.DataFrame, reference: str | None, title: str) -> Figure:
    """Accuracy against speed-up, a line an arm: at the end, and beside it right after pruning where that was measured.

    Of the last exits of what was pruned, and of controls. `summary` is `tables.summarise`'s; `reference` is the series
    drawn as a horizontal line. An arm looks as it does in `accuracy_against_macs`.
    """
    last, places = summary[summary["last"]], numbers(summary)
    points = last[(last["family"] != "train") & last["step"].isna()]
    fresh = points["val_accuracy_pruned"].notna().any()
    arms = list(points.groupby("arm_key", sort=False))
    figure = Figure(figsize=size_beside([arm["arm"].iloc[0] for _, arm in arms], 1.8 if fresh else 1))
    figure.set_layout_engine("constrained")
    panels = figure.subplots(1, 2 if fresh else 1, squeeze=False)[0]
    handles: list[Line2D] = []
    lines: list[Drawn] = []
    for key, arm in arms:
        curve, first = arm.sort_values("achieved_speedup"), arm.iloc[0]
        look = style(first["family"], places[str(key)])
        draw_points(panels[0], curve["achieved_speedup"], curve, look)
        handles.append(legend_handle(look, first["arm"]))
        lines.append((curve["achieved_speedup"], curve, look))
        if fresh and first["steps"] == 1:  # of a chain it is what the last of several steps alone does
            panels[1].plot(curve["achieved_speedup"], 100 * curve["val_accuracy_pruned"], **look)
    compared_with = last[last["series"] == reference]
    level = None if compared_with.empty else float(compared_with["test_accuracy"].iloc[0])
    marks = limit_accuracies(panels[0], lines, level)
    if level is not None:
        handles.append(reference_line(panels[0], level, compared_with["network"].iloc[0]))
    for axes, label in zip(panels, ("test accuracy (%)", "validation accuracy right after pruning (%)"), strict=False):
        axes.set_ylabel(label)
        _speedup_axis(axes, points["achieved_speedup"])
    figure.legend(handles=handles, loc="outside right upper", fontsize="small", frameon=False)
    figure.suptitle(plain(title), fontsize="medium")
    label_points(panels[0], marks)
    return figure


def _speedup_axis(axes: Axes, speedups: pd.Series) -> None:
    """Speed-ups on a logarithmic axis, marked by usual ones."""
    low, high = 0.95 * speedups.min(), 1.05 * speedups.max()
    marks = [mark for mark in SPEEDUPS if low <= mark <= high]
    axes.set_xscale("log")
    axes.set_xlim(low, high)
    axes.set_xticks(marks, [f"{mark:g}x" for mark in marks])
    axes.minorticks_off()
    axes.set_xlabel("speed-up (MACs before / after)")
    axes.grid(alpha=0.25)


def channels_kept(runs: Sequence[Run], summary: pd.DataFrame, title: str) -> Figure | None:
    """The share of its channels that every layer kept, a panel an arm and a shade a speed-up; the mean over seeds.

    Solid: layers within a block; dotted: what the block hands on, which residual sums make equal within a stage. None
    where no channels were removed.
    """
    arms = kept_by_arm(runs, summary)
    if not arms:
        return None
    columns = min(COLUMNS, len(arms))
    lines = -(-len(arms) // columns)
    figure = Figure(figsize=(max(5.5, 3.1 * columns), 0.9 + 2.1 * lines), layout="constrained")
    grid = figure.subplots(lines, columns, sharex=True, sharey=True, squeeze=False)
    for axes, (arm, networks) in zip(grid.flat, arms, strict=False):
        for one in networks:
            axes.plot(one.shares.index, one.shares["within"], color=one.shade, linewidth=1.3, label=one.speedup)
            look: dict[str, Any] = {"color": one.shade, "linewidth": 1.3, "linestyle": ":"}
            axes.step(one.shares.index, one.shares["out"], **look, where="mid")
        axes.set_title(plain(arm), fontsize="small")
        axes.set_ylim(0, 1.03)
        axes.grid(alpha=0.25)
        axes.legend(fontsize="xx-small", loc="lower right", handlelength=1.2, edgecolor="none", borderpad=0.2)
    for axes in grid.flat[len(arms) :]:
        axes.axis("off")
    figure.supxlabel("block", fontsize="medium")
    figure.supylabel("share of the channels kept", fontsize="medium")
    figure.suptitle(plain(title), fontsize="medium")
    return figure


@dataclass(frozen=True, kw_only=True)
class Kept:
    """What one network kept.

    Attributes:
        speedup: achieved, as text.
        shade: the darker, the fewer MACs.
        shares: of channels, means over seeds: columns `within` and `out`, a row a block.
    """

    network: str
    speedup: str
    shade: str
    shares: pd.DataFrame


def kept_by_arm(runs: Sequence[Run], summary: pd.DataFrame) -> list[tuple[str, list[Kept]]]:
    """Of every arm that lost channels its name, and what its networks kept, by falling MACs."""
    kept = kept_channels(runs)
    if kept.empty:
        return []
    whole = summary["last"] & summary["step"].isna()  # steps on the way to another network are left out
    shown = summary[whole & summary["series"].isin(kept["series"].unique())]
    return [
        (
            str(arm["arm"].iloc[0]),
            [
                Kept(
                    network=row["network"],
                    speedup=f"{row['achieved_speedup']:.2f}x",
                    shade=SHADES[-1] if len(arm) == 1 else SHADES[min(number, len(SHADES) - 1)],
                    shares=kept[kept["series"] == row["series"]].groupby("block")[["within", "out"]].mean(),
                )
                for number, row in enumerate(arm.sort_values("macs", ascending=False).to_dict("records"))
            ],
        )
        for _, arm in shown.groupby("arm_key", sort=False)
    ]


def kept_channels(runs: Sequence[Run]) -> pd.DataFrame:
    """A row a block of every run whose channels were pruned: `series`, `block`, and shares `within` and `out`."""
    found: list[dict[str, Any]] = []
    for run in runs:
        if family(run.record) != "width":
            continue
        origin = run.record.config
        while origin.get("reference"):
            origin = origin["reference"]
        blocks = list(zip(run.spec.blocks, Spec.from_json(origin["spec"]).blocks, strict=False))
        if all((now.width, now.out) == (once.width, once.out) for now, once in blocks):
            continue
        found += [
            {"series": series(run), "block": number, "within": now.width / once.width, "out": now.out / once.out}
            for number, (now, once) in enumerate(blocks, start=1)
        ]
    return pd.DataFrame(found)
