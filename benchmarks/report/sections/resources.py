"""Costs: what every network, or arm, took to make and takes to keep and run; what was not measured is left out."""

from __future__ import annotations

from collections.abc import Callable

import pandas as pd

from benchmarks.results.cells import MISSING, markdown, megabytes, millions, number

MADE = (
    "Training MACs: own, forward passes once and backward passes twice, of the last step where pruning took several; "
    "before, those of a reference, a teacher or earlier steps, sparse training among them; choosing, those that "
    "deciding what to prune took. Epochs and seconds are the run's own. Means over seeds; an arm of several budgets "
    "has one row, from its least to its most."
)
TRAINING_STEP = "peak memory, training step of 128"
STEP = (
    "Peak memory of a training step is that of plain BP or, with several exits, of MW-BP's simultaneous update, "
    "whatever trained the network: what other updates, a teacher or sparse training take was not measured."
)


def costs_section(summary: pd.DataFrame) -> list[str]:
    """The table of costs and what it means."""
    table = costs_table(summary)
    devices = summary["memory_device"].dropna().unique() if "memory_device" in summary else ()
    memory = f" {STEP} Memory is that of: {', '.join(sorted(devices))}." if TRAINING_STEP in table else ""
    return ["### Cost", markdown(table), MADE + memory]


def costs_table(summary: pd.DataFrame) -> pd.DataFrame:
    """A row a network, those of an arm in one, as text."""
    last = summary[summary["last"] & summary["step"].isna()].assign(macs_before=_before)
    groups = last.groupby("arm_key", sort=False)
    names = [own["network"].iloc[0] if len(own) == 1 else f"{own['arm'].iloc[0]} ({len(own)})" for _, own in groups]
    columns = {"network": names}
    for heading, (column, form) in _COLUMNS.items():
        if column in last and last[column].notna().any() and (last[column] != 0).any():
            columns[heading] = [_span(own[column], form) for _, own in groups]
    return pd.DataFrame(columns)


def _before(last: pd.DataFrame) -> pd.Series:
    return last["total_training_macs"] - last["training_macs"] - last["choosing_macs"].fillna(0)


def _span(values: pd.Series, form: Callable[[float], str]) -> str:
    """As in ``1.2T``, of several ``1.2T to 3.4T``; one of a kind is not repeated."""
    known = values.dropna()
    if known.empty:
        return MISSING
    return " to ".join(dict.fromkeys(form(float(value)) for value in (known.min(), known.max())))


def _trillions(macs: float) -> str:
    return number(macs / 1e12, ".3g", "T") if macs else "0"


def _whole(value: float) -> str:
    return number(value, ".3g" if value < 100 else ".0f")


_COLUMNS: dict[str, tuple[str, Callable[[float], str]]] = {
    "training MACs: own": ("training_macs", _trillions),
    "before": ("macs_before", _trillions),
    "choosing": ("choosing_macs", _trillions),
    "all": ("total_training_macs", _trillions),
    "epochs": ("epochs", _whole),
    "seconds": ("training_seconds", _whole),
    "parameters": ("params", millions),
    "on disk": ("bytes", megabytes),
    "activations": ("activations", millions),
    TRAINING_STEP: ("peak_joint_training_bytes", megabytes),
    "peak memory, inference of 1": ("peak_inference_bytes_b1", megabytes),
    "inference of 128": ("peak_inference_bytes_b128", megabytes),
}
