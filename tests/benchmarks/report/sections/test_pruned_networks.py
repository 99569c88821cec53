"""Pruning curves: what tables and figures say of arms is what their records say, older records included."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from benchmarks import Comparison, write_report
from benchmarks.report.figures.accuracy_against_cost import accuracy_against
from benchmarks.report.group import Group
from benchmarks.report.section import Figure as Drawn
from benchmarks.report.section import Table, Text
from benchmarks.report.sections.pruned_networks import curves_section, curves_table, pruning_section
from benchmarks.results.rows import rows, summarise
from benchmarks.results.series import series
from compress.runs import Run
from tests.benchmarks.report.conftest import table_of

BUDGETS = (1.5, 2.5, 4.0)
ARMS: tuple[tuple[str, dict[str, Any]], ...] = (
    *((method, {}) for method in ("random", "l1", "l2", "fpgm", "lamp", "bn-scale", "taylor", "group-norm")),
    ("l1", {"scope": "inner", "ranking": "uniform"}),
    ("l1", {"ranking": "uniform"}),
    ("l1", {"allocate": "sensitivity"}),
    ("l1", {"steps": 3}),
    ("l1", {"steps": 3, "gradual": True}),
    ("random", {"schedule": "restart"}),
    ("l1", {"schedule": "restart"}),
    *((method, {}) for method in ("blocks", "depth-cut", "scratch-e", "scratch-b", "shallow", "distilled")),
)
CONTROLS = ("scratch-e", "scratch-b", "shallow", "distilled")


def pruned(run: Run, method: str, asked: tuple[str, float], speedup: float, accuracy: float, **request: Any) -> Run:
    """The run's record as another method at another budget would have left it."""
    config, achieved = run.record.config, run.record.results["achieved"]
    before = round(achieved["speedup"] * achieved["macs"])
    macs = round(before / speedup)
    results: dict[str, Any] = {
        "requested": dict([asked]),
        "achieved": {"speedup": before / macs, "macs": macs},
        "exits": [run.exits[-1] | {"macs": macs, "test_accuracy": accuracy}],
        "weights": run.record.results["weights"],
    }
    if method not in CONTROLS:
        results |= {"val_accuracy_before": [0.9], "val_accuracy_pruned": [accuracy - 0.1]}
    own = {key: value for key, value in config["request"].items() if key != "speedup"}
    kind = "control" if method in CONTROLS else "prune"
    config = config | {"method": method, "kind": kind, "request": own | request | dict([asked])}
    record = replace(run.record, method=method, kind=kind, config=config, results=results)
    return Run(run.path.with_name(f"{method}_{speedup:g}-{accuracy:g}"), record)


@pytest.fixture(scope="module")
def curves(runs: list[Run]) -> list[Run]:
    arms = [
        pruned(runs[3], method, ("speedup", budget), budget, 0.9 - 0.01 * number - 0.02 * budget, **request)
        for number, (method, request) in enumerate(ARMS)
        for budget in BUDGETS
    ]
    return [runs[0], *arms]


def test_every_arm_is_a_row_and_every_budget_a_column(curves: list[Run], grouped: Callable[..., Group]) -> None:
    section = curves_section(grouped(curves))
    assert section
    text, table, figure = section.blocks
    assert isinstance(text, Text)
    accuracy = f"{100 * curves[0].exits[-1]['test_accuracy']:.2f}"
    assert text.words.endswith(f"The reference, ResNet-14, reaches {accuracy}.")
    assert isinstance(table, Table)
    assert list(table.columns) == ["arm", "speedup 1.50", "speedup 2.50", "speedup 4.00"]
    assert table.columns["arm"] == [
        *("random", "l1", "l2", "fpgm", "lamp", "bn-scale", "taylor", "group-norm"),
        *("l1 inner uniform", "l1 uniform", "l1 by sensitivity", "l1 in 3 steps", "l1 gradual in 3 steps"),
        *("random restart", "l1 restart", "blocks", "depth-cut"),
        *("scratch-e of l1", "scratch-b of l1", "shallow", "distilled"),
    ]
    assert list(table.rows[1].values()) == ["l1", "86.00", "84.00", "81.00"]
    assert isinstance(figure, Drawn)


