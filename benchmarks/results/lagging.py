"""Lag: pruned networks whose MACs fell where their latency did not, as measured in one session."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from baselines.macs_vs_latency import lags, remedy
from benchmarks.measuring.measurements import read_measurements
from benchmarks.results.arms import technique
from benchmarks.results.rows import network_name, series
from compress.records import without_seed
from compress.runs import Run

SHARED = ("session", "device", "threads", "engine", "precision", "batch_size")  # by what is measured together
Rows = Iterable[Mapping[str, Any]]


@dataclass(frozen=True)
class Lag:
    """A pruned network at one engine, precision and batch size: how many times fewer MACs, how many times faster."""

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


def lag_warnings(runs: Sequence[Run], rows: Rows) -> list[str]:
    """A line on every pruned network that lags behind what it was pruned from, and on what may help."""
    found: dict[str, list[Lag]] = defaultdict(list)
    for lag in lagging(runs, rows):
        found[lag.run.id].append(lag)
    return [
        f"{network_name(first.run)}: MACs {first.speedup:.2f} times fewer, {', '.join(map(str, (first, *others)))}: "
        f"{first.remedy}"
        for first, *others in found.values()
    ]


def lag_notes(runs: Sequence[Run], names: Mapping[str, str]) -> list[str]:
    """The same as a paragraph of a report: of every engine, precision and batch size how many lag, and which most.

    Args:
        names: of networks, by their series.
    """
    rows = [
        {"run": run.id, **{key: getattr(one, key) for key in SHARED if hasattr(one, key)}, **row}
        for run in runs
        for one in read_measurements(run)
        for row in one.rows
    ]
    found = sorted(lagging(runs, rows), key=lambda lag: lag.faster**2 / lag.speedup)
    groups: dict[str, dict[str, Lag]] = defaultdict(dict)
    for lag in found:
        groups[lag.conditions].setdefault(names[series(lag.run)], lag)
    if not found:
        return []
    parts = [f"{conditions}: {_most(own)}" for conditions, own in sorted(groups.items())]
    about = "**MACs fell where latency hardly did**: faster by less than the root of the fall in MACs."
    return [f"{about} {'; '.join(parts)}. To try: {found[0].remedy}."]


def lagging(runs: Sequence[Run], rows: Rows) -> Iterator[Lag]:
    """Where a pruned network's latency fell by less than the root of its MACs, both against what it was pruned from.

    Args:
        rows: of `bench`, with what they share where they are of several sessions.
    """
    at = {(*(row.get(key) for key in SHARED), row["run"], row["exit"]): row for row in rows}
    for run in runs:
        wholes = _wholes(run, runs)
        for (*shared, id, exit), row in at.items():
            if (id, exit) != (run.id, len(run.exits)):
                continue
            for whole in (at[*shared, *one] for one in wholes if (*shared, *one) in at):
                speedup, (fastest, middle, _) = whole["macs"] / row["macs"], row["ratio"]
                if lags(speedup, fastest / whole["ratio"][1]):
                    conditions = f"{row['engine']} {row['precision']}, batch {row['batch_size']}"
                    yield Lag(run, conditions, speedup, whole["ratio"][1] / middle)


def _most(own: Mapping[str, Lag]) -> str:
    """How many there are, and the first, as in ``2 networks, most of all A (2.60 times fewer, 1.20 times as fast)``."""
    name, lag = next(iter(own.items()))
    count = "" if len(own) == 1 else f"{len(own)} networks, most of all "
    return f"{count}{name} ({lag.speedup:.2f} times fewer, {lag.faster:.2f} times as fast)"


def _wholes(run: Run, runs: Sequence[Run]) -> list[tuple[str, int]]:
    """What a run was pruned from: which run's which exit, of the same seed."""
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
