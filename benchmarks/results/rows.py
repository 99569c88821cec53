"""Tables: finished runs to frames of numbers, runs that differ by seed alone summed up, frames to Markdown."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from typing import Any

import pandas as pd
from scipy import stats

from benchmarks.measuring.measurements import Measurement, primary_conditions, read_measurements
from benchmarks.measuring.memory import read_costs
from benchmarks.results.arms import arm_key, arm_name, base_network, family
from benchmarks.results.escaping import inline
from benchmarks.statistics.scores import CONFIDENCE
from compress.networks import Spec, display_name
from compress.records import Exit, Size, digest_of, without_seed
from compress.runs import Run

EXIT, SIZES = Exit.__struct_fields__, Size.__struct_fields__  # of what a record says
SHOWN = {"network", "arm", "base", "dataset", "recipe", "method", "latency_conditions", "memory_device"}  # names


def rows(runs: Iterable[Run]) -> pd.DataFrame:
    """One raw row an exit of every run: accuracies as fractions, latencies in seconds, gaps where not measured.

    Latency columns are named ``latency_b1``, ``latency_ratio_b1`` for batch 1, and so on.
    """
    runs = list(runs)
    measured = [read_measurements(run) for run in runs]
    primary = primary_conditions(measured)  # the same for all: others would not compare
    chosen = [next((one for one in found if one.conditions == primary), None) for found in measured]
    return pd.DataFrame([row for run, one in zip(runs, chosen, strict=True) for row in _rows_of(run, one)])


def _rows_of(run: Run, measurement: Measurement | None) -> list[dict[str, Any]]:
    record = run.record
    request, choosing = record.config.get("request", {}), record.results.get("choosing", {})
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
        "recipe": record.config["recipe"]["name"],
        "epochs": record.cost["epochs"],
        "learning_rate": record.config["recipe"]["learning_rate"],
        "weight_decay": record.config["recipe"]["weight_decay"],
        "seed": record.seed,
        "exits": len(run.exits),
        "training_macs": record.cost.get("training_macs", math.nan),
        "total_training_macs": record.cost["total_training_macs"],
        "training_seconds": record.cost["seconds"],
        "requested": ", ".join(
            f"{key} {value:g}" for key, value in _figures(record.results.get("requested", {})).items()
        ),
        "total_epochs": record.cost.get("total_epochs", math.nan),
        "steps": request.get("steps", 1),
        "step": request.get("step", math.nan),  # of those before the last
        "choosing_macs": choosing.get("macs", record.cost.get("choosing_macs", math.nan)),
        "choosing_seconds": choosing.get("seconds", record.cost.get("choosing_seconds", math.nan)),
        "command": record.command,
    }
    for what in ("requested", "achieved"):
        sizes = _figures(record.results.get(what, {}))
        shared |= {f"{what}_{key}": value[1] if isinstance(value, list) else value for key, value in sizes.items()}
    for key in ("val_accuracy_before", "val_accuracy_pruned"):  # one an exit; None without validation images
        if record.results.get(key):
            shared[key] = record.results[key][-1]
    latencies = _latencies(measurement) if measurement else {}
    return [
        shared | {key: exit[key] for key in EXIT if key in exit} | costs | latencies.get(exit["exit"], {})
        for exit, costs in zip(run.exits, read_costs(run), strict=True)
    ]


def _figures(values: dict[str, Any]) -> dict[str, Any]:
    """What is known of sizes: a number, or quartiles; what a later version adds may be anything."""
    return {key: value for key, value in values.items() if key in SIZES}


def network_name(run: Run) -> str:
    """What reports call a run's network: ``MwResNet-44-5``, or ``ResNet-110, l1 2.60x`` for a pruned one.

    How it was trained is said where it is neither plain BP nor MW-BP in its default form.
    """
    name = display_name(Spec.from_json(run.record.config["spec"]))
    if family(run.record) != "train":
        speedup = run.record.results.get("achieved", {}).get("speedup")
        return f"{name}, {arm_name(run.record)}" + ("" if speedup is None else f" {speedup:.2f}x")
    if run.record.method not in ("bp", "mwbp"):
        return f"{name}, {run.record.method}"
    return f"{name}, sequential" if run.record.config["objective"]["update"] == "sequential" else name


def distinct_names(runs: Iterable[Run]) -> dict[str, str]:
    """What a report on these runs calls each one's network, by run; runs that differ by seed alone share a name."""
    runs = list(runs)
    summary = summarise(rows(runs)) if runs else pd.DataFrame(columns=["series", "network"])
    names = dict(zip(summary["series"], summary["network"], strict=True))
    return {run.id: names[series(run)] for run in runs}


def series(run: Run) -> str:
    """What runs share that differ by their seed alone: all of the configuration but the seed (a parent's too)."""
    return json.dumps(without_seed(run.record.config), sort_keys=True)


