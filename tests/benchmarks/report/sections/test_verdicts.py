"""Verdicts: a table that says what the intervals carry, the primary contrast first."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks import Comparison, write_report
from benchmarks.report.group import Group
from benchmarks.report.sections.verdicts import NOTE, verdicts_section
from compress.runs import Run
from tests.benchmarks.report.conftest import network, table_of, texts_of


def row(name: str, accuracy: float, macs: float, seeds: int = 3, session: str = "x") -> dict[str, Any]:
    """The row of the last of two exits."""
    columns = {"bench_session": session, "latency_ratio_b1": macs}
    return network(name, [1, macs], [0.1, accuracy], seeds, columns)[1]


def test_a_row_says_what_its_interval_carries(summed_up: Callable[..., Group]) -> None:
    group = summed_up([row("A", 0.90, 200), row("B", 0.80, 100), row("C", 0.901, 150, session="y")], "A")
    low, high = group.verdicts.contrasts[0].found.interval()
    first, second = table_of(verdicts_section(group))
    assert list(first.values()) == [
        *("B (exit 2)", "A (exit 2)", "50%", "0.50x", "-10.00", f"{100 * low:.2f} to {100 * high:.2f}", "3"),
        *("< 0.001", "less accurate"),
    ]
    assert (second["latency, batch 1"], second["verdict"]) == ("-", "not distinguishable")
    assert NOTE not in texts_of(verdicts_section(group))
    assert NOTE in texts_of(verdicts_section(summed_up([row("A", 0.9, 200, 1), row("B", 0.8, 100)], "A")))


def test_the_primary_contrast_is_named_and_what_cannot_be_compared(summed_up: Callable[..., Group]) -> None:
    group = summed_up([row("A", 0.9, 100), row("B", 0.9, 101), row("C", 0.8, 300)], "C", ("B", "A"))
    assert (
        "**Primary contrast**, declared before the runs: B (exit 2) against A (exit 2)"
        in texts_of(verdicts_section(group))[0]
    )
    assert "equivalent within 0.2 points" in table_of(verdicts_section(group))[0]["verdict"]
    lacking = replace(group, verdicts=replace(group.verdicts, contrasts=[], notes=["run x: <gone>"]))
    assert texts_of(verdicts_section(lacking)) == ["not compared: run x: \\<gone\\>"]


def test_the_report_says_who_is_not_compared_and_who_is(runs: list[Run], tmp_path: Path) -> None:
    lacking = Run(tmp_path / "lacking", runs[3].record)
    primary = (runs[1].id, runs[0].id)
    written = write_report(Comparison(runs=[*runs[:3], lacking], primary=primary), tmp_path / "report").read_text()
    section = written[written.index("### Verdicts") : written.index("### Pareto")]
    assert "- not compared: run lacking: predictions.npz is missing" in section
    assert "**Primary contrast**, declared before the runs: MwResNet-8-2 (exit 2)" in section
    assert "| 2 and 1 |" in section
    networks = written[written.index("### Networks") : written.index("### Verdicts")]
    assert not [line for line in networks.splitlines() if line.startswith("|") and "**" in line]
    assert "sd over seeds" in networks
