"""The stage `latency`, in its own process: the networks that the study trains are timed, with weights just drawn."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.gpu.check_setting import Wanted
from benchmarks.gpu.untrained import untrained
from benchmarks.gpu.worker import work
from benchmarks.measuring.candidates import candidates
from benchmarks.measuring.costs_file import record_costs
from benchmarks.measuring.engines import Engine, engines_here
from benchmarks.measuring.latency import Session
from compress.console import console
from compress.errors import reason

FIRST = "cudagraphs"  # as it is the fastest on a GPU
SLOW = ("compile", "onnxruntime", "openvino")  # to prepare: they would take longer than the stage
ROUNDS = 7  # an interval needs six
BATCHES = {"cpu": (1,), "cuda": (1, 128)}


def time_networks(wanted: Wanted, seconds: float) -> None:
    """Time every exit of every network by every engine and precision of the device that is quick to prepare.

    Each is written when it is measured, those in fp32 first, with the memory that they take; what the time is too short
    for is missing.
    """
    shutil.rmtree(wanted.timed, ignore_errors=True)
    runs, device = untrained(wanted.setting(), wanted.timed), wanted.device
    for run in runs:
        run.path.mkdir(parents=True)
    with TemporaryDirectory() as folder:
        session = Session(
            candidates=candidates(runs, Path(folder), draw=True),
            batch_sizes=BATCHES.get(device.type, (1,)),
            device=device,
            threads=1,
            rounds=ROUNDS,
            held_out=None,
        )
        pairs = [(engine, precision) for engine, precision in engines_here(device) if engine.name not in SLOW]
        pairs.sort(key=lambda pair: pair[0].name != FIRST)
        _measure(session, [pair for pair in pairs if pair[1] == "fp32"])
        try:
            for run in runs:
                record_costs(run, device)
        except Exception as error:  # of any kind, as below
            console.print(f"memory: left out: {reason(error)}")
        _measure(session, [pair for pair in pairs if pair[1] != "fp32"])


def _measure(session: Session, pairs: Sequence[tuple[Engine, str]]) -> None:
    for engine, precision in pairs:
        try:
            session.measure(engine, precision)
        except Exception as error:  # of any kind: the other engines and precisions go on
            console.print(f"{engine.name} {precision}: left out: {reason(error)}")
        else:
            console.print(f"{engine.name} {precision}: measured")


if __name__ == "__main__":
    work(time_networks)