def distinct_runs(runs: Iterable[Run]) -> tuple[list[Run], list[str]]:
    """The runs, of those with the same configuration, images and seed one alone; and a line on every other.

    The same training again is no further seed, be it a copy or made on another machine. Of several that one counts
    whose id is its configuration's, else the first by length and id.
    """
    runs, counted = list(runs), dict[str, Run]()
    for run in sorted(runs, key=_renamed):
        counted.setdefault(_unit(run), run)
    repeated = [(run, counted[_unit(run)]) for run in runs if run is not counted[_unit(run)]]
    return [run for run in runs if run is counted[_unit(run)]], [_repeats(*pair) for pair in repeated]


def _renamed(run: Run) -> tuple[bool, int, str]:
    """What sorts a run under the id that its configuration gave it before its copies under other names."""
    return not run.id.endswith(digest_of(run.record.config)), len(run.id), run.id


def _unit(run: Run) -> str:
    data = run.record.data
    return json.dumps([series(run), run.record.seed, data["digest"], data["split"]], sort_keys=True)


def _repeats(run: Run, counted: Run) -> str:
    """Why a run is left out for another."""
    if run.record.parent != counted.record.parent:
        what = f"pruned from {run.record.parent}, not {counted.record.parent}: give each its parent's --seed"
    elif run.record.results == counted.record.results:
        what = "a copy"
    else:
        what = "trained again, with other results"
    return f"run {run.id}: configuration, images and seed of {counted.id}, which alone counts ({what})"


def configuration(key: str) -> dict[str, Any]:
    """The configuration that a series shares, without the seed."""
    config: dict[str, Any] = json.loads(key)
    return config


def _latencies(measurement: Measurement) -> dict[int, dict[str, Any]]:
    """Median latencies and ratios by exit."""
    session = {
        "bench_session": measurement.session,
        "latency_reference": f"{measurement.reference['run']} exit {measurement.reference['exit']}",
        "latency_conditions": str(measurement.conditions),
        "latency_noisy": float(measurement.noisy),
    }
    found: dict[int, dict[str, Any]] = {}
    for row in measurement.rows:
        batch = f"b{row['batch_size']}"
        found.setdefault(row["exit"], dict(session)).update(
            {f"latency_{batch}": row["seconds"][1], f"latency_ratio_{batch}": row["ratio"][1]}
        )
    return found


def summarise(frame: pd.DataFrame) -> pd.DataFrame:
    """One row an exit of every series: means over its seeds, `n`, accuracy's deviation and half of its 95% interval.

    Names are as Markdown shows them.

    Both are missing with one seed. The deviation is the sample's, the interval Student's t over seeds, which covers
    training and not the choice of test images.
    """
    grouped = frame.groupby(["series", "exit"], sort=False)
    first = grouped.first()
    numbers = grouped.mean(numeric_only=True)
    for column in numbers:
        first[column] = numbers[column]
    accuracy = grouped["test_accuracy"]
    first["n"] = grouped["run"].nunique()
    if "bench_session" in frame:  # ratios to different references have no mean
        mixed = grouped["bench_session"].nunique() > 1
        for column in [str(column) for column in first if str(column).startswith(("latency_", "bench_session"))]:
            first[column] = first[column].mask(mixed)
    first["test_accuracy_half_width"] = accuracy.sem() * stats.t.ppf((1 + CONFIDENCE) / 2, first["n"] - 1)
    first["test_accuracy_sd"] = accuracy.std()
    first["last"] = first.index.get_level_values("exit") == first["exits"]
    for column in SHOWN & set(first):
        first[column] = first[column].map(inline, na_action="ignore")
    return _with_distinct_names(first.reset_index())


def _with_distinct_names(frame: pd.DataFrame) -> pd.DataFrame:
    """Names made distinct where series, or arms, share one, by what most often differs, else by a run's digest."""
    protocol = frame["recipe"] + ", " + frame["epochs"].astype(int).astype(str) + " epochs"
    rates = "rate " + frame["learning_rate"].map("{:g}".format) + ", decay " + frame["weight_decay"].map("{:g}".format)
    digest = frame["run"].str.rpartition("_")[2].map(inline)
    frame = frame.assign(
        network=_distinct(frame["network"], frame["series"], (frame["requested"], protocol, rates, digest))
    )
    frame["arm"] = _distinct(frame["arm"], frame["arm_key"], (frame["base"], protocol, rates, digest))
    return frame


def _distinct(names: pd.Series, keys: pd.Series, additions: Iterable[pd.Series]) -> pd.Series:
    """The names, where several keys share one with additions behind them until none do; of a key always the same."""
    for addition in additions:
        shared = keys.groupby(names).transform("nunique") > 1
        same = addition.groupby(keys).transform("first")
        helps = same.groupby(names).transform("nunique") > 1
        names = names.where(~(shared & helps), names + " (" + same + ")")
    return names


def reference_of(frame: pd.DataFrame) -> str | None:
    """The series that others are compared with: the costliest network trained by plain BP, if there is any."""
    plain = frame[(frame["method"] == "bp") & (frame["kind"] == "train")]
    return None if plain.empty else str(plain.sort_values("macs")["series"].iloc[-1])
