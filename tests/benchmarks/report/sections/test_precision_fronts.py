"""Fronts in fp32 and int8: which networks no other one beats, and what was not measured is said."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from benchmarks.measuring.bench_file import Measurement, Row, write_measurement
from benchmarks.report.group import Group
from benchmarks.report.section import Figure
from benchmarks.report.sections.precision_fronts import FRONTS, front, precision_section
from benchmarks.results.cells import exit_name
from compress.runs import Run
from tests.benchmarks.report.conftest import table_of, texts_of


def test_each_precision_has_a_front_of_macs_and_both_share_one_of_sizes() -> None:
    points = pd.DataFrame(
        [("fp32", 10, 40.0, 0.80), ("fp32", 20, 80.0, 0.79), ("int8", 10, 12.0, 0.78), ("int8", 20, 22.0, 0.80),
         ("fp32", 5, float("nan"), 0.70)],
        columns=["precision", "macs", "bytes", "test_accuracy"],
    )  # fmt: skip
    found = {name: front(points, *competing).tolist() for name, competing in FRONTS.items()}
    assert found == {
        "MACs in fp32": [True, False, False, False, True],
        "MACs in int8": [False, False, True, True, False],
        "file size in both": [False, False, True, True, False],  # 22 bytes suffice for what fp32 needs 40 for
    }


@pytest.fixture
def own(runs: list[Run], tmp_path: Path) -> list[Run]:
    """BP, and two seeds with two exits, with a directory each to measure into."""
    found = [Run(tmp_path / run.id, run.record) for run in runs[:3]]
    for run in found:
        run.path.mkdir()
    return found


def test_every_exit_is_a_row_and_what_was_not_measured_is_named(
    own: list[Run], measurement: Measurement, grouped: Callable[..., Group]
) -> None:
    write_measurement(own[0], measurement)
    assert precision_section(grouped(own)) is None
    [row] = measurement.rows
    int8 = replace(measurement, engine="onnxruntime", precision="int8")
    whole = own[0].exits[0]["test_accuracy"]
    sized: Row = {**row, "bytes": 30_000, "fp32_bytes": 90_000, "test_accuracy": whole - 0.015}
    write_measurement(own[0], replace(int8, rows=[sized]))
    earlier: Row = {**row, "exit": 2, "test_accuracy": 0.5}
    del earlier["bytes"]
    write_measurement(own[1], replace(int8, rows=[earlier]))
    group = grouped(own)
    section = precision_section(group)
    names = [exit_name(each) for each in group.summary.to_dict("records")]
    cells = {row["network"]: row for row in table_of(section)}
    assert sorted(cells) == sorted(names)
    assert list(cells[names[0]].values())[2:7] == [
        f"{100 * whole:.2f} (n = 1)", "0.09 MB", f"{100 * whole - 1.5:.2f} (n = 1)", "0.03 MB", "-1.50",
    ]  # fmt: skip
    assert cells[names[0]]["on the front of"].endswith("file size in fp32 and int8")
    assert cells[names[1]]["int8, %"] == cells[names[1]]["int8, file"] == "-"
    texts = texts_of(section)
    assert texts[0].startswith(
        "**Preliminary: one seed of some networks.** int8 as bench measured it (onnxruntime, int8, cpu, 1 thread"
    )
    assert f"int8, and the size of the file, was not measured under these conditions of {names[1]}." in texts
    assert f"int8 was measured of fewer seeds than fp32 of {names[2]}." in texts
    assert f"An earlier version, which kept no sizes of files, measured {names[2]}." in texts
    assert texts[-1].startswith(
        f"by file size in both, of the 1 of 3 exits measured: {names[0]} in int8; {names[0]} in fp32."
    )


def test_the_figure_has_int8_hollow_and_sizes_where_they_are_known(
    own: list[Run], measurement: Measurement, grouped: Callable[..., Group]
) -> None:
    [row] = measurement.rows
    int8 = replace(measurement, engine="onnxruntime", precision="int8")
    sized: Row = {**row, "bytes": 30_000, "fp32_bytes": 90_000, "test_accuracy": 0.5}
    write_measurement(own[0], replace(int8, rows=[sized]))
    section = precision_section(grouped(own))
    assert section
    [figure] = [block for block in section.blocks if isinstance(block, Figure)]
    macs, size = (
        [line for line in axes.lines if line.get_gid() and line.get_marker() != "none"] for axes in figure.drawing.axes
    )
    assert len(macs) == 4  # three exits in fp32, and one in int8
    assert sorted(float(np.asarray(line.get_xdata())[0]) for line in size) == [0.03, 0.09]
    hollow = [line for line in macs if line.get_markerfacecolor() == "none"]
    assert [str(line.get_gid()).splitlines()[2:4] for line in hollow] == [
        ["precision: int8", "test accuracy, %: 50.00 (n = 1)"]
    ]