def test_a_missed_budget_shows_the_speedup_and_one_not_asked_for_a_dash(runs: list[Run]) -> None:
    made = [
        pruned(runs[3], "l1", ("speedup", 4.0), 4.1, 0.7),
        pruned(runs[3], "l1", ("speedup", 2.0), 2.015, 0.8),
        pruned(runs[3], "blocks", ("speedup", 2.0), 1.8, 0.6),
        pruned(runs[3], "blocks", ("macs", 1000.0), 3.0, 0.5),
    ]
    assert curves_table(summarise(rows(made))).rows == [
        {"arm": "l1", "speedup 2.00": "80.00", "speedup 4.00": "70.00 [4.10x]", "macs 1,000": "-"},
        {"arm": "blocks", "speedup 2.00": "60.00 [1.80x]", "speedup 4.00": "-", "macs 1,000": "50.00 [3.00x]"},
    ]


def test_an_arm_looks_alike_in_both_figures(curves: list[Run]) -> None:
    summary = summarise(rows(curves)).assign(requested_macs=float("nan"))
    by_macs = accuracy_against("accuracy-macs", summary, "A title")
    by_speedup = accuracy_against("pruning-curves", summary, "A title", series(curves[0]))
    assert by_macs
    assert by_speedup

    def looks(figure: Figure) -> dict[str, tuple[Any, ...]]:
        [legend] = figure.legends
        lines = [line for line in legend.legend_handles if isinstance(line, Line2D)]
        return {
            str(line.get_label()).removeprefix("ResNet-14, "): (
                *(line.get_color(), line.get_linestyle(), line.get_marker(), line.get_markerfacecolor()),
            )
            for line in lines
        }

    looked = looks(by_speedup)
    del looked["the reference"]
    assert looked == {label: look for label, look in looks(by_macs).items() if label != "ResNet-14"}
    assert len(set(looked.values())) == len(ARMS)
    assert sum(bool(line.get_gid()) for line in by_speedup.axes[0].lines) == len(ARMS) * len(BUDGETS)
    families = {(line, face == "none") for _, line, _, face in looked.values()}
    assert families == {("-", False), ("-.", False), (":", True)}  # width, depth, controls: apart in grey too


def test_without_a_curve_there_is_no_section(runs: list[Run], grouped: Callable[..., Group]) -> None:
    assert curves_section(grouped(runs)) is None
    assert pruning_section(grouped(runs[:1])) is None


def test_what_choosing_cost_is_shown_where_a_record_says_it(runs: list[Run], grouped: Callable[..., Group]) -> None:
    def row(cost: dict[str, Any]) -> dict[str, str]:
        return table_of(pruning_section(grouped([replace(runs[3], record=replace(runs[3].record, cost=cost))])))[0]

    assert "choosing, s" not in row(runs[3].record.cost | {"choosing_seconds": None})
    assert row(runs[3].record.cost | {"choosing_seconds": 1.25})["choosing, s"] == "1.2"


def test_a_control_without_figures_of_pruning_is_reported_too(runs: list[Run], tmp_path: Path) -> None:
    control = pruned(runs[3], "shallow", ("speedup", 2.0), 2.0, 0.8)
    bare = Run(control.path, replace(control.record, results=_without(control.record.results, "achieved")))
    text = write_report(Comparison(runs=[runs[0], bare]), tmp_path).read_text()
    assert "| ResNet-14, shallow | 80.00 (n = 1) |" in text


def _without(data: dict[str, Any], beginning: str) -> dict[str, Any]:
    return {key: value for key, value in data.items() if not key.startswith(beginning)}
