"""Measurements of latency as they are kept: each run's `bench.json` holds one for every set of conditions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

from msgspec import Struct

from benchmarks.measuring.engines import ENGINES, PRECISIONS
from compress.console import console
from compress.documents import fitted, read_kept
from compress.errors import UsageError
from compress.records import Count, Machine, Number, Share
from compress.runs import BENCH, Run, write_json

SCHEMA_VERSION = 2  # 1: one measurement, eager, without noise, intervals and deviations
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
        """Smaller is better where one measurement must stand for a run: eager in fp32 on one thread of a CPU first."""
        engines = list(ENGINES)
        engine = engines.index(self.engine) if self.engine in engines else len(engines)
        precision = PRECISIONS.index(self.precision) if self.precision in PRECISIONS else len(PRECISIONS)
        return (self.device != "cpu", engine, precision, self.threads)

    def __str__(self) -> str:
        return f"{self.engine}, {self.precision}, {self.device}, {self.threads} thread(s)"


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """Latencies of one run's exits under one set of conditions.

    Attributes:
        session: shared by what one command measured; ratios of different sessions do not compare.
        device: as torch names it.
        reference: run and exit that ratios are to.
        noise: distance between the quartiles of the reference's times to its own in the same round; the largest over
            batch sizes; None where it was not measured.
        noisy: whether that is too much.
        environment: machine and versions.
        calibration: of int8: from which part how many images, and whether weights have 7 bits.
        energy: the counters that joules are of; None where the machine has none.
        drawn: whether weights were just drawn, those of the run not being there; they do not change how long it takes.
        rows: an exit at a batch size each: `exit`, `macs`, `params`, in fp32 `bytes` (on disk), `batch_size`, `seconds`
            and `ratio` (quartiles), `ratio_interval` (95%, of the median; None of few rounds), `deviation` (of logits
            from eager's fp32), where the machine can tell `joules` (quartiles, a batch), and, of int8, `test_accuracy`.
    """

    session: str
    engine: str
    precision: str
    device: str
    threads: int
    rounds: int
    reference: dict[str, Any]
    noise: float | None = None
    noisy: bool = False
    environment: dict[str, Any]
    calibration: dict[str, Any] | None = None
    energy: list[str] | None = None
    drawn: bool = False
    rows: list[dict[str, Any]]

    @property
    def conditions(self) -> Conditions:
        """Those it was made under."""
        hardware = str(self.environment["gpu"] or self.environment["cpu"])
        device = self.device.partition(":")[0]  # "cuda" and "cuda:0" are one GPU, and others of its model are alike
        own = {"engine": self.engine, "precision": self.precision, "device": device}
        return Conditions(**own, hardware=hardware, threads=self.threads)


class Reference(Struct, frozen=True, kw_only=True):
    """The run and exit that ratios are to."""

    run: str
    exit: Number


class Row(Struct, frozen=True, kw_only=True):
    """One exit at one batch size."""

    exit: Number
    macs: Count
    params: Count
    batch_size: Number
    seconds: Quartiles
    ratio: Quartiles
    bytes: Count | None = None
    ratio_interval: tuple[float, float] | None = None
    deviation: float | None = None
    joules: Quartiles | None = None
    test_accuracy: Share | None = None


class Calibration(Struct, frozen=True, kw_only=True):
    """What int8 was calibrated on."""

    images: Count
    part: str
    weight_bits: Number


class Fields(Struct, frozen=True, kw_only=True):
    """What a `Measurement` must be in a file."""

    session: str
    engine: str
    precision: str
    device: str
    threads: Number
    rounds: Number
    reference: Reference
    noise: float | None = None
    noisy: bool = False
    environment: Machine
    calibration: Calibration | None = None
    energy: list[str] | None = None
    drawn: bool = False
    rows: list[Row]


class Bench(Struct, frozen=True, kw_only=True):
    """`bench.json`; one without a schema is a single measurement of the first."""

    schema: int | None = None
    measurements: list[dict[str, Any]] | None = None

    def __post_init__(self) -> None:
        if self.schema is not None and (self.schema != SCHEMA_VERSION or self.measurements is None):
            raise UsageError(f"schema {self.schema} without measurements, or not {SCHEMA_VERSION}")


def read_measurements(run: Run) -> list[Measurement]:
    """All that the run's `bench.json` holds; none where there is no such file, or none that can be read."""
    kept = read_kept(run.path / BENCH, Bench, MEND)
    if kept is None:
        return []
    document, bench = kept
    try:
        found = document["measurements"] if bench.measurements is not None else [_first_schema(document)]
        for number, measurement in enumerate(found):
            rows = fitted(measurement, Fields, f"measurements[{number}]").rows
            if any(row.exit > len(run.exits) for row in rows):
                raise UsageError(f"measurements[{number}].rows: exits that the run has not")
    except UsageError as error:
        console.print(f"skipped: {run.path / BENCH} is corrupt ({error}); {MEND}")
        return []
    known = [field.name for field in fields(Measurement)]
    return [Measurement(**{name: one[name] for name in known if name in one}) for one in found]


def write_measurement(run: Run, measurement: Measurement) -> None:
    """Put the measurement into the run's `bench.json`, for the one of the same conditions that may be there."""
    kept = [one for one in read_measurements(run) if one.conditions != measurement.conditions]
    ordered = sorted([*kept, measurement], key=lambda one: (one.conditions.preference, one.conditions.hardware))
    write_json(run.path / BENCH, {"schema": SCHEMA_VERSION, "measurements": [asdict(one) for one in ordered]})


def primary_conditions(measured: Iterable[Sequence[Measurement]]) -> Conditions | None:
    """The conditions that most runs share, of these the preferred ones; None where nothing was measured.

    What was timed with drawn weights, later and perhaps elsewhere, counts where there is nothing else.
    """
    every = [one for run in measured for one in {(one.conditions, one.drawn) for one in run}]
    shared = Counter(conditions for conditions, drawn in every if not drawn or all(drawn for _, drawn in every))
    return min(shared, key=lambda one: (-shared[one], one.preference, one.hardware), default=None)


def _first_schema(document: dict[str, Any]) -> dict[str, Any]:
    return document | {"device": fitted(document.get("environment"), Machine, "environment").device}
