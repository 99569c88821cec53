"""Networks: the main table, one row for each network, and accuracy against what it costs."""

from __future__ import annotations

import math
from collections.abc import Container, Sequence

import pandas as pd

from benchmarks.report.group import Group, Row
from benchmarks.report.section import Section, Table, Text
from benchmarks.report.sections.latency_by_engine import NOISE
from benchmarks.results.cells import accuracy_cell, exit_name, millions, number, percent, ratio, trillions
from benchmarks.results.escaping import code
from benchmarks.results.repeated_runs import distinct_runs
from benchmarks.results.rows import reference_of, rows, summarise
from benchmarks.results.series import series
from compress.errors import UsageError, checked
from compress.runs import Run

ANYTIME = (
    "The anytime curve shows the deepest exit that fits a budget, and behind the last one the ensemble if there is "
    "one, whatever its accuracy: nothing is chosen on test images."
)
METHOD = (
    "Test accuracies are means over seeds with Student's t intervals, on test images that were read once, after "
    "training; with few seeds such an interval holds only if seeds scatter normally. MACs are the multiply-accumulates "
    "of convolutions and linear layers for one image. Training MACs count forward passes once and backward passes "
    "twice, and include those of a reference or teacher and of choosing what to prune; training cost is their ratio to "
    "the reference's. Latency is the median of repeated timings, with networks interleaved and each exit cut out; its "
    "ratio to the reference is the median of the ratios within each round, which a busy machine moves less than "
    "milliseconds."
)


def networks_section(group: Group) -> Section:
    """The main table and the figures that the answer has not shown."""
    bold = frozenset() if group.screened else group.verdicts.bold  # a screen chooses nothing by test images
    curve = group.accuracy_figure("anytime")
    return Section(
        "Networks",
        [
            _table(group.summary, group.reference, bold),
            Text(" ".join(_notes(group, bold=bool(bold)))),
            *group.accuracy_figures[0 if group.screened else 1 :],
            *([Text(ANYTIME)] if curve else []),
            *curve,
        ],
        method=METHOD,
    )


@checked
def main_table(runs: Sequence[Run], reference: str | None = None) -> pd.DataFrame:
    """The main table as text: a row for each network's last exit, compared with a reference run."""
    if not runs:
        raise UsageError("main_table: name the runs to compare")
    runs = distinct_runs(runs)[0]
    summary = summarise(rows(runs))
    named = {run.id: series(run) for run in runs}.get(reference or "", reference_of(summary))
    return pd.DataFrame(_table(summary, named).columns)


def _table(summary: pd.DataFrame, reference: str | None, bold: Container[str] = ()) -> Table:
    """A row for each network's last exit."""
    rows: list[Row] = summary[summary["last"]].to_dict("records")
    whole = next(
        (row for row in rows if row["series"] == reference), {"macs": math.nan, "total_training_macs": math.nan}
    )
    return Table.of(
        {
            "network": row["network"],
            "test accuracy, %": accuracy_cell(row, bold=row["series"] in bold),
            "sd over seeds": percent(row["test_accuracy_sd"]),
            "MACs": millions(row["macs"]),
            "speed-up (MACs)": ratio(whole["macs"] / row["macs"]),
            "parameters": millions(row["params"]),
            "training MACs": trillions(row["total_training_macs"]),
            "training cost": ratio(row["total_training_macs"] / whole["total_training_macs"]),
        }
        | {
            heading: cell
            for batch in batches(summary)
            for heading, cell in (
                (f"latency, batch {batch}, ms", number(row[f"latency_b{batch}"], ".2f", scale=1e3)),
                (f"ratio, batch {batch}", ratio(row[f"latency_ratio_b{batch}"])),
            )
        }
        for row in rows
    )


def batches(summary: pd.DataFrame) -> list[str]:
    """The batch sizes for which some exit has a latency, as in the names of the summary's columns."""
    prefix = "latency_ratio_b"
    columns = [str(column) for column in summary if str(column).startswith(prefix)]
    return [column.removeprefix(prefix) for column in columns if summary[column].notna().any()]


def _notes(group: Group, *, bold: bool) -> list[str]:
    """What a reader must know of the table's columns."""
    notes, reference = [], group.reference_row
    if bold:
        notes.append("Bold: not distinguishable from the most accurate of two or more networks of its budget class.")
    if reference is not None:
        notes.append(f"Speed-ups and costs are compared with {reference['network']}, the reference.")
    if "bench_session" not in group.frame:
        return [*notes, "Latency was not measured: `compress bench` does it."]
    if batches(group.summary):
        known = group.summary.dropna(subset="latency_reference").iloc[0]
        names = {f"{row['run']} exit {row['exit']}": exit_name(row) for row in group.summary.to_dict("records")}
        compared = names.get(known["latency_reference"], code(known["latency_reference"]))
        notes.append(f"Latency: {known['latency_conditions']}; ratio to {compared}.")
        if (group.summary["latency_noisy"] > 0).any():
            notes.append(f"**These latencies are noisy**: {NOISE}.")
    if group.frame["bench_session"].nunique() > 1:
        notes.append(
            "**Not all latencies were measured in one session: compare only after `compress bench` on all runs.** "
            "Seeds of different sessions have no mean and are left out."
        )
    return notes
