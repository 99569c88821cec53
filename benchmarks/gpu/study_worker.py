"""The stage `study`, in its own process: runs of the study, seed by seed, until the time is up."""

from __future__ import annotations

import time

from benchmarks.gpu.check_setting import Wanted
from benchmarks.gpu.study_records import FAILURES
from benchmarks.gpu.worker import work
from benchmarks.study.runner import Runner
from compress.runs import write_json


def make_runs(wanted: Wanted, seconds: float) -> None:
    """Make the runs, and note those that could not be made."""
    until = time.monotonic() + seconds
    runner = Runner.of(wanted.setting(), until=until)
    runner.eager = True  # steps just timed say little on a machine whose kernels are still being chosen or compiled
    try:
        runner.make_all()
    finally:
        write_json(wanted.out / FAILURES, runner.failures)


if __name__ == "__main__":
    work(make_runs)
