"""Measurements of latency as they are kept: each run's `bench.json` holds one for every set of conditions."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from benchmarks.engines import ENGINES, PRECISIONS
from compress.runs import Run, write_json
from compress.training.progress import console

BENCH = "bench.json"
SCHEMA_VERSION = 2  # 1: one measurement, eager, without noise, intervals and deviations
QUARTILES = (0.0, 0.0, 0.0)
ROW_KEYS = ("exit", "macs", "params", "batch_size", "seconds", "ratio")


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


def read_measurements(run: Run) -> list[Measurement]:
    """All that the run's `bench.json` holds; none where there is no such file, or none that can be read."""
    try:
        document = json.loads((run.path / BENCH).read_text())
        if "schema" not in document:
            document = {"measurements": [_first_schema(document)]}
        elif document["schema"] != SCHEMA_VERSION:
            raise ValueError(f"schema {document['schema']}, not {SCHEMA_VERSION}")
        found = [Measurement(**measurement) for measurement in document["measurements"]]
        for measurement in found:
            _check(measurement)
        return found
    except FileNotFoundError:
        return []
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        console.print(f"skipped: {run.path / BENCH} is corrupt ({error}); compress bench measures again")
        return []


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
    return document | {"device": document["environment"]["device"]}


def _check(measurement: Measurement) -> None:
    """Stumble over what a measurement must have and this one has not."""
    _ = measurement.conditions, measurement.reference["run"], measurement.reference["exit"]
    for row in measurement.rows:
        for key in ROW_KEYS:
            row[key]
        for quartiles in (row["seconds"], row["ratio"], row.get("joules", QUARTILES)):
            _, _, _ = map(float, quartiles)
        _, _ = row.get("ratio_interval") or (None, None)
    if measurement.calibration:
        _ = [measurement.calibration[key] for key in ("images", "part", "weight_bits")]
