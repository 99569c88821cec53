"""Latency: how long one forward takes, for networks measured interleaved, as times and as ratios to the first.

A single time on a shared machine means little; the ratio of two networks timed in the same round means a lot.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.measuring.agreement import CHECKED_IMAGES, check
from benchmarks.measuring.calibration import HeldOut, held_out_images
from benchmarks.measuring.energy import meter
from benchmarks.measuring.engines import PRECISIONS, Engine, Source, engine_named, reduced_range
from benchmarks.measuring.measurements import Measurement, write_measurement
from benchmarks.measuring.memory import record_costs
from benchmarks.measuring.timing import NOISY, conditions, interleaved, median_interval, quartiles, scatter
from benchmarks.results.lagging import lag_warnings
from compress.console import console
from compress.errors import UsageError, checked, nearest
from compress.hardware import describe, resolve_device
from compress.network_cost import Cost, exit_costs
from compress.networks import Network, Spec, cut, initialised
from compress.runs import WEIGHTS, Run, load

ROUNDS = 9  # of a ratio that pruning asks for
MOST_IMAGES, MOST_ROUNDS = 1 << 14, 1 << 14  # a batch, a measurement: more than any use has
NAMES = ("run", "engine", "precision")  # of a row, that its measurement has
Pair = tuple[Engine, str]  # an engine, a precision


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """One exit of one run, as a network of its own, ready to be prepared.

    Attributes:
        drawn: whether its weights were just drawn, those of the run not being there.
    """

    run: Run
    exit: int
    cost: Cost
    source: Source
    drawn: bool = False

    def __str__(self) -> str:
        return f"{self.run.id} exit {self.exit}"


@dataclass(frozen=True, kw_only=True)
class Bench:
    """What is measured, and how; `measure` does it, for one engine and precision.

    Attributes:
        reference: position of the candidate that all ratios are to.
        held_out: images for int8; None where nothing is quantised.
        session: shared by all measurements of it.
    """

    candidates: Sequence[Candidate]
    reference: int
    batch_sizes: Sequence[int]
    device: torch.device
    threads: int
    rounds: int
    held_out: HeldOut | None
    session: str = field(default_factory=lambda: uuid.uuid4().hex)

    def measure(self, engine: Engine, precision: str) -> list[dict[str, Any]]:
        """Measure every candidate, write it to the runs, and return the rows, with the run's id and these names.

        Raises:
            UsageError: a network cannot be prepared, or its logits are not those of eager.
        """
        with conditions(self.device, self.threads):
            found = [self._at(engine, precision, batch_size) for batch_size in self.batch_sizes]
            accuracies = self._accuracies(engine, precision)
            environment = describe(self.device)
        environment["versions"] |= engine.versions
        noise = max(one for _, one in found)
        rows = [
            {"run": candidate.run.id, "engine": engine.name, "precision": precision, **row, **accuracy}
            for batch, _ in found
            for candidate, row, accuracy in zip(self.candidates, batch, accuracies, strict=True)
        ]
        if noise > NOISY:
            console.print(
                f"{engine.name} {precision}: noisy: the reference's times in one round differ by {noise:.0%} between "
                f"quartiles, more than {NOISY:.0%}; measure again on a quiet machine"
            )
        for line in lag_warnings(list({one.run.id: one.run for one in self.candidates}.values()), rows):
            console.print(line)
        self._write(rows, engine, precision, noise, environment)
        return rows

    def _write(
        self, rows: list[dict[str, Any]], engine: Engine, precision: str, noise: float, environment: dict[str, Any]
    ) -> None:
        """Every run's rows into its `bench.json`."""
        first = self.candidates[self.reference]
        for run in {one.run.id: one.run for one in self.candidates}.values():
            own = [row for row in rows if row["run"] == run.id]
            energy = meter(self.device)
            measurement = Measurement(
                session=self.session,
                engine=engine.name,
                precision=precision,
                device=str(self.device),
                threads=self.threads,
                rounds=self.rounds,
                reference={"run": first.run.id, "exit": first.exit},
                noise=noise,
                noisy=noise > NOISY,
                environment=environment,
                calibration=self._calibration(precision),
                energy=energy.sources if energy else None,
                drawn=any(one.drawn for one in self.candidates if one.run.id == run.id),
                rows=[{key: value for key, value in row.items() if key not in NAMES} for row in own],
            )
            write_measurement(run, measurement)

    def _at(self, engine: Engine, precision: str, batch_size: int) -> tuple[list[dict[str, Any]], float]:
        """A row a candidate at one batch size, and the noise."""
        what = f"{engine.name} {precision}"
        console.print(f"{what}, batch {batch_size}: preparing {len(self.candidates)} networks")
        shape = self.candidates[0].run.spec.input_shape
        images = engine.place(_random_images(batch_size, shape), self.device)
        prepared = engine.prepare([one.source for one in self.candidates], images, precision, self.threads)
        deviations = []
        for one, infer in zip(self.candidates, prepared, strict=True):
            pictures, expected = self._checked(one)
            placed = self._placed(engine, infer)
            deviations.append(check(placed, batch_size, pictures, expected, precision, f"{one}, {what}"))
        calls = [partial(infer, images) for infer in prepared]
        announced = f"{what}, latency at batch {batch_size}"
        # The reference once more, for what its ratio to itself scatters.
        seconds, joules = interleaved(
            [*calls, calls[self.reference]], rounds=self.rounds, device=self.device, what=announced
        )
        ratios = seconds / seconds[:, [self.reference]]
        rows = [
            {
                "exit": one.exit,
                "macs": one.cost.macs,
                "params": one.cost.params,
                **({"bytes": one.cost.bytes} if precision == "fp32" else {}),  # those of an fp32 file
                "batch_size": batch_size,
                "seconds": quartiles(times),
                "ratio": quartiles(ratio),
                "ratio_interval": median_interval(ratio),
                "deviation": off,
            }
            for one, times, ratio, off in zip(self.candidates, seconds.T, ratios.T, deviations, strict=False)
        ]
        if joules is not None:
            rows = [row | {"joules": quartiles(used)} for row, used in zip(rows, joules.T, strict=False)]
        return rows, scatter(ratios[:, -1])

    def _checked(self, candidate: Candidate) -> tuple[Tensor, Tensor]:
        """Images, held-out ones where there are any, and the logits of eager in fp32."""
        images = _random_images(CHECKED_IMAGES, candidate.run.spec.input_shape)
        if candidate.source.calibration is not None:
            images = candidate.source.calibration[:CHECKED_IMAGES]
        with torch.inference_mode():
            return images, candidate.source.network(images)[-1]

    def _placed(self, engine: Engine, infer: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
        """The prepared network as a function of any images, whose logits come back to the CPU."""
        return lambda images: infer(engine.place(images, self.device)).cpu()

    def _accuracies(self, engine: Engine, precision: str) -> list[dict[str, float]]:
        """Of int8 the accuracy of every candidate on the test images."""
        if precision != "int8" or self.held_out is None:
            return [{} for _ in self.candidates]
        console.print(f"{engine.name} {precision}: accuracy on {len(self.held_out.test):,} test images")
        found = []
        for one in self.candidates:
            images = engine.place(_random_images(self.held_out.test_batch, one.run.spec.input_shape), self.device)
            [infer] = engine.prepare([one.source], images, precision, self.threads)
            accuracy = self.held_out.test_accuracy(self._placed(engine, infer), one.run.normalisation)
            found.append({"test_accuracy": accuracy})
        return found

    def _calibration(self, precision: str) -> dict[str, Any] | None:
        if precision != "int8" or self.held_out is None:
            return None
        count = len(self.held_out.calibration)
        return {"part": self.held_out.name, "images": count, "weight_bits": 7 if reduced_range() else 8}


@checked
def bench(
    runs: Sequence[Run],
    *,
    batch_sizes: Sequence[int] = (1, 128),
    device: str = "auto",
    threads: int = 1,
    rounds: int = 9,
    engine: str | Sequence[str] = "eager",
    precision: str | Sequence[str] = "fp32",
    data_dir: Path | None = None,
) -> list[dict[str, Any]]:
    """Measure every exit of every run, and write each run's `bench.json` and `costs.json`.

    Returns all rows of latency, with the run's id.

    The reference of all ratios is the last exit of the first run, by the same engine in the same precision. Of several
    engines and precisions all that go together are measured, one after another.

    Args:
        data_dir: where to look first for the data that int8 needs.

    Raises:
        UsageError: a number below 1, runs of different image shapes, an engine or a precision that is not to be had
            here, logits that are not eager's, or a directory that cannot be written.
    """
    if not runs:
        raise UsageError("bench: name the runs to measure, the one to compare with first")
    check_numbers(runs, batch_sizes, threads, rounds)
    where = resolve_device(device)
    named = (engine,) if isinstance(engine, str) else engine
    pairs = _pairs(named, (precision,) if isinstance(precision, str) else precision, where)
    held_out = held_out_images(runs, data_dir) if any(precision == "int8" for _, precision in pairs) else None
    with TemporaryDirectory() as folder:
        found = candidates(runs, Path(folder), held_out)
        measuring = Bench(
            candidates=found,
            reference=next(i for i, one in enumerate(found) if one.exit == len(runs[0].exits)),
            batch_sizes=batch_sizes,
            device=where,
            threads=threads,
            rounds=rounds,
            held_out=held_out,
        )
        rows = [row for pair in pairs for row in measuring.measure(*pair)]
    for run in runs:
        record_costs(run, where)
    return rows


@checked
def latency_ratio(reference: Network, network: Network) -> tuple[float, float, float]:
    """The quartiles of a network's latency as a ratio to another's, interleaved: eager, fp32, batch 1, one thread."""
    device, eager = next(reference.parameters()).device, engine_named("eager")
    last = [cut(one, len(one.spec.exits)).eval() for one in (reference, network)]  # copies, without earlier heads
    images = eager.place(_random_images(1, reference.spec.input_shape), device)
    with conditions(device, threads=1):
        prepared = eager.prepare([Source(one, Path()) for one in last], images, "fp32", 1)
        calls = [partial(infer, images) for infer in prepared]
        seconds, _ = interleaved(calls, rounds=ROUNDS, device=device, what="latency at batch 1")
    return quartiles(np.divide(seconds[:, 1], seconds[:, 0]))


def candidates(
    runs: Iterable[Run], folder: Path, held_out: HeldOut | None = None, *, draw: bool = False
) -> list[Candidate]:
    """Every exit of every run, cut out; files made of them go into `folder`.

    Args:
        draw: weights of runs that have none.

    Raises:
        UsageError: weights are missing, corrupt, or do not fit the spec.
    """
    found = []
    for run in runs:
        drawn = draw and not (run.path / WEIGHTS).exists()
        network = _drawn(run.spec) if drawn else load(run)
        images = held_out.calibration_images(run.normalisation) if held_out and not drawn else None
        for exit, cost in enumerate(exit_costs(network), start=1):
            source = Source(cut(network, exit), folder / run.id / str(exit), images)
            found.append(Candidate(run=run, exit=exit, cost=cost, source=source, drawn=drawn))
    return found


def _drawn(spec: Spec) -> Network:
    """A network with weights just drawn, which is as fast as the trained one, in eval mode."""
    network = initialised(spec, 0).train()
    for module in network.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.momentum = 1.0  # else deep networks' activations grow until half precisions overflow
    with torch.random.fork_rng(devices=[]), torch.no_grad():  # dropout draws
        network(_random_images(CHECKED_IMAGES, spec.input_shape))
    return network.eval()


def check_numbers(runs: Sequence[Run], batch_sizes: Sequence[int], threads: int, rounds: int) -> None:
    """Refuse what cannot be measured together.

    Raises:
        UsageError: a number below 1, or runs of different image shapes.
    """
    if not batch_sizes:
        raise UsageError("--batch-size: give one or several")
    most_threads = os.cpu_count() or 1
    for what, values, most in (
        ("--batch-size", batch_sizes, MOST_IMAGES),
        ("--threads", [threads], most_threads),
        ("--rounds", [rounds], MOST_ROUNDS),
    ):
        for value in values:
            if not 1 <= value <= most:
                raise UsageError(f"{what} {value}: 1 or more, here {most:,} at most")
    shapes = {run.spec.input_shape for run in runs}
    if len(shapes) > 1:
        raise UsageError(f"the runs take images of different shapes ({', '.join(map(str, shapes))}): bench them apart")


def _pairs(engines: Iterable[str], precisions: Sequence[str], device: torch.device) -> list[Pair]:
    """The engines with those of the precisions that they have; each must have one, and each precision an engine.

    Raises:
        UsageError: a name is unknown, or an engine or a precision is not to be had here.
    """
    for precision in precisions:
        if precision not in PRECISIONS:
            raise UsageError(f"precision {precision!r}: {nearest(precision, PRECISIONS)}")
    known, found = [engine_named(name) for name in engines], []
    for engine in known:
        refusals = []
        for precision in precisions:
            try:
                engine.check(precision, device)
                found.append((engine, precision))
            except UsageError as error:
                refusals.append(error)
        if len(refusals) == len(precisions):
            raise refusals[0]
        for refusal in refusals:
            console.print(f"left out: {refusal}")
    for precision in precisions:
        if precision not in {of for _, of in found}:
            known[0].check(precision, device)
    return found


def _random_images(count: int, shape: tuple[int, ...]) -> Tensor:
    """The same every time."""
    return torch.randn(count, *shape, generator=torch.Generator().manual_seed(0))
