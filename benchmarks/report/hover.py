"""Plots to hover over: what the report's figures show, for its page."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pandas as pd

from benchmarks.report.figures import dominated
from benchmarks.report.figures.accuracy_and_cost import WIDE_RANGE
from benchmarks.report.figures.style import COLOURS, EXITS, SEPARATE, line_label, numbers, separate, style
from benchmarks.results.cells import accuracy_cell, millions, number, ratios
from benchmarks.results.epochs import read_epochs
from benchmarks.results.rows import names_by_series
from compress.runs import Run

if TYPE_CHECKING:
    from bokeh.models import ColumnDataSource
    from bokeh.plotting import figure

MARKERS = ("circle", "square", "triangle", "diamond", "inverted_triangle", "hex", "star", "plus")
DASHES = {"train": "solid", "width": "solid", "depth": "dashdot", "control": "dotted"}
HEIGHT, LEGEND_ROW = 460, 18  # pixels
PALE = 0.35  # of a point that another one dominates


@dataclass(frozen=True, kw_only=True)
class Axis:
    """What a plot has across: a column, what it is multiplied by, and its name.

    Attributes:
        joined: whether the budgets of an arm are in the order of this axis.
        cost: whether less is better, so that points can be dominated.
        steps: whether a point stands for all budgets up to the next.
    """

    column: str
    scale: float = 1
    label: str
    joined: bool = True
    cost: bool = True
    steps: bool = False


AXES = {
    "accuracy-macs": Axis(column="macs", scale=1e-6, label="MACs of one image (millions)"),
    "accuracy-latency": Axis(column="latency_ratio_b1", label="latency, batch 1 (ratio to the reference)"),
    "accuracy-training": Axis(
        column="total_training_macs",
        scale=1e-12,
        label="training MACs (trillions), a reference's or teacher's included",
        joined=False,
    ),
    "anytime": Axis(column="macs", scale=1e-6, label="budget of MACs an image (millions)", cost=False, steps=True),
    "pruning-curves": Axis(column="achieved_speedup", label="speed-up (MACs before / after)", cost=False),
}


def hover_plots(runs: Sequence[Run], summary: pd.DataFrame, reference: str | None, suffix: str) -> dict[str, figure]:
    """By the stem of the figure that each stands for, the plots there is something to show in.

    Args:
        runs: on the same images.
        summary: `tables.summarise`'s, of these.
        reference: the series whose accuracy is drawn as a line.
        suffix: ends the stems.
    """
    alone = separate(summary)
    summary = summary.assign(
        joined=summary["series"].where(alone | (summary["exits"] > 1), summary["arm_key"]),
        kind=summary["family"].mask(summary["exits"] > 1, EXITS).mask(alone, SEPARATE),
        number=summary["arm_key"].map(numbers(summary)).mask(alone, pd.factorize(summary["series"].where(alone))[0]),
    )
    last = summary[summary["last"]]
    chosen = {
        "accuracy-macs": summary,
        "accuracy-latency": _measured_alike(summary),
        "accuracy-training": last,
        "anytime": summary[(summary["exits"] > 1) | alone] if (summary["exits"] > 1).any() else summary.iloc[:0],
        "pruning-curves": last[(last["family"] != "train") & last["step"].isna()],
    }
    plots = {}
    for stem, points in chosen.items():
        axis = AXES[stem]
        if axis.column in points and points[axis.column].notna().any():
            plots[f"{stem}{suffix}"] = _accuracy(points[points[axis.column].notna()], axis, last, reference)
    epochs = read_epochs(runs, names_by_series(summary))
    lasting = epochs[epochs.groupby("run")["epoch"].transform("nunique") > 1] if len(epochs) else epochs
    if len(lasting) and lasting["val_accuracy"].notna().any():
        plots[f"training-curves{suffix}"] = _training(lasting)
    return plots


def _accuracy(points: pd.DataFrame, axis: Axis, last: pd.DataFrame, reference: str | None) -> figure:
    """Mean test accuracy with its interval: exits of a training, and budgets of an arm, are joined."""
    across, middle = axis.scale * points[axis.column], 100 * points["test_accuracy"]
    half_width, details = 100 * points["test_accuracy_half_width"].fillna(0), _details(points)
    drawn = details.assign(x=across, y=middle, low=middle - half_width, high=middle + half_width)
    drawn["alpha"] = [PALE if axis.cost and pale else 1.0 for pale in dominated(across, middle)]
    plot = _empty(axis.label, "test accuracy (%)", logarithmic=across.max() > WIDE_RANGE * across.min())
    for line in _lines(points):
        curve = source_of(drawn.loc[line.points.index].sort_values("x"))
        _draw(plot, line, curve, joined=axis.joined, steps=axis.steps)
        plot.segment("x", "low", "x", "high", source=curve, **_look(line), alpha="alpha")
    for row in last[last["series"] == reference].to_dict("records"):
        level, label = 100 * row["test_accuracy"], f"{row['network']} (reference)"
        ends = [float(across.min()), float(across.max())]
        plot.line(ends, [level] * 2, color="grey", line_dash="dashed", legend_label=label)
    return _with_hover(plot, [str(column) for column in details])


def _measured_alike(summary: pd.DataFrame) -> pd.DataFrame:
    """Those whose latencies are of the same session and conditions, and to the same reference, as most."""
    alike = ["bench_session", "latency_reference", "latency_conditions"]
    if AXES["accuracy-latency"].column not in summary or summary[alike].dropna().empty:
        return summary.iloc[:0]
    most = summary[alike].value_counts().index[0]
    return summary[(summary[alike] == list(most)).all(axis=1)]


def _training(epochs: pd.DataFrame) -> figure:
    """Validation accuracy of the last exit an epoch: the mean over seeds, and a band from the lowest to the highest."""
    plot = _empty("epoch", "validation accuracy (%)", logarithmic=False)
    for place, (_, points) in enumerate(epochs.groupby("series", sort=False)):
        looks: dict[str, Any] = {"colour": COLOURS[place % len(COLOURS)], "marker": MARKERS[place % len(MARKERS)]}
        line = Line(label=points["network"].iloc[0], points=points, dash="solid", hollow=False, **looks)
        seeds = points.groupby("epoch").agg({"val_accuracy": ["mean", "min", "max", "count"], "val_loss": "mean"})
        accuracy, loss = seeds["val_accuracy"], seeds["val_loss", "mean"]
        curve = pd.DataFrame(
            {
                "x": seeds.index,
                "y": accuracy["mean"],
                "low": accuracy["min"],
                "high": accuracy["max"],
                "alpha": 1.0,
                "network": line.label,
                "after epoch": seeds.index.astype(str),
                "validation accuracy, %": accuracy["mean"].map("{:.2f}".format),
                "validation loss": loss.map("{:.3f}".format),
                "seeds": accuracy["count"].astype(str),
            }
        )
        source = source_of(curve)
        band: dict[str, Any] = {"fill_color": line.colour, "fill_alpha": 0.15, "legend_label": line.label}
        plot.varea("x", "low", "high", source=source, **band)
        _draw(plot, line, source, size=5)
    return _with_hover(plot, list(curve.columns[5:]))


@dataclass(frozen=True, kw_only=True)
class Line:
    """What is joined, and how it looks."""

    label: str
    points: pd.DataFrame
    colour: str
    marker: str
    dash: str
    hollow: bool


def _lines(points: pd.DataFrame) -> Iterator[Line]:
    """What has the same value in `joined`, of the colour that it has in the figures."""
    for _, line in points.groupby("joined", sort=False):
        first = line.iloc[0]
        place = int(first["number"])
        look = style(first["kind"], place)
        yield Line(
            label=line_label(line),
            points=line,
            colour=look["color"],
            marker=MARKERS[place % len(MARKERS)],
            dash=DASHES[first["family"]],
            hollow=look["markerfacecolor"] == "none",
        )


def _details(points: pd.DataFrame) -> pd.DataFrame:
    """What is shown of a point, as text; columns are named as in the report's tables."""
    details = pd.DataFrame(
        {
            "network": points["network"],
            "exit": points["exit"].astype(int).astype(str) + " of " + points["exits"].astype(int).astype(str),
            "test accuracy, %": points.apply(accuracy_cell, axis=1),
            "MACs": points["macs"].map(millions),
            "parameters": points["params"].map(millions),
            "training MACs": (points["total_training_macs"] / 1e12).map(lambda macs: number(macs, ".2f", "T")),
        }
    )
    for column in map(str, points.filter(regex=r"^latency_ratio_b\d+$")):
        details[f"latency ratio, batch {column.rpartition('b')[2]}"] = ratios(points[column])
    return details


