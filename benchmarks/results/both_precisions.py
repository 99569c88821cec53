"""Both precisions: what bench measured of networks in int8, beside the same networks in fp32."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from benchmarks.measuring.bench_file import Conditions, Row, primary_conditions, read_measurements
from benchmarks.results.rows import half_width
from benchmarks.statistics.paired_difference import PairedDifference
from compress.ensemble_exit import ExitName
from compress.runs import Run

KEY, SIZES = ["series", "exit"], ("bytes", "fp32_bytes")
PRECISIONS = FP32, INT8 = ("fp32", "int8")


def measured_in_int8(runs: Sequence[Run]) -> tuple[dict[tuple[str, ExitName], Row], Conditions | None]:
    """What was measured in int8, by run and exit, and under which conditions: of several those of most runs.

    Without measurements the conditions are None.
    """
    found = {run.id: [each for each in read_measurements(run, untimed=True) if each.precision == INT8] for run in runs}
    primary = primary_conditions(found.values())
    measured = {
        (id, row["exit"]): row
        for id, own in found.items()
        for measurement in own
        if measurement.conditions == primary
        for row in measurement.rows
    }
    return measured, primary


def both_precisions(
    summary: pd.DataFrame, frame: pd.DataFrame, measured: Mapping[tuple[str, ExitName], Row], images: int
) -> pd.DataFrame:
    """A row for every exit of a summary in fp32 and, where it was measured, one in int8, by `precision`.

    `bytes` are of the ONNX file, missing where int8 was not measured, or by an earlier version. Rows in int8 have their
    own accuracy, interval and number of seeds, and the `change` from fp32, seed by seed, with its interval from
    `change_low` to `change_high`.

    Args:
        summary, frame: as `rows.summarise` and `rows.rows` return them.
        measured: as `measured_in_int8` returns it.
        images: the number of test images.
    """
    found = [measured.get(key) for key in zip(frame["run"], frame["exit"], strict=True)]
    seeds = frame[[*KEY, "test_accuracy"]].copy()
    for column, field in {INT8: "test_accuracy", **{size: size for size in SIZES}}.items():
        seeds[column] = np.array([row.get(field) if row else None for row in found], dtype=float)
    grouped = seeds.dropna(subset=INT8).groupby(KEY, sort=False)
    accuracy, sizes = grouped[INT8], grouped[[*SIZES]].mean()
    changes = [_change(own[INT8] - own["test_accuracy"], images) for _, own in grouped]
    quantised = pd.DataFrame(
        {"test_accuracy": accuracy.mean(), "test_accuracy_half_width": half_width(accuracy), "n": accuracy.count()}
    )
    quantised[["change", "change_low", "change_high"]] = np.array(changes).reshape(-1, 3)
    whole = summary.set_index(KEY)
    same = whole.drop(columns=[*quantised, "bytes"], errors="ignore")
    fp32 = whole.assign(precision=FP32, bytes=sizes["fp32_bytes"])
    int8 = same.assign(precision=INT8, bytes=sizes["bytes"]).join(quantised, how="inner")
    return pd.concat([fp32, int8]).reset_index()


def _change(values: pd.Series, images: int) -> tuple[float, float, float]:
    """The mean of the seeds' changes and its interval, which is infinite for one seed."""
    found = PairedDifference(values=values.to_numpy(dtype=float), step=1 / images)
    return found.estimate, *found.interval()
