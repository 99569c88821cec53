"""The stage `speed`, in its own process: ratios of what training costs here, as by `python -m benchmarks.speed`."""

from __future__ import annotations

from benchmarks.gpu.check_setting import Wanted
from benchmarks.gpu.worker import work
from benchmarks.report.record_archive import SPEED
from benchmarks.speed.ratios import Setup, measure
from compress.hardware import resolve_precision
from compress.runs import write_json

ARCHITECTURES = {"cuda": "resnet44"}  # elsewhere a small one, as the stage is short
EXITS, ROUNDS = 3, 5


def measure_ratios(wanted: Wanted, seconds: float) -> None:
    """Measure the ratios."""
    device = wanted.device
    setup = Setup(
        arch=ARCHITECTURES.get(device.type, "resnet8"),
        exits=EXITS,
        device=device,
        precision=resolve_precision("auto", device),
        rounds=ROUNDS,
    )
    write_json(wanted.out / SPEED, measure(setup))


if __name__ == "__main__":
    work(measure_ratios)
