"""`compress bench --all`: all finished runs of a directory, measured by every engine and precision available here."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from benchmarks.measuring.candidates import Candidate, candidates
from benchmarks.measuring.costs_file import record_costs
from benchmarks.measuring.engines import engines_here
from benchmarks.measuring.latency import ROUNDS, Session, check_numbers
from compress.console import console
from compress.documents import read_kept, refuse_read_only
from compress.errors import UsageError, checked, reason
from compress.export.held_out import open_held_out
from compress.hardware import resolve_device
from compress.runs import COMPARISON, RECORDS, WEIGHTS, Run, finished_runs


@dataclass(frozen=True, kw_only=True)
class Measured:
    """What `bench_all` measured.

    Attributes:
        runs: all runs of which something was measured.
        rows: as `bench` returns them.
        skipped: a line on every run, and every engine and precision, that was not measured, with the reason.
    """

    runs: list[Run] = field(default_factory=list)
    rows: list[dict[str, Any]] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)

    @contextlib.contextmanager
    def attempting(self, what: str) -> Iterator[None]:
        """Turn an error into a line of `skipped`, and go on."""
        try:
            yield
        except Exception as error:  # of any kind: a failure must not cost the measurements of a whole night
            self.skipped.append(f"{what}: {reason(error).removeprefix(f'{what}: ')}")


@checked
def bench_all(
    directory: Path,
    *,
    batch_sizes: Sequence[int] = (1, 128),
    device: str = "auto",
    threads: int = 1,
    rounds: int = ROUNDS,
    data_dir: Path | None = None,
) -> Measured:
    """Measure all finished runs of a directory with all engines and precisions of the CPU and, if present, of CUDA.

    Runs of different images or splits are measured apart. Whatever cannot be measured is listed, and the rest goes on.
    The records in a report have no weights: they are measured with random ones, which does not change any time, and
    not in int8.

    Args:
        directory: of runs, or of a report, which holds their records under ``runs``.
        device: the only device to measure on; auto: all of them.

    Raises:
        UsageError: there is no run to measure, or a number is below 1.
    """
    check_numbers([], batch_sizes, threads, rounds)
    report = directory.parent if directory.name == RECORDS else directory
    found, skipped = finished_runs(directory / RECORDS if (directory / RECORDS).is_dir() else directory)
    measured = Measured(skipped=skipped)
    bare = [run for run in found if not (run.path / WEIGHTS).exists()]
    if bare and (report / COMPARISON).exists():
        console.print(f"{len(bare)} record(s) without weights: timed with weights just drawn, and not in int8")
    else:
        skipped.extend(f"run {run.id}: no {WEIGHTS} there: {run.record.command}" for run in bare)
        found = [run for run in found if run not in bare]
    if not found:
        raise UsageError(f"{directory}: no finished run with weights to measure; train some: compress study quickstart")
    devices = [resolve_device(device)]
    if device == "auto" and devices[0].type != "cpu":
        devices.append(torch.device("cpu"))
    kept = read_kept(report / COMPARISON, dict[str, Any], "the costliest run by plain BP is the reference")
    reference = kept[0].get("reference") if kept else None
    settings: dict[str, Any] = {"batch_sizes": batch_sizes, "threads": threads, "rounds": rounds}
    groups: dict[str, list[Run]] = {}
    for run in found:
        key = json.dumps([run.record.data["digest"], run.record.data["split"], run.spec.input_shape])
        groups.setdefault(key, []).append(run)
    for runs in groups.values():
        _measure_group(_reference_first(runs, reference), devices, settings, data_dir, measured)
    for line in skipped:
        console.print(f"skipped: {line}")
    return measured


def _measure_group(
    runs: Sequence[Run],
    devices: Sequence[torch.device],
    settings: dict[str, Any],
    data_dir: Path | None,
    measured: Measured,
) -> None:
    """Measure runs of the same images and shape, and add what came out to `measured`."""
    held_out = None
    if all((run.path / WEIGHTS).exists() for run in runs):  # random weights have no accuracy, so they have no int8
        with measured.attempting("int8"):
            held_out = open_held_out(runs, data_dir)
    with TemporaryDirectory() as folder:
        found: list[Candidate] = []
        for run in runs:
            with measured.attempting(f"run {run.id}"):
                refuse_read_only(run.path)
                found.extend(candidates([run], Path(folder), held_out, draw=True))
                measured.runs.append(run)
        for device in devices if found else []:
            session = Session(candidates=found, device=device, held_out=held_out, **settings)
            pairs = [pair for pair in engines_here(device) if pair[1] != "int8" or held_out]
            for number, (engine, precision) in enumerate(pairs, start=1):
                what = f"{engine.name} {precision} on {device}"
                console.print(f"[{number}/{len(pairs)}] {what}, {len(found)} networks")
                with measured.attempting(what):
                    measured.rows.extend(session.measure(engine, precision))
            for run in session.runs:
                with measured.attempting(f"run {run.id}, memory on {device}"):
                    record_costs(run, device)


def _reference_first(runs: Sequence[Run], reference: str | None) -> list[Run]:
    """The runs, beginning with the one named as reference, or else with the costliest one by plain BP."""

    def rank(run: Run) -> tuple[bool, bool, float]:
        plain = (run.record.kind, run.record.method) == ("train", "bp")
        return run.id != reference, not plain, -float(run.exits[-1]["macs"])

    first = min(runs, key=rank)
    return [first, *(run for run in runs if run is not first)]
