"""Fronts in fp32 and int8: networks in both precisions, and which of them no other one beats in accuracy and cost."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pandas as pd

from benchmarks.report.figures.accuracy_by_precision import accuracy_by_precision
from benchmarks.report.group import Group, Row
from benchmarks.report.section import Block, Bullets, Figure, Section, Table, Text
from benchmarks.results.both_precisions import FP32, INT8, KEY, PRECISIONS, both_precisions, measured_in_int8
from benchmarks.results.caveats import preliminary
from benchmarks.results.cells import MISSING, Number, accuracy_cell, exit_name, megabytes, millions
from benchmarks.results.escaping import inline
from benchmarks.statistics.fronts import on_front

ON_FRONT = "on the front of"
FRONTS = {  # by what they are called: the precisions that compete, and their cost
    "MACs in fp32": ((FP32,), "macs"),
    "MACs in int8": ((INT8,), "macs"),
    "file size in both": (PRECISIONS, "bytes"),
}
MEASURED = (
    "int8 as bench measured it ({conditions}). Not dominated, by mean accuracy: no other network is at least as "
    "accurate at no higher cost and better in one of both."
)
METHOD = (
    "Every exit of every network is a point in fp32, and one in int8 where `compress bench --precision int8` measured "
    "its accuracy on the test images: nothing is measured for this section. Of several engines and machines those "
    "count that measured most runs. Networks are quantised after training, without training again. A MAC in int8 is "
    "cheaper than one in fp32, so that each precision has a front of MACs of its own; they share one of file sizes. A "
    "file is the ONNX file with its graph, which weighs the more the smaller a network is, not the weights alone. "
    "Intervals are over seeds, by Student's t; the change from fp32 to int8 is paired by seed and has none for one "
    "seed. Fronts go by mean accuracies alone, chosen on these test images; intervals may not tell apart what they "
    "part. The steps of iterative pruning are left out."
)


def precision_section(group: Group) -> Section | None:
    """Every exit in both precisions, and the fronts; None if nothing was measured in int8."""
    measured, conditions = measured_in_int8(group.runs)
    summary = group.summary[group.summary["step"].isna()]
    if conditions is None:
        return None
    points = both_precisions(summary, group.frame, measured, group.test_images)
    fronts = {name: front(points, *competing) for name, competing in FRONTS.items()}
    blocks: list[Block] = [
        Text(preliminary([*points["n"]]) + MEASURED.format(conditions=inline(str(conditions)))),
        Bullets([_front_line(points, there, name) for name, there in fronts.items() if there.any()]),
        Figure(
            f"precisions{group.suffix}", "In fp32 and int8", accuracy_by_precision(points, group.summary, group.title)
        ),
        precisions_table(points, fronts),
        *map(Text, _gaps(points)),
    ]
    return Section("Fronts in fp32 and int8", blocks, method=METHOD)


def front(points: pd.DataFrame, precisions: Sequence[str], cost: str) -> pd.Series:
    """Which points no other one of these precisions dominates; those of unknown cost do not compete."""
    competing = points[points["precision"].isin(precisions) & points[cost].notna()]
    there = pd.Series(False, index=points.index)
    if len(competing):
        costs, means = (competing[column].to_numpy(dtype=float) for column in (cost, "test_accuracy"))
        there[competing.index] = on_front(costs, means[None])[0]
    return there


def precisions_table(points: pd.DataFrame, fronts: dict[str, pd.Series]) -> Table:
    """A row for every exit, cheapest first, with the fronts that it is on."""
    rows = []
    for _, own in points.groupby(KEY, sort=False):
        first, known = own.iloc[0], own.set_index("precision").to_dict("index")
        cells = {"network": exit_name(first), "MACs": millions(first["macs"])}
        for name in PRECISIONS:
            cells[f"{name}, %"] = accuracy_cell(known[name]) if name in known else MISSING
            cells[f"{name}, file"] = megabytes(known[name]["bytes"]) if name in known else MISSING
        cells["int8 - fp32, points"] = _change(own.iloc[-1])
        shown = [_where(name, own[there[own.index]]) for name, there in fronts.items() if there[own.index].any()]
        rows.append((first["macs"], cells | {ON_FRONT: ", ".join(shown) or MISSING}))
    return Table.of((row for _, row in sorted(rows, key=lambda pair: pair[0])), last=ON_FRONT)


def _where(name: str, own: pd.DataFrame) -> str:
    """As in ``MACs in fp32``, ``file size in int8``."""
    return name.replace("both", " and ".join(own["precision"]))


def _change(row: pd.Series) -> str:
    """As in ``-0.21 [-0.35, -0.07]``; missing where int8 was not measured."""
    if row["precision"] != INT8:
        return MISSING
    mean, low, high = (100 * row[column] for column in ("change", "change_low", "change_high"))
    return Number(f"{mean:+z.2f}" + (f" [{low:+z.2f}, {high:+z.2f}]" if math.isfinite(low) else ""), mean)


def _front_line(points: pd.DataFrame, there: pd.Series, name: str) -> str:
    """As in ``by MACs in int8, of the 2 of 14 exits measured: ResNet-20``; without numbers where all were."""
    precisions, cost = FRONTS[name]
    every = len(points[points["precision"] == FP32])
    fewest = min(int(points.loc[points["precision"] == each, cost].notna().sum()) for each in precisions)
    among = "" if fewest == every else f", of the {fewest} of {every} exits measured"
    return f"by {name}{among}: {_named(points[there], name)}."


def _named(points: pd.DataFrame, name: str) -> str:
    """The networks on a front, cheapest first, with their precision where both compete."""
    precisions, cost = FRONTS[name]
    rows = _records(points.sort_values(cost, kind="stable"))
    return "; ".join(exit_name(row) + (f" in {row['precision']}" if len(precisions) > 1 else "") for row in rows)


def _gaps(points: pd.DataFrame) -> list[str]:
    """What int8 was not measured of, of fewer seeds than fp32, or without the sizes of files."""
    whole, quantised = (points[points["precision"] == name].set_index(KEY) for name in PRECISIONS)
    common = quantised.index
    fewer = quantised[quantised["n"].to_numpy() < whole.loc[common, "n"].to_numpy()]
    found = {
        "int8, and the size of the file, was not measured under these conditions of": whole.drop(common),
        "int8 was measured of fewer seeds than fp32 of": fewer,
        "An earlier version, which kept no sizes of files, measured": quantised[quantised["bytes"].isna()],
    }
    return [f"{what} {_all_or_named(rows.reset_index(), len(whole))}." for what, rows in found.items() if len(rows)]


def _all_or_named(rows: pd.DataFrame, every: int) -> str:
    return "all networks" if len(rows) == every else "; ".join(map(exit_name, _records(rows)))


def _records(points: pd.DataFrame) -> list[Row]:
    return points.to_dict("records")
