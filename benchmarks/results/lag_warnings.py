"""Lag warnings: pruned networks whose MACs fell but whose latency hardly did, by `baselines.macs_vs_latency`."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from baselines.macs_vs_latency import lags, remedy
from benchmarks.measuring.bench_file import read_measurements
from benchmarks.results.arms import technique
from benchmarks.results.series import network_name, series
from compress.console import console
from compress.records import without_seed
from compress.runs import Run

SHARED = ("session", "device", "threads", "engine", "precision", "batch_size")  # of rows that compare
Rows = Iterable[Mapping[str, Any]]


@dataclass(frozen=True)
class Lag:
    """A pruned network that lags at one engine, precision and batch size.

    Attributes:
        speedup: MACs before, divided by MACs after.
        faster: latency before, divided by latency after.
    """

    run: Run
    conditions: str
    speedup: float
    faster: float

    @property
    def remedy(self) -> str:
        """What may help."""
        return remedy(technique(self.run.record.config), self.run.spec)

    def __str__(self) -> str:
        """As in ``1.10 times as fast (eager fp32, batch 1)``."""
        return f"{self.faster:.2f} times as fast ({self.conditions})"


def warn_of_lag(runs: Sequence[Run], rows: Rows) -> None:
    """Print a line on every pruned network that lags behind the network it was pruned from, and what may help."""
    found: dict[str, list[Lag]] = defaultdict(list)
    for lag in lagging(runs, rows):
        found[lag.run.id].append(lag)
    for first, *others in found.values():
        faster = ", ".join(map(str, (first, *others)))
        console.print(f"{network_name(first.run)}: MACs {first.speedup:.2f} times fewer, {faster}: {first.remedy}")


def lag_notes(runs: Sequence[Run], names: Mapping[str, str]) -> list[str]:
    """A paragraph of a report: how many networks lag by engine, precision and batch size, and which lags most.

    Args:
        names: of networks, by their series.
    """
    rows = [
        {"run": run.id, **{key: getattr(measurement, key) for key in SHARED[:-1]}, **row}
        for run in runs
        for measurement in read_measurements(run)
        for row in measurement.rows
    ]
    found = sorted(lagging(runs, rows), key=lambda lag: lag.faster**2 / lag.speedup)
    if not found:
        return []
    groups: dict[str, dict[str, Lag]] = defaultdict(dict)
    for lag in found:
        groups[lag.conditions].setdefault(names[series(lag.run)], lag)
    parts = [f"{conditions}: {_most(lags_by_name)}" for conditions, lags_by_name in sorted(groups.items())]
    about = "**MACs fell where latency hardly did**: faster by less than the root of the fall in MACs."
    return [f"{about} {'; '.join(parts)}. To try: {found[0].remedy}."]


def lagging(runs: Sequence[Run], rows: Rows) -> Iterator[Lag]:
    """Where a pruned network's latency fell by less than the root of its MACs, relative to the network before pruning.

    Args:
        rows: as `bench` returns them; those that were not timed are passed over. Rows of several sessions say which
            with the keys in `SHARED`.
    """
    timed = (row for row in rows if "ratio" in row)
    at = {(*(row.get(key) for key in SHARED), row["run"], row["exit"]): row for row in timed}
    for run in runs:
        origins = _origins(run, runs)
        for (*shared, id, exit), row in at.items():
            if (id, exit) != (run.id, len(run.exits)):
                continue
            for before in (at[*shared, *origin] for origin in origins if (*shared, *origin) in at):
                speedup, (fastest, middle, _) = before["macs"] / row["macs"], row["ratio"]
                if lags(speedup, fastest / before["ratio"][1]):
                    conditions = f"{row['engine']} {row['precision']}, batch {row['batch_size']}"
                    yield Lag(run, conditions, speedup, before["ratio"][1] / middle)


def _most(lags_by_name: Mapping[str, Lag]) -> str:
    """Their number and the first, as in ``2 networks, most of all A (2.60 times fewer, 1.20 times as fast)``."""
    name, lag = next(iter(lags_by_name.items()))
    count = "" if len(lags_by_name) == 1 else f"{len(lags_by_name)} networks, most of all "
    return f"{count}{name} ({lag.speedup:.2f} times fewer, {lag.faster:.2f} times as fast)"


def _origins(run: Run, runs: Sequence[Run]) -> list[tuple[str, int]]:
    """Runs and exits of the same seed that the run was pruned from."""
    achieved, config, before = run.record.results.get("achieved", {}), run.record.config, []
    if not {"speedup", "macs"} <= achieved.keys():
        return []
    while config := config.get("reference") or {}:
        before.append(config)
    macs = round(achieved["speedup"] * achieved["macs"])
    return [
        (other.id, exit["exit"])
        for other in runs
        if other.record.seed == run.record.seed and without_seed(other.record.config) in before
        for exit in other.exits
        if exit["macs"] == macs
    ]
