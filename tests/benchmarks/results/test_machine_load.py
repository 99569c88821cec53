"""Machine load: seconds are warned of where a record shows that they are a busy machine's, and not known elsewhere."""

import json
import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pandas as pd

from benchmarks.report.sections.resources import load_note
from benchmarks.results.epochs import read_epochs
from benchmarks.results.machine_load import others, spread
from compress.runs import METRICS, Run


def epochs_of(run: Run, seconds: Sequence[float], load: Sequence[float] | None = None) -> pd.DataFrame:
    return pd.DataFrame({"run": run.id, "seconds": seconds, "load": load or [math.nan] * len(seconds)})


def run_on(run: Run, **place: object) -> Run:
    """The same run on another machine."""
    return replace(run, record=replace(run.record, environment=run.record.environment | place))


def test_the_slowest_epoch_is_compared_with_the_fastest_but_for_the_first(runs: list[Run]) -> None:
    plain, pruned = runs[0], runs[3]
    assert spread(plain, epochs_of(plain, [90, 10, 12, 15])) == 1.5
    assert spread(plain, epochs_of(plain, [90, 10])) is None
    assert spread(plain, pd.DataFrame()) is None
    request = pruned.record.config["request"] | {"gradual": True}
    shrinking = replace(pruned, record=replace(pruned.record, config=pruned.record.config | {"request": request}))
    assert spread(pruned, epochs_of(pruned, [90, 10, 5])) == 2
    assert spread(shrinking, epochs_of(pruned, [90, 10, 5])) is None


def test_the_threads_of_the_run_are_none_of_the_others(runs: list[Run]) -> None:
    on_cpu = run_on(runs[0], gpu=None, threads=2, world_size=1)
    assert others(on_cpu, epochs_of(on_cpu, [1, 1], [3.0, 4.0])) == 1.5
    on_gpu = run_on(runs[0], gpu="NVIDIA H200", threads=16, world_size=1)
    streamed = replace(
        on_cpu, record=replace(on_cpu.record, data=on_cpu.record.data | {"copy": "class folders, streamed"})
    )
    for run in (on_gpu, streamed):  # whose own compiler or readers are counted
        assert others(run, epochs_of(run, [1, 1], [3.0, 4.0])) is None
    assert others(on_cpu, epochs_of(on_cpu, [1, 1])) is None


def test_a_busy_machine_is_said_and_so_is_what_is_not_known(runs: list[Run]) -> None:
    first, second, third = (run_on(run, gpu=None, threads=1, world_size=1) for run in runs[:3])
    assert load_note([first, second], pd.DataFrame()) == (
        "Whether the machine was busy is not known for 2 runs, whose records do not tell it."
    )
    quiet = epochs_of(first, [9, 5, 5.5], [1.1, 1.0, 1.2])
    assert load_note([first, second], quiet) == (  # whose history is gone
        "Whether the machine was busy is not known for 1 run, whose records do not tell it."
    )
    assert load_note([first], quiet) == "No record shows a busy machine."
    uneven, old = epochs_of(second, [5, 5, 10], [1, 1, 1]), epochs_of(third, [5, 5, 5])
    assert load_note([first, second, third], pd.concat([quiet, uneven, old])) == (
        "**Seconds are those of a busy machine** in 1 of 3 runs, at least: epochs of one run took up to 2.0 times as "
        "long as one another. Compare training MACs, not seconds. Whether the machine was busy is not known for 1 "
        "more run, whose records do not tell it."
    )
    beside = epochs_of(first, [5, 5, 5], [3, 3.5, 4])
    assert load_note([first], beside) == (
        "**Seconds are those of a busy machine** in 1 of 1 runs, at least: up to 2.5 threads ran or waited beside the "
        "run's own. Compare training MACs, not seconds."
    )


def test_training_writes_the_load_that_is_read(runs: list[Run]) -> None:
    run = runs[0]
    written = [json.loads(line)["load"] for line in (run.path / METRICS).read_text().splitlines()]
    assert others(run, read_epochs([run])) == np.mean(written) - run.record.environment["threads"]
