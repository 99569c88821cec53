"""`compress bench`: what every exit of finished runs costs."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from compress.cli.options import OUTPUT, PLACE, Output, PlaceOptions, Whole, options
from compress.errors import UsageError, nearest
from compress.runs import find_run

# The names that `benchmarks.measuring.engines` has, whose modules import torch; a test compares the two.
ENGINES = ("eager", "compile", "onnxruntime", "openvino", "cudagraphs")
PRECISIONS = ("fp32", "bf16", "fp16", "int8")


@options("Measuring")
@dataclass(frozen=True, kw_only=True)
class BenchOptions:
    """How latency is measured.

    Attributes:
        engine: eager (default), compile, onnxruntime, openvino or, on CUDA, cudagraphs; several separated by commas.
        precision: fp32 (default), bf16, fp16 or int8 (calibrated on held-out images); several separated by commas.
        batch_size: Images per batch; several separated by commas.
        threads: Threads of the CPU.
        rounds: How many times each network is timed; 0: not at all, as on a machine that is busy.
        all: Directory of runs or of a report: measure all its finished runs with every engine and precision that is
            here. A report has no weights: its networks are timed with random ones, without int8.
        data_dir: Directory in which the data that int8 needs are looked for first.
    """

    engine: str | None = None
    precision: str | None = None
    batch_size: str = "1,128"
    threads: Whole = 1
    rounds: Whole = 9
    all: Path | None = None
    data_dir: Path | None = None

    def settings(self) -> dict[str, Any]:
        """Return the arguments that `bench` and `bench_all` share."""
        try:
            sizes = [int(size) for size in self.batch_size.split(",")]
        except ValueError:
            raise UsageError(f"--batch-size {self.batch_size}: a whole number, or several with commas") from None
        batches = list(dict.fromkeys(sizes))
        return {"batch_sizes": batches, "threads": self.threads, "rounds": self.rounds, "data_dir": self.data_dir}


BENCH = BenchOptions()


def bench(*run: str, measuring: BenchOptions = BENCH, place: PlaceOptions = PLACE, output: Output = OUTPUT) -> None:
    """Measure size, latency, memory and, where possible, energy of every exit and ensemble of finished runs.

    Latency is measured interleaved, in ratios to the last exit of the first run named. Each run gets two files:

    - bench.json: latency and energy;
    - costs.json: bytes, activations, and peak memory of training and inference.

    Args:
        run: Run directories, or ids (or their beginnings) under --runs; the one to compare with first.
    """
    if measuring.all is None and not run:
        raise UsageError(
            "bench: name the runs to measure, the one to compare with first (compress report lists them), "
            "or --all RUNS_DIR"
        )
    if measuring.all is not None and (run or measuring.engine or measuring.precision):
        raise UsageError("--all measures all runs with every engine: leave out runs, --engine and --precision")
    engines = _names("engine", measuring.engine or "eager", ENGINES)
    precisions = _names("precision", measuring.precision or "fp32", PRECISIONS)
    settings = measuring.settings()
    found = [find_run(name, place.runs) for name in run]

    from benchmarks import bench, bench_all
    from benchmarks.results.lag_warnings import warn_of_lag
    from compress.cli.printing import show_latencies

    if measuring.all is not None:
        done = bench_all(measuring.all, device=place.device, **settings)
        warn_of_lag(done.runs, done.rows)
        return show_latencies(done.rows, done.skipped, as_json=output.json)
    measured = bench(found, device=place.device, engine=engines, precision=precisions, **settings)
    warn_of_lag(found, measured)
    show_latencies(measured, as_json=output.json)


def _names(option: str, text: str, known: Sequence[str]) -> list[str]:
    """Return the names in an option's text, separated by commas, each once; refuse those that are unknown."""
    names = list(dict.fromkeys(part.strip() for part in text.split(",")))
    for name in names:
        if name not in known:
            raise UsageError(f"--{option} {name!r}: {nearest(name, known)}")
    return names
