"""The recorder: all finished runs of a directory, measured by every engine in every precision that is here."""

from __future__ import annotations

import contextlib
import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import product
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from benchmarks.measuring.calibration import held_out_images
from benchmarks.measuring.engines import Engine, engines_here
from benchmarks.measuring.latency import Bench, Candidate, candidates, check_numbers
from benchmarks.measuring.memory import record_costs
from benchmarks.measuring.timing import SECONDS_A_TIMING, WARM_UP, conditions, timed
from benchmarks.report.comparison import COMPARISON, RECORDS, read_fields
from compress.console import console, duration
from compress.errors import UsageError, checked, reason
from compress.hardware import resolve_device
from compress.runs import WEIGHTS, Run, finished_runs

CPU = torch.device("cpu")
# Seconds of preparing a network, for every block of it: a guess, for the announcement alone.
PREPARATION = {"eager": 0.0, "compile": 4.0, "onnxruntime": 0.4, "openvino": 0.4, "cudagraphs": 0.0}


@dataclass(frozen=True, kw_only=True)
class Recorded:
    """What the recorder did.

    Attributes:
        rows: as `bench` returns them.
        skipped: a line on every run, and every engine and precision, that was not measured, with the reason.
    """

    rows: list[dict[str, Any]] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)

    @contextlib.contextmanager
    def attempting(self, what: str) -> Iterator[None]:
        """Note it as skipped where it fails, and go on."""
        try:
            yield
        except Exception as error:  # whatever it is: one that fails must not cost a night's others
            self.skipped.append(f"{what}: {reason(error).removeprefix(f'{what}: ')}")


@checked
def bench_all(
    directory: Path,
    *,
    batch_sizes: Sequence[int] = (1, 128),
    device: str = "auto",
    threads: int = 1,
    rounds: int = 9,
    data_dir: Path | None = None,
) -> Recorded:
    """Measure all finished runs of a directory with all engines and precisions of the CPU and, where it is, of CUDA.

    Runs of different images or splits are measured apart. What cannot be measured is listed, and the rest goes on.
    A report's records have no weights: theirs are drawn, which changes no time, and int8 leaves them out.

    Args:
        directory: of run directories, or of a report, which holds records of them under ``runs``.
        device: measure on this one alone; auto: on all.

    Raises:
        UsageError: there is no run to measure, or a number is below 1.
    """
    recorded = Recorded()
    home = directory.parent if directory.name == RECORDS else directory  # where comparison.json is, if it is a report
    found, skipped = finished_runs(directory / RECORDS if (directory / RECORDS).is_dir() else directory)
    recorded.skipped.extend(skipped)
    bare = [run for run in found if not (run.path / WEIGHTS).exists()]
    if (home / COMPARISON).exists() and bare:
        console.print(f"{len(bare)} record(s) without weights: timed with weights just drawn, and not in int8")
    elif bare:
        recorded.skipped.extend(f"run {run.id}: no {WEIGHTS} there: {run.record.command}" for run in bare)
        found = [run for run in found if run not in bare]
    groups: dict[str, list[Run]] = {}
    for run in found:
        alike = [run.record.data["digest"], run.record.data["split"], run.spec.input_shape]
        groups.setdefault(json.dumps(alike), []).append(run)
    if not groups:
        raise UsageError(f"{directory}: no finished run with weights to measure; train some: compress study quickstart")
    devices = [resolve_device(device)]
    if device == "auto" and devices[0].type != "cpu":
        devices.append(torch.device("cpu"))
    report = read_fields(home)
    settings: dict[str, Any] = {"batch_sizes": batch_sizes, "threads": threads, "rounds": rounds}
    check_numbers([], **settings)
    for runs in groups.values():
        _record(_reference_first(runs, report.reference if report else None), devices, settings, data_dir, recorded)
    for line in recorded.skipped:
        console.print(f"skipped: {line}")
    return recorded


def _record(
    runs: Sequence[Run],
    devices: Sequence[torch.device],
    settings: dict[str, Any],
    data_dir: Path | None,
    done: Recorded,
) -> None:
    """Measure runs of the same images, and of the same shape, with all that is here."""
    held_out = None
    if any((run.path / WEIGHTS).exists() for run in runs):
        with done.attempting("int8"):
            held_out = held_out_images(runs, data_dir)
    with TemporaryDirectory() as folder:
        found: list[Candidate] = []
        for run in runs:
            with done.attempting(f"run {run.id}"):
                found.extend(candidates([run], Path(folder), held_out, draw=True))
        if not found:
            return
        settings = settings | {"held_out": held_out}
        planned = [measurement for device in devices for measurement in _planned(found, device, settings)]
        with done.attempting("how long it takes"):
            _announce(planned[0][0], [engine for _, engine, _ in planned])
        for bench, engine, precision in planned:
            with done.attempting(f"{engine.name} {precision} on {bench.device}"):
                done.rows.extend(bench.measure(engine, precision))
        for run, device in product({one.run.id: one.run for one in found}.values(), devices):
            with done.attempting(f"run {run.id}, memory on {device}"):
                record_costs(run, device)


def _planned(
    found: Sequence[Candidate], device: torch.device, settings: dict[str, Any]
) -> list[tuple[Bench, Engine, str]]:
    """All measurements to make on a device; in int8 only of what has its own weights, since others have no accuracy."""
    own = [one for one in found if not one.drawn]
    whole = _bench(found, device, settings)
    quantised = whole if len(own) == len(found) else _bench(own, device, settings)  # the same session where it can be
    int8 = own and settings["held_out"] is not None
    return [
        (quantised if precision == "int8" else whole, engine, precision)
        for engine, precision in engines_here(device)
        if precision != "int8" or int8
    ]


def _bench(found: Sequence[Candidate], device: torch.device, settings: dict[str, Any]) -> Bench:
    """Of these networks, with ratios to the first run's last exit."""
    last = [i for i, one in enumerate(found) if one.exit == len(one.run.exits)]
    return Bench(candidates=found, reference=last[0] if last else 0, device=device, **settings)


def _reference_first(runs: Sequence[Run], reference: str | None) -> list[Run]:
    """The runs, the one that ratios are to first: this one if it is among them, else the costliest one by plain BP."""

    def rank(run: Run) -> tuple[bool, bool, float]:
        plain = (run.record.kind, run.record.method) == ("train", "bp")
        return run.id != reference, not plain, -float(run.exits[-1]["macs"])

    first = min(runs, key=rank)
    return [first, *(run for run in runs if run is not first)]


def _announce(bench: Bench, engines: Sequence[Engine]) -> None:
    """Say roughly how long all takes, as if every engine took as long as eager on a CPU."""
    timing, blocks = 0.0, 0
    with conditions(CPU, bench.threads):
        for one, batch_size in product(bench.candidates, bench.batch_sizes):
            network, blocks = one.source.network, blocks + len(one.source.network.blocks)
            seconds = timed(partial(_pass, network, torch.zeros(batch_size, *network.spec.input_shape)), 1, CPU)
            timing += bench.rounds * (max(seconds, SECONDS_A_TIMING) + WARM_UP * seconds)
    preparing = sum(PREPARATION[engine.name] for engine in engines) * blocks
    console.print(
        f"{len(engines)} measurements of {len(bench.candidates)} networks: very roughly "
        f"{duration(math.ceil(timing * len(engines) + preparing))}"
    )


@torch.inference_mode()
def _pass(network: torch.nn.Module, images: torch.Tensor) -> None:
    network(images)
