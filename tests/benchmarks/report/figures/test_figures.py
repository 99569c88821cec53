"""Figures show what the frames say; tooltips say what a point is."""

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from benchmarks import read_comparison
from benchmarks.report.figures.accuracy_against_cost import accuracy_against
from benchmarks.report.figures.block_probes import block_probes
from benchmarks.report.figures.files import SVG, svg
from benchmarks.report.figures.kept_channels import kept_channels
from benchmarks.report.figures.style import FADED
from benchmarks.report.figures.training_curves import training_curves
from benchmarks.results.epochs import read_epochs
from benchmarks.results.probed_blocks import read_probes
from benchmarks.results.rows import rows, summarise
from compress.runs import METRICS, Run
from tests.benchmarks.report.conftest import network

TITLE = "A title"


def drawn_network(name: str, macs: list[float], accuracies: list[float], **config: Any) -> list[dict[str, Any]]:
    """The rows of a network of these millions of MACs."""
    measured = {"latency_reference": "A_s0 exit 1", "latency_conditions": "eager", "bench_session": "s"}
    rows = network(name, [1e6 * cost for cost in macs], accuracies, 2, measured, **config)
    return [row | {"latency_ratio_b1": cost / 100} for row, cost in zip(rows, macs, strict=True)]


@pytest.fixture(scope="module")
def summary() -> pd.DataFrame:
    """A reference, close networks trained separately, and two networks with exits, one without latencies."""
    close = [drawn_network(f"ResNet-{number}", [40 + number], [0.90 + number / 2000]) for number in range(14)]
    return pd.DataFrame(
        [
            *drawn_network("A", [100], [0.92]),
            *(row for rows in close for row in rows),
            *drawn_network("Exits", [20, 40, 60], [0.85, 0.91, 0.905], method="mwbp"),
            *(row | {"latency_ratio_b1": np.nan} for row in drawn_network("Unmeasured", [30, 90], [0.86, 0.93])),
        ]
    )


def against(kind: str, summary: pd.DataFrame, reference: str | None = None) -> Figure:
    figure = accuracy_against(kind, summary, TITLE, reference)
    assert figure
    return figure


def points(figure: Figure) -> dict[tuple[float, float], float | None]:
    """The opacity of each point drawn, by its cost and its accuracy in percent."""
    return {
        (float(np.asarray(line.get_xdata())[0]), accuracies(line)[0]): line.get_alpha()
        for line in figure.axes[0].lines
        if line.get_gid()
    }


def accuracies(line: Line2D) -> list[float]:
    """The accuracies that a line joins, in percent."""
    return [round(float(value), 6) for value in np.asarray(line.get_ydata(), float)]


def titles(figure: Figure) -> list[str]:
    """The tooltips of a figure's SVG."""
    return [title.text or "" for title in ElementTree.fromstring(svg(figure)).iter(f"{{{SVG}}}title")]


def test_points_off_the_front_are_pale_and_the_reference_is_a_line(summary: pd.DataFrame) -> None:
    figure = against("accuracy-macs", summary, "A")
    drawn = points(figure)
    assert len(drawn) == len(summary)
    assert (drawn[40, 91], drawn[60, 90.5], drawn[100, 92], drawn[90, 93]) == (1, FADED, FADED, 1)
    assert [accuracies(line) for line in figure.axes[0].lines if line.get_label() == "A, the reference"] == [[92, 92]]
    assert [85, 91, 90.5] in [accuracies(line) for line in figure.axes[0].lines]
    [legend] = figure.legends
    names = [*summary["network"].unique(), "A, the reference"]
    assert [text.get_text() for text in legend.get_texts()] == names


def test_each_cost_has_its_own_points(summary: pd.DataFrame) -> None:
    latency, training = against("accuracy-latency", summary), against("accuracy-training", summary)
    assert len(points(latency)) == len(summary) - 2
    assert latency.axes[0].get_xlabel() == "latency at batch size 1 (ratio to A; eager)"
    assert set(points(training)) >= {(60, 90.5), (90, 93), (100, 92)}
    assert len(points(training)) == summary["last"].sum()
    elsewhere = summary.assign(bench_session=["s", *(len(summary) - 1) * ["t"]])
    assert (1, 92) not in points(against("accuracy-latency", elsewhere))  # ratios of another session do not compare
    assert accuracy_against("accuracy-latency", summary.drop(columns="latency_ratio_b1"), TITLE) is None
    assert accuracy_against("accuracy-training", summary[:1], TITLE) is None


def test_a_budget_affords_its_deepest_exit_even_where_a_shallower_one_is_better(summary: pd.DataFrame) -> None:
    stairs = next(line for line in against("anytime", summary).axes[0].lines if len(accuracies(line)) == 4)
    assert accuracies(stairs) == [85, 91, 90.5, 90.5]
    assert list(np.asarray(stairs.get_xdata(), float)) == [20, 40, 60, 104]
    assert stairs.get_drawstyle() == "steps-post"
    assert accuracy_against("anytime", summary[summary["exits"] == 1], TITLE) is None


def test_a_far_worse_network_is_marked_at_the_edge_with_its_accuracy(summary: pd.DataFrame) -> None:
    worse = drawn_network("W", [50], [0.2])
    axes = against("accuracy-macs", pd.concat([summary, pd.DataFrame(worse)], ignore_index=True)).axes[0]
    assert axes.get_ylim()[0] > 70
    assert "\N{LEFTWARDS ARROW}20.0" in [text.get_text() for text in axes.texts]
    assert (axes.lines[-1].get_gid() or "").startswith("W\nexit: 1 of 1\ntest accuracy, %: 20.00")


