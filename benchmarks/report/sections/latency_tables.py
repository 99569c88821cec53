"""The report's section on latency: every engine and precision that the networks were measured with."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.measuring.bench_file import Measurement, read_measurements
from benchmarks.measuring.rounds import NOISY
from benchmarks.results.cells import MISSING, markdown, number, percent
from benchmarks.results.escaping import code, inline
from benchmarks.results.lag_warnings import lag_notes
from benchmarks.results.series import series
from compress.runs import Run

QUARTILES = ("_q1", "", "_q3")
KEYS = ["engine", "precision", "series"]
EXPLAINED = (
    "Last exits, cut out. Networks are timed in turn, round by round; the ratio is to the reference in the same round, "
    "by the same engine in the same precision: its median{interval}.{agreement} Engines compare by their milliseconds "
    "alone, which a busy machine moves. Of several seeds: means{ends}."
)
INTERVAL = (
    " and that median's 95% interval over the rounds of this session (which says nothing of another day or machine)"
)
AGREEMENT = " Before it is timed, an engine's logits are compared with eager's in fp32."
ENDS = ", and the interval from the lowest to the highest end"
ENERGY = "Joules: median of what the machine's own counters showed for a batch, whatever else ran on it."
QUANTISED = (
    "int8: quantised after training (static, weights a channel), calibrated on held-out images, the same for all"
    "{calibration}; its accuracy was measured on the test images by the engine, and nothing was selected on it."
)
NOISE = f"times of the reference in one round differ by more than {NOISY:.0%} between quartiles"
DRAWN = (
    "Some networks were timed with weights just drawn, as records hold none; how long a network takes does not depend "
    "on them."
)
NO_GPU = "GPU: not measured (`compress bench --all RUNS_DIR` on a machine with one adds it)."


def latency_section(runs: Sequence[Run], summary: pd.DataFrame) -> list[str]:
    """Paragraphs of Markdown, a table for every machine, number of threads and session; nothing without measurements.

    Args:
        summary: of these runs, as `benchmarks.results.rows.summarise` returns it; its names and order are the tables'.
    """
    every = latencies(runs)
    found = every[every["last"]] if len(every) else every
    if found.empty:
        return []
    intervals, compared = found["low"].notna().any(), found["deviation"].notna().any()
    explained = EXPLAINED.format(
        interval=INTERVAL if intervals else "", agreement=AGREEMENT if compared else "", ends=ENDS if intervals else ""
    )
    parts = ["### Latency by engine", explained]
    if (found["precision"] == "int8").any():
        known = found["calibration"].dropna().unique()
        parts.append(QUANTISED.format(calibration=f" ({'; '.join(known)})" if len(known) else ""))
    if found["joules"].notna().any():
        parts.append(ENERGY)
    last = summary[summary["last"]].set_index("series")
    on_gpu = bool(found["device"].str.startswith("cuda").any())
    for _, group in found.groupby([found.apply(_place, axis=1), "session"], sort=False):
        parts += [_heading(group, last), markdown(_table(group, last, on_gpu=on_gpu))]
    parts += lag_notes(runs, {str(key): str(name) for key, name in last["network"].items()})
    if found["noisy"].any():
        parts.append(f"*: noisy: {NOISE}.")
    if found["drawn"].any():
        parts.append(DRAWN)
    if not on_gpu:
        parts.append(NO_GPU)
    return parts


def latencies(runs: Iterable[Run]) -> pd.DataFrame:
    """All that was measured, a row a run's exit, set of conditions and batch size; preferred conditions first.

    Seconds and ratios are medians with quartiles (`_q1`, `_q3`); from `low` to `high` is the interval of the ratio's
    median.
    """
    measured = [(run, one) for run in runs for one in read_measurements(run)]
    return pd.DataFrame(
        [
            _row(run, one, row)
            for run, one in sorted(measured, key=lambda pair: pair[1].conditions.preference)
            for row in one.rows
        ]
    )


def _row(run: Run, measurement: Measurement, row: dict[str, Any]) -> dict[str, Any]:
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
        "joules": row.get("joules", [np.nan] * 3)[1],
        "calibration": _calibration(measurement),
        "test_accuracy": row.get("test_accuracy", np.nan),
    }


def _place(measured: pd.Series) -> str:
    threads = "" if measured["device"].startswith("cuda") else f", {measured['threads']} thread(s)"
    return inline(f"{measured['hardware']} ({measured['device'].partition(':')[0]})") + threads


def _calibration(measurement: Measurement) -> str | None:
    """As in ``500 validation images, weights of 7 bits``; None of what was not quantised."""
    asked = measurement.calibration
    return f"{asked['images']:,} {asked['part']} images, weights of {asked['weight_bits']} bits" if asked else None


def _heading(group: pd.DataFrame, last: pd.DataFrame) -> str:
    reference = group["reference"].iloc[0]
    named = last.loc[last["run"] == reference, "network"]
    return f"**{_place(group.iloc[0])}**; reference: {named.iloc[0] if len(named) else code(reference)}."


def _table(group: pd.DataFrame, last: pd.DataFrame, *, on_gpu: bool) -> pd.DataFrame:
    """A row a network, engine and precision, networks in the summary's order; what a GPU adds is a table of its own."""
    accuracies = bool(group["test_accuracy"].notna().any())
    rows = []
    for key, measured in group.groupby(KEYS, sort=False):
        engine, precision, network = map(str, key)
        row = {
            "network": last.loc[network, "network"],
            "engine": inline(f"{engine} {precision}") + ("*" if measured["noisy"].any() else ""),
        }
        for batch in sorted(group["batch"].unique()):
            row |= _cells(measured[measured["batch"] == batch], int(batch))
        if accuracies:
            row["accuracy in int8, %"] = percent(measured["test_accuracy"].mean())
        if not on_gpu:
            row["on a GPU"] = "not measured"
        rows.append((list(last.index).index(network), row))
    return pd.DataFrame([row for _, row in sorted(rows, key=lambda pair: pair[0])])


def _cells(measured: pd.DataFrame, batch: int) -> dict[str, str]:
    """Milliseconds and ratio at one batch size, of all seeds."""
    ratio, low, high = measured["ratio"].mean(), measured["low"].min(), measured["high"].max()
    interval = MISSING if pd.isna(ratio) else f"{ratio:.2f}x"
    if not pd.isna(low):
        interval += f" [{low:.2f}, {high:.2f}]"
    energy = {} if measured["joules"].isna().all() else {f"joules, batch {batch}": f"{measured['joules'].mean():.3g}"}
    return {
        f"batch {batch}, ms": number(1e3 * measured["seconds"].mean(), ".2f"),
        f"ratio, batch {batch}": interval,
        **energy,
    }
