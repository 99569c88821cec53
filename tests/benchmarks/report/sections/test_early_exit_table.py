"""Early exit in a report: its row, the verdict against static networks, the figure, and the records that it keeps."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from benchmarks import Comparison, write_report
from benchmarks.certifying.exits_file import ExitPolicy, Measured, Point, Timing, read_policies, write_policies
from benchmarks.report.group import Group
from benchmarks.report.section import Figure, Section
from benchmarks.report.sections.early_exit_table import early_exit_section
from compress.inference import Policy
from compress.runs import EARLY_EXIT, Run, find_run
from tests.benchmarks.report.conftest import table_of, texts_of


@pytest.fixture
def policy() -> ExitPolicy:
    """A policy without a certificate, at half the time and half the MACs of the whole network."""
    half, one = (0.5, 0.5, 0.5), (1.0, 1.0, 1.0)
    timing = Timing(
        batch_size=1,
        images=10,
        mean_macs=5.0,
        seconds=(0.005, 0.005, 0.005),
        ratio=half,
        ratio_interval=None,
        idle_ratio=one,
        static_seconds=[(0.004, 0.004, 0.004), (0.01, 0.01, 0.01)],
        static_ratios=[(0.4, 0.4, 0.4), one],
    )
    return ExitPolicy(
        policy=Policy(temperatures=(1.0, 1.0), thresholds=(0.5,), weights=""),
        engine="eager",
        precision="fp32",
        budget_macs=5.0,
        val_accuracy=0.5,
        test_accuracy=0.5,
        test_interval=(0.4, 0.6),
        test_drop=0.01,
        drop_interval=(0.0, 0.02),
        mean_macs=5.0,
        full_macs=10,
        shares=(0.5, 0.5),
        measured=Measured(device="cpu", hardware="a CPU", threads=1, rounds=9, noisy=False, rows=[timing]),
        curve=[Point(mean_macs=10.0, test_accuracy=0.5), Point(mean_macs=4.0, test_accuracy=0.4)],
    )


@pytest.fixture
def own(reopened: list[Run], tmp_path: Path) -> Run:
    """A run of two exits, with a directory to write into and given validation accuracies."""
    run = Run(tmp_path / reopened[-1].id, reopened[-1].record)
    run.path.mkdir()
    return run


def section_of(grouped: Callable[..., Group], run: Run) -> Section:
    section = early_exit_section(grouped([run]))
    assert section is not None
    return section


@pytest.mark.parametrize(
    ("accuracies", "said"),
    [
        ((0.5, 0.6), "**the static network is faster**: 4.000 ms an image, early exit 5.000 ms"),
        ((0.4, 0.5), "early exit is faster: 10.000 ms an image, early exit 5.000 ms"),
        ((0.3, 0.4), "no exit here is as accurate on validation images"),
    ],
)
def test_the_smallest_static_network_of_equal_accuracy_is_named_and_the_faster_said(
    own: Run,
    policy: ExitPolicy,
    grouped: Callable[..., Group],
    accuracies: tuple[float, float],
    said: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert early_exit_section(grouped([own])) is None
    write_policies(own, [policy])
    for row, accuracy in zip(own.exits, accuracies, strict=True):
        monkeypatch.setitem(row, "val_accuracy", accuracy)
    section = section_of(grouped, own)
    [row] = table_of(section)
    assert row["guarantee"] == "none: a budget of MACs"
    assert (row["time ratio, batch 1"], row["of all"], row["leave at each exit"]) == ("0.50x", "50%", "50%, 50%")
    assert any(said in text for text in texts_of(section))
    [figure] = [block for block in section.blocks if isinstance(block, Figure)]
    assert figure.name == "early-exit"
    lines = {str(line.get_label()): line for line in figure.drawing.axes[0].get_lines()}
    smallest = lines.get("smallest static network of equal accuracy")
    assert (smallest is None) == (accuracies[1] < policy.val_accuracy)
    if smallest is not None:
        exit = own.exits[0 if accuracies[0] >= policy.val_accuracy else 1]
        assert np.asarray(smallest.get_xydata()).tolist() == [[exit["macs"] / 1e6, 100 * exit["test_accuracy"]]]


def test_a_smaller_network_of_another_run_is_shown_in_time_or_how_it_would_be_timed(
    own: Run, policy: ExitPolicy, reopened: list[Run], grouped: Callable[..., Group], monkeypatch: pytest.MonkeyPatch
) -> None:
    other = reopened[1]
    for row in (*own.exits, *other.exits):
        monkeypatch.setitem(row, "val_accuracy", 0.5 if row is other.exits[-1] else 0.3)
    assert policy.measured
    [timing] = policy.measured.rows
    both = replace(policy.measured, rows=[timing, replace(timing, batch_size=100)])
    write_policies(own, [replace(policy, measured=both)])
    group = grouped([own, other])
    measured = {
        "run": other.id, "exit": other.exits[-1]["exit"], "engine": "eager", "precision": "fp32", "hardware": "a CPU",
        "threads": 1, "batch": 1, "seconds": 0.004,
    }  # fmt: skip

    def drawn(*rows: dict[str, object]) -> tuple[str, list[list[float]]]:
        section = early_exit_section(replace(group, latencies=pd.DataFrame(rows)))
        [figure] = [block for block in section.blocks if isinstance(block, Figure)] if section else []
        lines = {str(line.get_label()): line for line in figure.drawing.axes[1].get_lines()}
        points = [np.asarray(line.get_xydata()).tolist() for name, line in lines.items() if "smallest" in name]
        return texts_of(section)[-1], [point for found in points for point in found]

    bench = f"`compress bench {other.id} --engine eager --precision fp32 --batch-size {{}} --threads 1 --device cpu`"
    for absent in ([], [measured | {"hardware": "another CPU"}]):
        said, points = drawn(*absent)
        assert "faster at batch 1 and 100 is not known" in said
        assert said.endswith(f"{bench.format('1,100')} times it.")
        assert points == []
    said, points = drawn(measured, measured | {"batch": 128, "seconds": 0.1})
    assert "At batch 1 **the static network is faster**: 4.000 ms an image, early exit 5.000 ms, timed apart." in said
    assert "faster at batch 100 is not known" in said
    assert said.endswith(f"{bench.format('1,100,128')} times it.")  # bench.json keeps what it had
    assert points == [[0.4, 100 * other.exits[-1]["test_accuracy"]]]


def test_a_report_keeps_the_policies_of_its_runs(
    own: Run, policy: ExitPolicy, reopened: list[Run], tmp_path: Path
) -> None:
    for file in reopened[-1].path.iterdir():
        if file.is_file():
            (own.path / file.name).write_bytes(file.read_bytes())
    write_policies(own, [replace(policy, budget_macs=6.0)])
    out = write_report(Comparison(title="kept", runs=[find_run(own.path)]), tmp_path / "report").parent
    kept = find_run(out / "runs" / own.id)
    assert (kept.path / EARLY_EXIT).read_bytes() == (own.path / EARLY_EXIT).read_bytes()
    assert read_policies(kept) == read_policies(own)
    assert "### Early exit" in (out / "report.md").read_text()
    assert (out / "early-exit.svg").exists()
