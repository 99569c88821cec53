"""Latency: seconds of a forward pass, for networks timed in turn, and ratios to a reference in the same round.

A single time on a shared machine means little; the ratio of two networks timed in the same round means a lot.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import product
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.measuring.bench_file import Calibration, Measurement, write_measurement
from benchmarks.measuring.candidates import Candidate, candidates, random_images
from benchmarks.measuring.costs_file import record_costs
from benchmarks.measuring.energy import meter
from benchmarks.measuring.engines import Engine, Infer, Source, engine_named, reduced_range
from benchmarks.measuring.rounds import NOISY, conditions, interleaved, median_interval, quartiles
from compress.console import console
from compress.data import normalise
from compress.documents import refuse_read_only
from compress.errors import UsageError, checked
from compress.export.agreement import check_logits
from compress.export.held_out import HeldOut, open_held_out
from compress.hardware import describe
from compress.networks import Network, cut
from compress.runs import Run

ROUNDS = 9
LARGEST_BATCH, MOST_ROUNDS = 1 << 14, 1 << 14  # beyond any use


@dataclass(frozen=True, kw_only=True)
class Session:
    """Candidates measured together; all ratios are to the last exit of the first run.

    Attributes:
        rounds: how many times each is timed; 0: not at all.
        held_out: images for int8; None where nothing is quantised.
        id: shared by all measurements of the session.
    """

    candidates: Sequence[Candidate]
    batch_sizes: Sequence[int]
    device: torch.device
    threads: int
    rounds: int
    held_out: HeldOut | None
    id: str = field(default_factory=lambda: uuid.uuid4().hex)

    @property
    def reference(self) -> int:
        """Position among the candidates of the one that ratios are to."""
        return len(self.candidates[0].run.exits) - 1

    @property
    def runs(self) -> list[Run]:
        """The runs of the candidates, each once."""
        return list({candidate.run.id: candidate.run for candidate in self.candidates}.values())

    def measure(self, engine: Engine, precision: str) -> list[dict[str, Any]]:
        """Measure every candidate and write each run's `bench.json`; returns a row a candidate and batch size.

        Raises:
            UsageError: a network cannot be prepared, or its logits differ from eager's.
        """
        with conditions(self.threads):
            found = [self._at_batch_size(engine, precision, size) for size in self.batch_sizes]
            accuracies = self._int8_accuracies(engine) if precision == "int8" else [{}] * len(self.candidates)
            environment = describe(self.device)
        environment["versions"] |= engine.versions
        noise = max((noise for _, noise in found if noise is not None), default=None)
        noisy = noise is not None and noise > NOISY
        if noisy:
            console.print(
                f"{engine.name} {precision}: noisy: the reference's times in one round differ by {noise:.0%} between "
                f"quartiles, more than {NOISY:.0%}; measure again on a quiet machine"
            )
        measured = [
            (candidate.run.id, row | accuracy)
            for rows, _ in found
            for candidate, row, accuracy in zip(self.candidates, rows, accuracies, strict=True)
        ]
        shared = {"engine": engine.name, "precision": precision, "device": str(self.device)}
        reference, counters = self.candidates[self.reference], meter(self.device)
        for run in self.runs:
            measurement = Measurement(
                session=self.id,
                **shared,
                threads=self.threads,
                rounds=self.rounds,
                reference={"run": reference.run.id, "exit": reference.exit},
                noise=noise,
                noisy=noisy,
                environment=environment,
                calibration=self._calibration() if precision == "int8" else None,
                energy=counters.sources if counters else None,
                drawn=any(candidate.drawn for candidate in self.candidates if candidate.run.id == run.id),
                rows=[row for id, row in measured if id == run.id],
            )
            write_measurement(run, measurement)
        return [{"run": id, **shared, **row} for id, row in measured]

    def _at_batch_size(self, engine: Engine, precision: str, batch_size: int) -> tuple[list[Any], float | None]:
        """A row a candidate at one batch size, and the noise, None where nothing is timed."""
        what = f"{engine.name} {precision}"
        console.print(f"{what}, batch {batch_size}: preparing {len(self.candidates)} networks")
        images = engine.place(random_images(batch_size, self.candidates[0].run.spec.input_shape), self.device)
        prepared = engine.prepare([each.source for each in self.candidates], images, precision, self.threads)
        deviations = [
            check_logits(
                self._from_cpu(engine, infer),
                batch_size,
                *candidate.checked_images,
                precision=precision,
                what=f"{candidate}, {what}",
            )
            for candidate, infer in zip(self.candidates, prepared, strict=True)
        ]
        rows = [
            {
                "exit": candidate.exit,
                "macs": candidate.cost.macs,
                "params": candidate.cost.params,
                **candidate.sizes(precision),
                "batch_size": batch_size,
                "deviation": deviation,
            }
            for candidate, deviation in zip(self.candidates, deviations, strict=True)
        ]
        if not self.rounds:
            return rows, None
        calls = [partial(infer, images) for infer in prepared]
        times, noise = self._timed(calls, what=f"{what}, latency at batch {batch_size}")
        return [row | time for row, time in zip(rows, times, strict=True)], noise

    def _timed(self, calls: Sequence[Callable[[], Tensor]], *, what: str) -> tuple[list[dict[str, Any]], float]:
        """The times of every call, a candidate each, and the noise."""
        seconds, joules = interleaved(
            [*calls, calls[self.reference]],  # the reference a second time, for the noise of its ratio to itself
            rounds=self.rounds,
            device=self.device,
            what=what,
        )
        ratios = seconds / seconds[:, [self.reference]]
        times = [
            {
                "seconds": quartiles(seconds[:, position]),
                "ratio": quartiles(ratios[:, position]),
                "ratio_interval": median_interval(ratios[:, position]),
                **({} if joules is None else {"joules": quartiles(joules[:, position])}),
            }
            for position in range(len(calls))
        ]
        low, _, high = quartiles(ratios[:, -1])
        return times, high - low

    def _from_cpu(self, engine: Engine, infer: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
        """The prepared network as a function from images to logits on the CPU."""
        return lambda images: infer(engine.place(images, self.device)).cpu()

    def _int8_accuracies(self, engine: Engine) -> list[dict[str, float]]:
        """`test_accuracy` of every candidate, quantised."""
        assert self.held_out is not None
        console.print(f"{engine.name} int8: accuracy on {len(self.held_out.test):,} test images")
        found = []
        for candidate in self.candidates:
            images = random_images(self.held_out.test_batch, candidate.run.spec.input_shape)
            placed = engine.place(images, self.device)
            [infer] = engine.prepare([candidate.source], placed, "int8", self.threads)
            found.append({"test_accuracy": self.held_out.test_accuracy(self._of_pixels(engine, infer, candidate))})
        return found

    def _of_pixels(self, engine: Engine, infer: Infer, candidate: Candidate) -> Infer:
        """The prepared network as a function from uint8 images to logits, on the CPU."""
        from_cpu = self._from_cpu(engine, infer)
        return lambda images: from_cpu(normalise(images, candidate.run.normalisation))

    def _calibration(self) -> Calibration:
        assert self.held_out is not None
        return {
            "part": self.held_out.name,
            "images": len(self.held_out.calibration),
            "weight_bits": 7 if reduced_range() else 8,
        }


@checked
def bench(
    runs: Sequence[Run],
    *,
    batch_sizes: Sequence[int] = (1, 128),
    device: str = "auto",
    threads: int = 1,
    rounds: int = ROUNDS,
    engine: str | Sequence[str] = "eager",
    precision: str | Sequence[str] = "fp32",
    data_dir: Path | None = None,
) -> list[dict[str, Any]]:
    """Measure every exit of every run, and write each run's `bench.json` and `costs.json`.

    The reference of all ratios is the last exit of the first run, by the same engine in the same precision. With
    several engines and precisions, every pair that exists is measured, one after another.

    Args:
        rounds: how many times each network is timed; 0: not at all, where the machine is busy. What does not depend on
            that is measured all the same: sizes, deviations, and the accuracy of int8.
        device: auto: what there is, or the CPU where one of the engines runs on that alone.
        data_dir: where to look first for the data that int8 needs.

    Returns:
        A row an exit, batch size, engine and precision, with the run's id.

    Raises:
        UsageError: a number out of range, runs of different image shapes, an engine or precision that is not available
            here, logits that differ from eager's, or a directory that cannot be written.
    """
    if not runs:
        raise UsageError("bench: name the runs to measure, the one to compare with first")
    check_numbers(runs, batch_sizes, threads, rounds)
    for run in runs:
        refuse_read_only(run.path)
    engines = (engine,) if isinstance(engine, str) else engine
    places = {engine_named(each).device(device) for each in engines}
    where = places.pop() if len(places) == 1 else torch.device("cpu")  # auto: some run on the CPU alone
    pairs = _pairs(engines, (precision,) if isinstance(precision, str) else precision, where)
    quantised = any(precision == "int8" for _, precision in pairs)
    held_out = open_held_out(runs, data_dir) if quantised else None
    with TemporaryDirectory() as folder:
        found = candidates(runs, Path(folder), held_out)
        measured: dict[str, Any] = {"batch_sizes": batch_sizes, "device": where, "threads": threads, "rounds": rounds}
        session = Session(candidates=found, held_out=held_out, **measured)
        rows = [row for pair in pairs for row in session.measure(*pair)]
    for run in runs:
        record_costs(run, where)
    return rows


@checked
def latency_ratio(reference: Network, network: Network) -> tuple[float, float, float]:
    """Quartiles of the ratio of a network's latency to another's, timed in turn: eager, fp32, batch 1, one thread."""
    device, eager = next(reference.parameters()).device, engine_named("eager")
    last_exits = [cut(each, len(each.spec.exits)).eval() for each in (reference, network)]  # without earlier heads
    images = eager.place(random_images(1, reference.spec.input_shape), device)
    with conditions(threads=1):
        prepared = eager.prepare([Source(each, Path()) for each in last_exits], images, "fp32", 1)
        calls = [partial(infer, images) for infer in prepared]
        seconds, _ = interleaved(calls, rounds=ROUNDS, device=device, what="latency at batch 1")
    return quartiles(np.divide(seconds[:, 1], seconds[:, 0]))


def check_numbers(runs: Sequence[Run], batch_sizes: Sequence[int], threads: int, rounds: int) -> None:
    """Refuse numbers out of range and runs that cannot be measured together.

    Raises:
        UsageError: a number out of range, or runs of different image shapes.
    """
    if not batch_sizes:
        raise UsageError("--batch-size: give one or several")
    for what, values, least, most in (
        ("--batch-size", batch_sizes, 1, LARGEST_BATCH),
        ("--threads", [threads], 1, os.cpu_count() or 1),
        ("--rounds", [rounds], 0, MOST_ROUNDS),
    ):
        for value in values:
            if not least <= value <= most:
                raise UsageError(f"{what} {value}: {least} or more, here {most:,} at most")
    shapes = {run.spec.input_shape for run in runs}
    if len(shapes) > 1:
        raise UsageError(f"the runs take images of different shapes ({', '.join(map(str, shapes))}): bench them apart")


def _pairs(engines: Iterable[str], precisions: Sequence[str], device: torch.device) -> list[tuple[Engine, str]]:
    """The pairs of an engine and a precision that exist; every engine and every precision must be in one.

    Raises:
        UsageError: an engine is unknown, or an engine or a precision is not available here.
    """
    found: list[tuple[Engine, str]] = []
    refused: list[tuple[Engine, str, UsageError]] = []
    for engine, precision in product(map(engine_named, engines), precisions):
        try:
            engine.check(precision, device)
            found.append((engine, precision))
        except UsageError as error:
            refused.append((engine, precision, error))
    paired = {part for pair in found for part in pair}
    for engine, precision, refusal in refused:
        if not {engine, precision} <= paired:
            raise refusal
        console.print(f"left out: {refusal}")
    return found
