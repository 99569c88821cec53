"""Bench file: `bench.json` in a run directory, a measurement of the run's latencies for every set of conditions."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NotRequired, TypedDict

from benchmarks.measuring.engines import ENGINES, PRECISIONS
from compress.console import console
from compress.documents import fitted, read_kept
from compress.records import Count, Machine, Number, Share
from compress.runs import BENCH, Run, write_json
from compress.schema import Struct

SCHEMA_VERSION = 2
MEND = "compress bench measures again"
Quartiles = tuple[float, float, float]


@dataclass(frozen=True, kw_only=True)
class Conditions:
    """What decides how long a network takes; `hardware` is the model of the GPU or CPU, `device` its type."""

    engine: str
    precision: str
    device: str
    hardware: str
    threads: int

    @property
    def preference(self) -> tuple[int, ...]:
        """Sort key by which the first measurement stands for a run: eager, fp32, one thread of a CPU; int8 is last."""
        engine = [*ENGINES, self.engine].index(self.engine)  # those of a later version come last
        precision = [*PRECISIONS, self.precision].index(self.precision)
        return (self.precision == "int8", self.device != "cpu", engine, precision, self.threads)

    def __str__(self) -> str:
        return f"{self.engine}, {self.precision}, {self.device}, {self.threads} thread(s)"


class Reference(TypedDict):
    """The run and exit that ratios are to."""

    run: str
    exit: Number | Literal["ensemble"]


class Row(TypedDict):
    """Measurements of one exit, or of the ensemble, at one batch size.

    Attributes:
        bytes: in fp32 of parameters and buffers, in int8 of the ONNX file.
        fp32_bytes: of the ONNX file in fp32; in int8 only.
        seconds, ratio: quartiles over the rounds; the ratio is to the reference in the same round. Missing, as is the
            interval, where nothing was timed.
        ratio_interval: 95% interval of the median ratio; None where there were too few rounds.
        deviation: of the logits from eager's in fp32, see `agreement`.
        joules: quartiles, for a batch; where the machine has a counter.
        test_accuracy: in int8 only.
    """

    exit: Number | Literal["ensemble"]
    macs: Count
    params: Count
    bytes: NotRequired[Count]
    fp32_bytes: NotRequired[Count]
    batch_size: Number
    seconds: NotRequired[Quartiles]
    ratio: NotRequired[Quartiles]
    ratio_interval: NotRequired[tuple[float, float] | None]
    deviation: NotRequired[float]
    joules: NotRequired[Quartiles]
    test_accuracy: NotRequired[Share]


class Calibration(TypedDict):
    """The part and number of images that int8 was calibrated on, and the bits of its weights."""

    part: str
    images: Count
    weight_bits: Number


class Measurement(Struct, frozen=True, kw_only=True):
    """Latencies of one run's exits under one set of conditions.

    Attributes:
        session: shared by everything that one command measured; ratios of different sessions do not compare.
        device: torch's name of it.
        rounds: how often each network was timed; 0: only what does not depend on how busy the machine is was measured.
        noise: interquartile range of the reference's ratio to itself in the same round; the largest over batch sizes.
        noisy: whether the noise is above the limit.
        environment: machine and versions.
        energy: names of the counters that joules come from; None where the machine has none.
        drawn: whether the weights were random, since the run's own were missing; latency does not depend on them.
    """

    session: str
    engine: str
    precision: str
    device: str
    threads: Number
    rounds: Count
    reference: Reference
    noise: float | None = None
    noisy: bool = False
    environment: dict[str, Any]
    calibration: Calibration | None = None
    energy: list[str] | None = None
    drawn: bool = False
    rows: list[Row]

    def __post_init__(self) -> None:
        fitted(self.environment, Machine, "environment")

    @property
    def conditions(self) -> Conditions:
        """The conditions of this measurement."""
        return Conditions(
            engine=self.engine,
            precision=self.precision,
            device=self.device.partition(":")[0],  # "cuda" and "cuda:0" are one GPU; others of its model are alike
            hardware=str(self.environment["gpu"] or self.environment["cpu"]),
            threads=self.threads,
        )


class BenchFile(Struct, frozen=True, kw_only=True):
    """The content of `bench.json`."""

    schema: Literal[2]
    measurements: list[Measurement]


def read_measurements(run: Run, *, untimed: bool = False) -> list[Measurement]:
    """The measurements in the run's `bench.json`; an empty list where there is no file, or none that can be read.

    Args:
        untimed: whether those that timed nothing are among them.
    """
    kept = read_kept(run.path / BENCH, BenchFile, MEND)
    found = [each for each in kept[1].measurements if each.rounds or untimed] if kept else []
    known = {row["exit"] for row in run.predictions}
    if any(row["exit"] not in known for measurement in found for row in measurement.rows):
        console.print(f"skipped: {run.path / BENCH} is not of the run's {len(run.exits)} exit(s); {MEND}")
        return []
    return found


def write_measurement(run: Run, measurement: Measurement) -> None:
    """Put a measurement into the run's `bench.json`, in place of an earlier one under the same conditions.

    One that timed nothing does not replace one that did.
    """
    before = read_measurements(run, untimed=True)
    if not measurement.rounds and any(each.rounds and each.conditions == measurement.conditions for each in before):
        return
    kept = [other for other in before if other.conditions != measurement.conditions]
    ordered = sorted([*kept, measurement], key=lambda each: (each.conditions.preference, each.conditions.hardware))
    write_json(run.path / BENCH, {"schema": SCHEMA_VERSION, "measurements": list(map(dataclasses.asdict, ordered))})


def primary_conditions(measured: Iterable[Sequence[Measurement]]) -> Conditions | None:
    """The conditions that most runs were measured under, of several the preferred ones; None without measurements.

    Measurements of random weights, made later and perhaps elsewhere, count only where there are no others.
    """
    pairs = [pair for found in measured for pair in {(each.conditions, each.drawn) for each in found}]
    all_drawn = all(drawn for _, drawn in pairs)
    shared = Counter(conditions for conditions, drawn in pairs if all_drawn or not drawn)
    return min(shared, key=lambda each: (-shared[each], each.preference, each.hardware), default=None)
