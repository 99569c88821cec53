"""Pruned networks: accuracy of every arm at every budget, what was requested and achieved, and the channels kept."""

from __future__ import annotations

import math

import pandas as pd

from baselines.budget import TOLERANCE
from benchmarks.report.figures.kept_channels import kept_channels
from benchmarks.report.group import Group, Row
from benchmarks.report.section import Section, Table, Text, figures
from benchmarks.report.sections.resources import Columns, cells
from benchmarks.results.cells import MISSING, Number, mean_cell, number, percent, ratio

ASKED = {"ratio": ".2f", "speedup": ".2f", "macs": ",.0f", "params": ",.0f", "latency_ratio": ".2f"}
COLUMNS: Columns = {
    "ratio of channels removed": ("achieved_ratio", lambda value: number(value, ".3f")),
    "speed-up": ("achieved_speedup", ratio),
    "choosing, s": ("choosing_seconds", lambda value: number(value, ".1f")),
    "validation accuracy, %: before": ("val_accuracy_before", percent),
    "right after pruning": ("val_accuracy_pruned", percent),
    "fine-tuned": ("val_accuracy", percent),
}
CURVES = (
    "An arm is a technique at several budgets. Cells are test accuracies in percent at the budget requested, with 95% "
    f"intervals over seeds if there are several; in brackets the speed-up achieved if it missed the budget by more "
    f"than {TOLERANCE:.0%}."
)
CHANNELS = "Solid: channels within a block; dotted: those it hands on. A panel for each arm; means over seeds."


def curves_section(group: Group) -> Section | None:
    """The table and the figure of arms, if one has several budgets."""
    points = _pruned(group.summary)
    if points.empty or points.groupby("arm_key")["series"].nunique().max() < 2:
        return None
    reference, note = group.reference_row, ""
    if reference is not None:
        note = f" The reference, {reference['network']}, reaches {mean_cell(reference)}."
    figure = group.accuracy_figure("pruning-curves")
    return Section("Pruning curves", [Text(CURVES + note), curves_table(group.summary), *figure])


def curves_table(summary: pd.DataFrame) -> Table:
    """A row for each arm, a column for each budget."""
    found = _pruned(summary).to_dict("records")
    budgets = sorted({_budget(row) for row in found}, key=lambda budget: (list(ASKED).index(budget[0]), budget[1]))
    rows: dict[str, dict[str, str]] = {}
    for row in found:
        cells = rows.setdefault(row["arm"], {"arm": row["arm"]} | {_in_words(*budget): MISSING for budget in budgets})
        cells[requested(row)] = _cell(row)
    return Table.of(rows.values())


def pruning_section(group: Group) -> Section | None:
    """What pruning, or a control, was asked for, what it did and what it cost; None if nothing was pruned."""
    rows = _pruned(group.summary).to_dict("records")
    if not rows:
        return None
    table = ({"network": row["network"], "requested": requested(row)} | cells(row, COLUMNS) for row in rows)
    return Section("Pruning, requested and achieved", [Table.of(table)])


def channels_section(group: Group) -> Section | None:
    """The figure of channels that each layer kept; None if none were removed."""
    image = figures(f"channels{group.suffix}", "Channels kept", kept_channels(group.runs, group.summary, group.name))
    return Section("Channels kept", [Text(CHANNELS), *image]) if image else None


def _pruned(summary: pd.DataFrame) -> pd.DataFrame:
    """The last exits of pruned networks and controls, without the steps on the way to another network."""
    return summary[summary["last"] & (summary["family"] != "train") & summary["step"].isna()]


def _budget(row: Row) -> tuple[str, float]:
    """The option that was requested, and its value; the MACs achieved if the record does not say."""
    asked = [(option, value) for option in ASKED if not pd.isna(value := row.get(f"requested_{option}"))]
    return asked[0] if asked else ("macs", row["macs"])


def requested(row: Row) -> str:
    """The budget that was requested, as in ``speedup 2.50``."""
    return _in_words(*_budget(row))


def _in_words(option: str, value: float) -> str:
    return f"{option.replace('_', '-')} {value:{ASKED[option]}}"


def _cell(row: Row) -> str:
    option, asked = _budget(row)
    achieved = row["macs"] if option == "macs" else row.get(f"achieved_{option}", math.nan)
    met = option == "latency_ratio" or abs(achieved / asked - 1) <= TOLERANCE
    mean = mean_cell(row)
    return mean if met else Number(f"{mean} [{ratio(row.get('achieved_speedup'))}]", mean.value)