def test_kept_channels_are_those_of_the_specs(runs: list[Run]) -> None:
    figure = kept_channels(runs, summarise(rows(runs)), TITLE)
    assert figure
    [axes] = figure.axes
    now, once = runs[3].record.spec["blocks"], runs[0].record.spec["blocks"]
    for line, what in zip(axes.lines[:2], ("width", "out"), strict=True):
        shares = [a[what] / b[what] for a, b in zip(now, once, strict=True)]
        assert list(np.asarray(line.get_ydata(), float)) == pytest.approx(shares)
    first = f"block: 1\nkept within it: {now[0]['width'] / once[0]['width']:.2f}\nhanded on: "
    assert titles(figure)[0].startswith(f"ResNet-14, l1 {runs[3].record.results['achieved']['speedup']:.2f}x\n{first}")
    assert kept_channels(runs[:3], summarise(rows(runs[:3])), TITLE) is None


def test_training_curves_are_means_over_seeds(runs: list[Run], tmp_path: Path) -> None:
    seeds = []
    for seed, accuracies in enumerate([(0.5, 0.6), (0.7, 0.9)]):
        cost = runs[1].record.cost | {"epochs": 2}
        run = Run(tmp_path / str(seed), replace(runs[1].record, seed=seed, cost=cost))
        written = json.loads((runs[1].path / METRICS).read_text())
        lines = [
            written | {"epoch": epoch, "val_accuracy": [0.1, value], "train_loss": [2.0, 1.0 - value]}
            for epoch, value in enumerate(accuracies, start=1)
        ]
        run.path.mkdir()
        (run.path / METRICS).write_text("".join(json.dumps(line) + "\n" for line in lines))
        seeds.append(run)
    figure = training_curves(read_epochs(seeds), TITLE)
    assert figure
    accuracy, validation, loss = figure.axes
    assert list(np.asarray(accuracy.lines[0].get_ydata(), float)) == pytest.approx([60, 75])
    assert list(np.asarray(loss.lines[0].get_ydata(), float)) == pytest.approx([0.4, 0.25])
    assert validation.get_ylabel() == "validation loss (nats)"
    assert "epoch: 2\nvalidation accuracy (%): 75.00\n" in titles(figure)[-1]
    assert titles(figure)[-1].endswith("\ntraining loss (nats): 0.250\nseeds: 2")
    (seeds[0].path / METRICS).write_text("{")
    assert set(read_epochs(seeds)["run"]) == {"1"}
    assert training_curves(read_epochs([]), TITLE) is None


def test_block_probes_have_a_panel_for_each_measure() -> None:
    runs = read_comparison(Path(__file__).parents[2] / "comparison").runs
    blocks, retrained = read_probes(runs)
    figure = block_probes(blocks, retrained, TITLE)
    row = blocks.iloc[0]
    text = f"{row['network']}\nseed: {row['seed']}\nblock: {row['block']}\n{{}}: {100 * row['probe_accuracy']:.2f}"
    label = "accuracy of a linear probe (%)"
    assert [axes.get_ylabel() for axes in figure.axes].count(label) == 2  # over the share of blocks, and over layers
    assert titles(figure).count(text.format(label)) == 2
    measures = ["probe_accuracy", "probe_accuracy", "gradient_share", "cka_to_next", "skip_drop"]
    assert len(titles(figure)) == sum(blocks[measure].notna().sum() for measure in measures)


EVIL = "</title><script>alert('$b_{$c')</script> & \"quoted\""


def test_every_point_has_a_tooltip_and_names_are_data(summary: pd.DataFrame) -> None:
    named = summary.assign(network=summary["network"].replace("Exits", EVIL))
    figure = against("accuracy-macs", named, "A")
    found = titles(figure)
    assert b">Unmeasured</text>" in svg(figure)  # text stays text
    assert len(found) == len(summary)
    assert svg(figure).count(b'pointer-events="all"') == len(summary)  # hollow markers are hit inside, too
    assert (
        f"{EVIL}\nexit: 2 of 3\ntest accuracy, %: 91.00 ± 1.00 (n = 2)\nMACs: 40M\nparameters: 0.1M\n"
        "training MACs: 60.00T\nlatency ratio, batch 1: 0.40x"
    ) in found


def drawn(left: float) -> str:
    """The SVG of a figure with clipped lines, markers, a filled band and text; its axes begin at `left`."""
    figure = Figure()
    axes = figure.add_axes((left, 0.1, 0.7, 0.8))
    axes.plot([1, 2, 3], [1, 4, 9], marker="o")
    axes.fill_between([1, 2, 3], [0, 1, 2], [1, 2, 3], hatch="/")
    axes.scatter([1, 2], [2, 1])
    return svg(figure).decode()


def test_an_svg_is_the_same_whatever_the_last_digits_of_its_layout() -> None:
    first, other = drawn(0.1), drawn(0.11)
    assert first == drawn(float(np.nextafter(0.1, 1)))
    given, used = set(re.findall(r' id="(.+?)"', first)), set(re.findall(r'(?:url\(|href=")#([\w-]+)', first))
    assert used
    assert used == given
    assert not given & set(re.findall(r' id="(.+?)"', other))  # both can be in one page


@pytest.mark.parametrize(("costs", "scale"), [([1, 10], "linear"), ([1, 11], "log")])
def test_an_axis_is_logarithmic_where_costs_differ_more_than_tenfold(
    summary: pd.DataFrame, costs: list[float], scale: str
) -> None:
    figure = against("accuracy-macs", pd.DataFrame(drawn_network("A", costs, [0.8, 0.9])))
    assert figure.axes[0].get_xscale() == scale
