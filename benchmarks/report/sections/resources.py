"""Resources: what every network, or arm, took to train and takes to keep and run; unmeasured columns are left out."""

from __future__ import annotations

from collections.abc import Callable

import pandas as pd

from benchmarks.report.group import Group
from benchmarks.report.section import Section, Table, Text
from benchmarks.results.cells import MISSING, Number, megabytes, millions, number

METHOD = (
    "Means over seeds; an arm of several budgets has one row, from its least to its most. Training MACs, own: of the "
    "run itself, and of the last step if pruning took several. Before: those of a reference, a teacher or earlier "
    "steps, sparse training included. Choosing: those of deciding what to prune. Epochs and seconds are the run's own. "
    "Peak memory of a training step is that of plain BP or, with several exits, of MW-BP's simultaneous update, "
    "whatever trained the network; what other updates, a teacher or sparse training take was not measured."
)


def _trillions(macs: float) -> str:
    return number(macs or None, ".3g", "T", scale=1e-12)


def _whole(value: float) -> str:
    return number(value, ".3g" if value < 100 else ".0f")


COLUMNS: dict[str, tuple[str, Callable[[float], str]]] = {
    "training MACs: own": ("training_macs", _trillions),
    "before": ("macs_before", _trillions),
    "choosing": ("choosing_macs", _trillions),
    "all": ("total_training_macs", _trillions),
    "epochs": ("epochs", _whole),
    "seconds": ("training_seconds", _whole),
    "parameters": ("params", millions),
    "on disk": ("bytes", megabytes),
    "activations": ("activations", millions),
    "peak memory, training step of 128": ("peak_joint_training_bytes", megabytes),
    "peak memory, inference of 1": ("peak_inference_bytes_b1", megabytes),
    "inference of 128": ("peak_inference_bytes_b128", megabytes),
}


def resources_section(group: Group) -> Section:
    """The table of training costs, sizes and memory."""
    summary = group.summary
    devices = sorted(summary["memory_device"].dropna().unique()) if "memory_device" in summary else []
    note = [Text(f"Memory was measured on: {', '.join(devices)}.")] if devices else []
    return Section("Resources", [resources_table(summary), *note], method=METHOD)


def resources_table(summary: pd.DataFrame) -> Table:
    """A row for each network; the networks of an arm share one."""
    last = summary[summary["last"] & summary["step"].isna()]
    before = last["total_training_macs"] - last["training_macs"] - last["choosing_macs"].fillna(0)
    rows = []
    for _, own in last.assign(macs_before=before).groupby("arm_key", sort=False):
        name = own["network"].iloc[0] if len(own) == 1 else f"{own['arm'].iloc[0]} ({len(own)})"
        spans = {heading: _span(own[column], form) for heading, (column, form) in COLUMNS.items() if column in own}
        rows.append({"network": name} | spans)
    return Table.of(rows)


def _span(values: pd.Series, form: Callable[[float], str]) -> str:
    """One value as in ``1.2T``, several as in ``1.2T to 3.4T``."""
    known = values.dropna()
    if known.empty:
        return MISSING
    low, high = form(known.min()), form(known.max())
    return low if low == high else Number(f"{low} to {high}", known.min())
