"""Latency by engine: every engine, precision and machine that the networks were measured with."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.measuring.bench_file import Measurement, Row, read_measurements
from benchmarks.measuring.rounds import NOISY
from benchmarks.report.group import Group
from benchmarks.report.section import Block, Section, Table, Text
from benchmarks.results.cells import MISSING, Number, number, percent
from benchmarks.results.escaping import code, inline
from benchmarks.results.lag_warnings import lag_notes
from benchmarks.results.series import series
from compress.runs import Run

QUARTILES = ("_q1", "", "_q3")
KEYS = ["engine", "precision", "series"]
METHOD = (
    "Last exits, cut out. Networks are timed in turn, round by round. The ratio is to the reference in the same round, "
    "by the same engine in the same precision: its median and, in brackets, that median's 95% interval over the rounds "
    "of this session, which says nothing of another day or machine. With several seeds: means, and the interval from "
    "the lowest to the highest end. Engines compare by milliseconds alone, which a busy machine moves. Before an "
    "engine is timed, its logits are compared with eager's in fp32. Networks may be timed with random weights, if "
    "records hold none: how long a network takes does not depend on them."
)
QUANTISED = (
    "int8: quantised after training (static, weights per channel), calibrated on held-out images, the same for all"
    "{calibration}; the accuracy was measured on the test images by the engine, and nothing was selected on it."
)
ENERGY = "Joules: median of what the machine's own counters showed for a batch, whatever else ran on it."
NOISE = f"times of the reference in one round differ by more than {NOISY:.0%} between quartiles"
NO_GPU = "GPU: not measured (`compress bench --all RUNS_DIR` on a machine with one adds it)."


def latency_section(group: Group) -> Section | None:
    """A table for each machine, number of threads and session; None without measurements."""
    found = group.latencies[group.latencies["last"]] if len(group.latencies) else group.latencies
    if found.empty:
        return None
    last = group.last.set_index("series")
    on_gpu = bool(found["device"].str.startswith("cuda").any())
    blocks: list[Block] = []
    for _, timed in found.groupby([found.apply(_place, axis=1), "session"], sort=False):
        blocks += [Text(_heading(timed, last)), _table(timed, last)]
    names = {str(key): str(name) for key, name in last["network"].items()}
    blocks += [Text(note) for note in [*lag_notes(group.runs, names), *_notes(found, on_gpu=on_gpu)]]
    return Section("Latency by engine", blocks, method=METHOD)


def _notes(found: pd.DataFrame, *, on_gpu: bool) -> list[str]:
    notes = []
    if (found["precision"] == "int8").any():
        known = found["calibration"].dropna().unique()
        notes.append(QUANTISED.format(calibration=f" ({'; '.join(known)})" if len(known) else ""))
    if found["joules"].notna().any():
        notes.append(ENERGY)
    if found["noisy"].any():
        notes.append(f"\\*: noisy: {NOISE}.")
    return notes if on_gpu else [*notes, NO_GPU]


def latencies(runs: Iterable[Run]) -> pd.DataFrame:
    """All measured latencies: a row for each run's exit, set of conditions and batch size; preferred conditions first.

    Seconds and ratios are medians with quartiles (`_q1`, `_q3`); from `low` to `high` is the interval of the ratio's
    median.
    """
    measured = [(run, measurement) for run in runs for measurement in read_measurements(run)]
    return pd.DataFrame(
        [
            _row(run, measurement, row)
            for run, measurement in sorted(measured, key=lambda pair: pair[1].conditions.preference)
            for row in measurement.rows
        ]
    )


def _row(run: Run, measurement: Measurement, row: Row) -> dict[str, Any]:
    low, high = row.get("ratio_interval") or (np.nan, np.nan)
    return {
        "run": run.id,
        "series": series(run),
        "exit": row["exit"],
        "last": row["exit"] == len(run.exits),
        "engine": measurement.engine,
        "precision": measurement.precision,
        "device": measurement.device,
        "hardware": measurement.conditions.hardware,
        "threads": measurement.threads,
        "batch": row["batch_size"],
        **{f"seconds{end}": seconds for end, seconds in zip(QUARTILES, row["seconds"], strict=True)},
        **{f"ratio{end}": ratio for end, ratio in zip(QUARTILES, row["ratio"], strict=True)},
        "low": low,
        "high": high,
        "reference": measurement.reference["run"],
        "reference_exit": measurement.reference["exit"],
        "session": measurement.session,
        "rounds": measurement.rounds,
        "noise": measurement.noise,
        "noisy": measurement.noisy,
        "drawn": measurement.drawn,
        "deviation": row.get("deviation"),
        "joules": row["joules"][1] if "joules" in row else np.nan,
        "calibration": _calibration(measurement),
        "test_accuracy": row.get("test_accuracy", np.nan),
    }


def _place(measured: pd.Series) -> str:
    threads = "" if measured["device"].startswith("cuda") else f", {measured['threads']} thread(s)"
    return inline(f"{measured['hardware']} ({measured['device'].partition(':')[0]})") + threads


def _calibration(measurement: Measurement) -> str | None:
    """As in ``500 validation images, weights of 7 bits``; None if nothing was quantised."""
    asked = measurement.calibration
    return f"{asked['images']:,} {asked['part']} images, weights of {asked['weight_bits']} bits" if asked else None


def _heading(timed: pd.DataFrame, last: pd.DataFrame) -> str:
    reference = timed["reference"].iloc[0]
    named = last.loc[last["run"] == reference, "network"]
    return f"**{_place(timed.iloc[0])}**; reference: {named.iloc[0] if len(named) else code(reference)}."


def _table(timed: pd.DataFrame, last: pd.DataFrame) -> Table:
    """A row for each network, engine and precision, with networks in the summary's order."""
    accuracies = bool(timed["test_accuracy"].notna().any())
    rows, order = [], list(last.index)
    for keys, measured in timed.groupby(KEYS, sort=False):
        engine, precision, key = map(str, keys)
        row = {
            "network": str(last.loc[key, "network"]),
            "engine": inline(f"{engine} {precision}") + ("\\*" if measured["noisy"].any() else ""),
        }
        for batch in sorted(timed["batch"].unique()):
            row |= _cells(measured[measured["batch"] == batch], int(batch))
        if accuracies:
            row["accuracy in int8, %"] = percent(measured["test_accuracy"].mean())
        rows.append((order.index(key), row))
    return Table.of(row for _, row in sorted(rows, key=lambda pair: pair[0]))


def _cells(measured: pd.DataFrame, batch: int) -> dict[str, str]:
    """Milliseconds and ratio at one batch size, over all seeds."""
    ratio, low, high = measured["ratio"].mean(), measured["low"].min(), measured["high"].max()
    interval = "" if pd.isna(low) else f" [{low:.2f}, {high:.2f}]"
    cells = {
        f"batch {batch}, ms": number(measured["seconds"].mean(), ".2f", scale=1e3),
        f"ratio, batch {batch}": MISSING if pd.isna(ratio) else Number(f"{ratio:.2f}x{interval}", ratio),
    }
    if measured["joules"].notna().any():
        cells[f"joules, batch {batch}"] = number(measured["joules"].mean(), ".3g")
    return cells