def _empty(across: str, up: str, *, logarithmic: bool) -> figure:
    """A plot without lines, its legend beside it."""
    from bokeh.models.annotations import Legend  # a second, which `compress --help` does not wait for
    from bokeh.plotting import figure

    plot = figure(
        height=HEIGHT,
        sizing_mode="stretch_width",
        x_axis_type="log" if logarithmic else "linear",
        x_axis_label=across,
        y_axis_label=up,
        tools="pan,box_zoom,wheel_zoom,reset,save",
        active_drag="box_zoom",
    )
    plot.toolbar.logo, plot.toolbar.autohide = None, True
    plot.axis.axis_label_text_font_style = "normal"
    plot.axis.minor_tick_line_color = plot.outline_line_color = None
    plot.grid.grid_line_color = "#eaedf0"
    text: dict[str, Any] = {"label_text_font_size": "12px", "label_height": 16, "glyph_height": 16}
    legend = Legend(click_policy="hide", border_line_color=None, margin=0, spacing=2, **text)
    plot.add_layout(legend, "right")
    return plot


def _draw(
    plot: figure, line: Line, source: ColumnDataSource, *, size: int = 9, joined: bool = True, steps: bool = False
) -> None:
    """The line and its points, of the columns `x`, `y` and, of points, `alpha`; points alone show details."""
    if steps:
        plot.step("x", "y", source=source, mode="after", line_dash=line.dash, **_look(line))
    elif joined:
        plot.line("x", "y", source=source, line_dash=line.dash, **_look(line))
    fill = "white" if line.hollow else line.colour
    marks = {"marker": line.marker, "size": size, "fill_color": fill, "line_alpha": "alpha", "fill_alpha": "alpha"}
    plot.scatter("x", "y", source=source, name="points", **_look(line) | marks)


def source_of(rows: pd.DataFrame) -> ColumnDataSource:
    """The rows, as bokeh has them."""
    from bokeh.models import ColumnDataSource

    columns: dict[str, Any] = {str(column): values.tolist() for column, values in rows.items()}
    return ColumnDataSource(columns)  # bokeh's own way from frames is deprecated in pandas 3.1


def _look(line: Line) -> dict[str, Any]:
    return {"line_color": line.colour, "line_width": 1.5, "legend_label": line.label}


def _with_hover(plot: figure, details: Sequence[str]) -> figure:
    """The plot, as high as its legend, with these columns shown of the point under the mouse."""
    from bokeh.models import HoverTool

    plot.height = max(HEIGHT, LEGEND_ROW * len(plot.legend[0].items) + 70)
    points: list[Any] = [renderer for renderer in plot.renderers if renderer.name == "points"]
    plot.add_tools(HoverTool(renderers=points, tooltips=[(column, f"@{{{column}}}") for column in details]))
    return plot
