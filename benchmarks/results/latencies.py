"""Latencies: every measurement of finished runs as a frame, a row for each exit, set of conditions and batch size."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.measuring.bench_file import Measurement, Row, read_measurements
from benchmarks.results.series import series
from compress.runs import Run

QUARTILES = ("_q1", "", "_q3")


def latencies(runs: Iterable[Run]) -> pd.DataFrame:
    """All that was measured, preferred conditions first.

    Seconds and ratios are medians with quartiles (`_q1`, `_q3`); from `low` to `high` is the interval of the ratio's
    median. Without measurements the frame has no columns.
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


def _calibration(measurement: Measurement) -> str | None:
    """As in ``500 validation images, weights of 7 bits``; None if nothing was quantised."""
    asked = measurement.calibration
    return f"{asked['images']:,} {asked['part']} images, weights of {asked['weight_bits']} bits" if asked else None
