"""The recorder: all finished runs of a directory, measured by every engine in every precision that is here."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from benchmarks.engines import Engine, engines_here
from benchmarks.held_out import HeldOut, held_out_images
from benchmarks.latency import Bench, candidates, check_numbers
from benchmarks.timing import SECONDS_A_TIMING, WARM_UP
from compress.errors import UsageError
from compress.hardware import resolve_device
from compress.runs import WEIGHTS, Run, finished_runs
from compress.training.progress import console, duration

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

    Args:
        directory: of run directories, or of a report, which holds them under ``runs``.
        device: measure on this one alone; auto: on all.

    Raises:
        UsageError: there is no run to measure.
    """
    recorded = Recorded()
    found, skipped = finished_runs(directory / "runs" if (directory / "runs").is_dir() else directory)
    recorded.skipped.extend(skipped)
    for run in found:
        if not (run.path / WEIGHTS).exists():
            recorded.skipped.append(f"run {run.id}: no {WEIGHTS} here, as in a report's records: {run.record.command}")
    groups: dict[str, list[Run]] = {}
    for run in [run for run in found if (run.path / WEIGHTS).exists()]:
        groups.setdefault(json.dumps([run.record.data["digest"], run.record.data["split"]]), []).append(run)
    if not groups:
        raise UsageError(f"{directory}: no finished run with weights to measure; train some: compress study quickstart")
    devices = [resolve_device(device)]
    if device == "auto" and devices[0].type != "cpu":
        devices.append(torch.device("cpu"))
    for runs in map(_reference_first, groups.values()):
        check_numbers(runs, batch_sizes, threads, rounds)
        settings = {"batch_sizes": batch_sizes, "threads": threads, "rounds": rounds}
        _record(runs, devices, settings, data_dir, recorded)
    for reason in recorded.skipped:
        console.print(f"skipped: {reason}")
    return recorded


def _record(
    runs: list[Run], devices: Sequence[torch.device], settings: dict[str, Any], data_dir: Path | None, done: Recorded
) -> None:
    """Measure runs of the same images with all that is here."""
    held_out = _held_out(runs, data_dir, done)
    with TemporaryDirectory() as folder:
        found = candidates(runs, Path(folder), held_out)
        reference = next(i for i, one in enumerate(found) if one.exit == len(runs[0].exits))
        benches = [
            Bench(candidates=found, reference=reference, device=device, held_out=held_out, **settings)
            for device in devices
        ]
        planned = [
            (bench, engine, precision)
            for bench in benches
            for engine, precision in engines_here(bench.device)
            if precision != "int8" or held_out is not None
        ]
        _announce(benches[-1], [engine for _, engine, _ in planned])
        for bench, engine, precision in planned:
            try:
                done.rows.extend(bench.measure(engine, precision))
            except UsageError as error:
                done.skipped.append(f"{engine.name} {precision} on {bench.device}: {error}")


def _held_out(runs: Sequence[Run], data_dir: Path | None, done: Recorded) -> HeldOut | None:
    """The images for int8; None, and why, where there are none."""
    try:
        return held_out_images(runs, data_dir)
    except UsageError as error:
        done.skipped.append(f"int8: {error}")
        return None


def _reference_first(runs: Sequence[Run]) -> list[Run]:
    """The runs, the costliest one by plain BP first, that ratios are to."""
    plain = [run for run in runs if (run.record.kind, run.record.method) == ("train", "bp")]
    first = max(plain or runs, key=lambda run: float(run.exits[-1]["macs"]))
    return [first, *(run for run in runs if run is not first)]


def _announce(bench: Bench, engines: Sequence[Engine]) -> None:
    """Say roughly how long all takes, as if every engine took as long as eager on a CPU."""
    timing, blocks = 0.0, 0
    for one in bench.candidates:
        network, blocks = one.source.network, blocks + len(one.source.network.blocks)
        for batch_size in bench.batch_sizes:
            call = partial(_pass, network, torch.zeros(batch_size, *network.spec.input_shape))
            call()
            started = time.perf_counter()
            call()
            seconds = time.perf_counter() - started
            timing += bench.rounds * (max(seconds, SECONDS_A_TIMING) + WARM_UP * seconds)
    preparing = sum(PREPARATION[engine.name] for engine in engines) * blocks * len(bench.batch_sizes)
    console.print(
        f"{len(engines)} measurements of {len(bench.candidates)} networks: very roughly "
        f"{duration(math.ceil(timing * len(engines) + preparing))}"
    )


@torch.inference_mode()
def _pass(network: torch.nn.Module, images: torch.Tensor) -> None:
    network(images)
