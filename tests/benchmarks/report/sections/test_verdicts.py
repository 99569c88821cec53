"""Verdicts: a table that says what the intervals carry, and what was declared apart from it."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks import Comparison, write_report
from benchmarks.report.group import Group
from benchmarks.report.sections.verdicts import DECLARED, verdicts_section
from benchmarks.results.caveats import SINGLE
from benchmarks.results.claims import Claim
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
    assert SINGLE not in texts_of(verdicts_section(group))
    assert SINGLE in texts_of(verdicts_section(summed_up([row("A", 0.9, 200, 1), row("B", 0.8, 100)], "A")))


def test_what_cannot_be_compared_is_named(summed_up: Callable[..., Group]) -> None:
    group = summed_up([row("A", 0.9, 100), row("B", 0.9, 101)], "A")
    lacking = replace(group, verdicts=replace(group.verdicts, contrasts=[], notes=["run x: <gone>"]))
    assert texts_of(verdicts_section(lacking)) == ["not compared: run x: \\<gone\\>"]


def test_the_report_says_who_is_not_compared_and_who_is(runs: list[Run], tmp_path: Path) -> None:
    lacking = Run(tmp_path / "lacking", runs[3].record)
    claims = [Claim(claim="Exits help", of=(runs[1].id,), against=(runs[0].id,))]
    written = write_report(Comparison(runs=[*runs[:3], lacking], claims=claims), tmp_path / "report").read_text()
    section = written[written.index("### Verdicts") : written.index("### Pareto")]
    assert "- not compared: run lacking: predictions.npz is missing" in section
    assert DECLARED.split(".")[0] in " ".join(section.split())
    primary = " ".join(written[written.index("## Primary contrasts") : written.index("## The best network")].split())
    assert "- 1. Exits help: **open**. MwResNet-8-2 (exit 2) has " in primary
    assert ", in 1 complete block, preliminary, which gives no interval." in primary
    assert "| 1 | MwResNet-8-2 (exit 2) | ResNet-14 |" in primary
    assert "| 1 of 2 begun |" in primary
    assert "| 2 and 1 |" in section
    networks = written[written.index("### Networks") : written.index("### Verdicts")]
    assert not [line for line in networks.splitlines() if line.startswith("|") and "**" in line]
    assert "sd over seeds" in networks
