"""Rows: a frame with a row an exit (or ensemble) of every run, and its summary over the seeds of every series."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import pandas as pd
from pandas.api.typing import SeriesGroupBy
from scipy import stats

from benchmarks.measuring.bench_file import Measurement, primary_conditions, read_measurements
from benchmarks.measuring.costs_file import read_costs
from benchmarks.results.arms import arm_key, arm_name, base_network, family
from benchmarks.results.escaping import inline
from benchmarks.results.series import exit_places, network_name, recipe_changes, series
from benchmarks.statistics.scores import CONFIDENCE
from compress.ensemble_exit import ExitName
from compress.records import Exit, Size
from compress.runs import Run

EXIT, SIZES = tuple(Exit.__annotations__), tuple(Size.__annotations__)  # fields of a record that become columns
NAMES = {"changes", "network", "arm", "base", "dataset", "recipe", "method", "latency_conditions", "memory_device"}


def rows(runs: Iterable[Run]) -> pd.DataFrame:
    """A row an exit of every run: accuracies as fractions, latencies in seconds, gaps where nothing was measured.

    `origin_macs` are those of the network that was pruned, or gave a control its size.

    Latency columns are named ``latency_b1``, ``latency_ratio_b1`` for batch 1, and so on; all runs' latencies are of
    the same conditions, since others would not compare.
    """
    measured = [(run, read_measurements(run)) for run in runs]
    primary = primary_conditions(found for _, found in measured)
    return pd.DataFrame(
        [
            row
            for run, found in measured
            for row in _rows_of(run, next((each for each in found if each.conditions == primary), None))
        ]
    )


def _rows_of(run: Run, measurement: Measurement | None) -> list[dict[str, Any]]:
    record = run.record
    results, cost = record.results, record.cost
    request, recipe, choosing = record.config["request"], record.config["recipe"], results.get("choosing", {})
    shared = {
        "run": run.id,
        "network": network_name(run),
        "series": series(run),
        "arm": arm_name(record),
        "arm_key": arm_key(run),
        "family": family(record),
        "base": base_network(record),
        "kind": record.kind,
        "method": record.method,
        "dataset": record.data["name"],
        "recipe": recipe["name"],
        "epochs": cost["epochs"],
        "learning_rate": recipe["learning_rate"],
        "weight_decay": recipe["weight_decay"],
        "changes": recipe_changes(recipe),
        "places": exit_places(record.config["spec"]),
        "seed": record.seed,
        "exits": len(run.exits),
        "training_macs": cost["training_macs"],
        "total_training_macs": math.nan if cost["total_training_macs"] is None else cost["total_training_macs"],
        "training_seconds": cost["seconds"],
        "requested": ", ".join(f"{key} {value:g}" for key, value in _sizes(results, "requested").items()),
        "total_epochs": cost["total_epochs"],
        "steps": request.get("steps", 1),
        "step": request.get("step", math.nan),  # only steps before the last have one
        "choosing_macs": choosing.get("macs", cost["choosing_macs"]),
        "choosing_seconds": choosing.get("seconds", cost["choosing_seconds"]),
        "command": record.command,
    }
    for what in ("requested", "achieved"):
        for key, value in _sizes(results, what).items():
            shared[f"{what}_{key}"] = value[1] if isinstance(value, list) else value  # the median of quartiles
    if {"achieved_speedup", "achieved_macs"} <= shared.keys():  # of every run, as the product of means is another
        shared["origin_macs"] = round(shared["achieved_speedup"] * shared["achieved_macs"])
    for key in ("val_accuracy_before", "val_accuracy_pruned"):  # of every exit; None without validation images
        if results.get(key):
            shared[key] = results[key][-1]
    latencies = _latencies(measurement) if measurement else {}
    return [
        shared | {key: exit[key] for key in EXIT if key in exit} | costs | latencies.get(exit["exit"], {})
        for exit, costs in zip(run.predictions, read_costs(run), strict=True)
    ]


def _sizes(results: dict[str, Any], what: str) -> dict[str, Any]:
    """The requested or achieved sizes that this version knows: a number each, or quartiles."""
    return {key: value for key, value in results.get(what, {}).items() if key in SIZES}


def _latencies(measurement: Measurement) -> dict[ExitName, dict[str, Any]]:
    """Median latencies and ratios by exit."""
    session = {
        "bench_session": measurement.session,
        "latency_reference": f"{measurement.reference['run']} exit {measurement.reference['exit']}",
        "latency_conditions": str(measurement.conditions),
        "latency_noisy": float(measurement.noisy),
    }
    found: dict[ExitName, dict[str, Any]] = {}
    for row in measurement.rows:
        batch = f"b{row['batch_size']}"
        found.setdefault(row["exit"], dict(session)).update(
            {f"latency_{batch}": row["seconds"][1], f"latency_ratio_{batch}": row["ratio"][1]}
        )
    return found


def summarise(frame: pd.DataFrame) -> pd.DataFrame:
    """A row an exit of every series: means over its seeds, `n`, and `last`, whether it is the network's last exit.

    `test_accuracy_sd` is the sample's standard deviation and `test_accuracy_half_width` half of the 95% interval by
    Student's t over seeds, which covers training and not the choice of test images; both are missing with one seed.
    Names are escaped for Markdown and made distinct.
    """
    grouped = frame.groupby(["series", "exit"], sort=False)
    first = grouped.first().assign(**grouped.mean(numeric_only=True))
    accuracy = grouped["test_accuracy"]
    first["n"] = grouped["run"].nunique()
    if "bench_session" in frame:  # ratios to different references have no mean
        mixed = grouped["bench_session"].nunique() > 1
        for column in [str(column) for column in first if str(column).startswith(("latency_", "bench_session"))]:
            first[column] = first[column].mask(mixed)
    first["test_accuracy_half_width"] = half_width(accuracy)
    first["test_accuracy_sd"] = accuracy.std()
    first["last"] = first.index.get_level_values("exit") == first["exits"]
    for column in NAMES & set(first):
        first[column] = first[column].map(inline, na_action="ignore")
    return _with_distinct_names(first.reset_index())


def half_width(values: SeriesGroupBy[Any, Any]) -> pd.Series:
    """Half of the 95% interval of every group's mean, by Student's t; missing for groups of one value."""
    return values.sem() * stats.t.ppf((1 + CONFIDENCE) / 2, values.count() - 1)


def _with_distinct_names(frame: pd.DataFrame) -> pd.DataFrame:
    """Names made distinct where series, or arms, share one, by what most often differs, else by a run's digest."""
    protocol = frame["recipe"] + ", " + frame["epochs"].astype(int).astype(str) + " epochs"
    rates = "rate " + frame["learning_rate"].map("{:g}".format) + ", decay " + frame["weight_decay"].map("{:g}".format)
    digest = frame["run"].str.rpartition("_")[2].map(inline)
    further = (protocol, rates, frame["changes"], frame["places"], digest)
    return frame.assign(
        network=_distinct(frame["network"], frame["series"], (frame["requested"], *further)),
        arm=_distinct(frame["arm"], frame["arm_key"], (frame["base"], *further)),
    )


def _distinct(names: pd.Series, keys: pd.Series, additions: Iterable[pd.Series]) -> pd.Series:
    """The names, with additions until no two keys share one; rows of one key keep one name."""
    for addition in additions:
        shared = keys.groupby(names).transform("nunique") > 1
        same = addition.groupby(keys).transform("first")
        helps = same.groupby(names).transform("nunique") > 1
        names = names.where(~(shared & helps & (same != "")), names + " (" + same + ")")
    return names


def names_by_series(summary: pd.DataFrame) -> dict[str, str]:
    """The name of every series' network in a summary."""
    return dict(zip(summary["series"], summary["network"], strict=True))


def reference_of(frame: pd.DataFrame) -> str | None:
    """The series that others are compared with by default: the costliest network trained by plain BP, if any."""
    plain = frame[(frame["method"] == "bp") & (frame["kind"] == "train")]
    return None if plain.empty else str(plain.sort_values("macs")["series"].iloc[-1])
