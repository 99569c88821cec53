"""Latency by engine: every engine, precision and machine that the networks were measured with."""

from __future__ import annotations

import pandas as pd

from benchmarks.measuring.rounds import NOISY
from benchmarks.report.group import Group
from benchmarks.report.section import Block, Section, Table, Text
from benchmarks.results.cells import MISSING, Number, number, percent
from benchmarks.results.escaping import code, inline
from benchmarks.results.lag_warnings import lag_notes

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
        notes.append(QUANTISED.format(calibration=f" ({inline('; '.join(known))})" if len(known) else ""))
    if found["joules"].notna().any():
        notes.append(ENERGY)
    if found["noisy"].any():
        notes.append(f"\\*: noisy: {NOISE}.")
    return notes if on_gpu else [*notes, NO_GPU]


def _place(measured: pd.Series) -> str:
    threads = "" if measured["device"].startswith("cuda") else f", {measured['threads']} thread(s)"
    return inline(f"{measured['hardware']} ({measured['device'].partition(':')[0]})") + threads


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
