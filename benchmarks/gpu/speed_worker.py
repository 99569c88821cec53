"""The stage `speed`, in its own process: ratios of what training costs here, as by `python -m benchmarks.speed`."""

from __future__ import annotations

from functools import partial

from benchmarks.gpu.check_setting import Wanted
from benchmarks.gpu.worker import work
from benchmarks.report.record_archive import SPEED
from benchmarks.speed.ratios import measure
from benchmarks.speed.speed_setup import Setup
from compress.hardware import resolve_precision
from compress.runs import write_json

ARCHITECTURES = {"cuda": "resnet44"}  # elsewhere a small one, as the stage is short
EXITS, ROUNDS = 5, 7
STEPS = {"cuda": 50}  # of an epoch: batch norm is recomputed after the first alone, which is not timed
SHARE = 0.8  # of the time, after which no round is begun


def measure_ratios(wanted: Wanted, seconds: float) -> None:
    """Measure the ratios, each written when it is there, until the time is up."""
    device = wanted.device
    setup = Setup(
        arch=ARCHITECTURES.get(device.type, "resnet14"),
        exits=EXITS,
        device=device,
        precision=resolve_precision("auto", device),
        rounds=ROUNDS,
        steps=STEPS.get(device.type),
        time_limit=SHARE * seconds,
    )
    measure(setup, on_part=partial(write_json, wanted.out / SPEED))


if __name__ == "__main__":
    work(measure_ratios)
