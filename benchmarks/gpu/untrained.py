"""Untrained networks: those of a study, timed before its runs are made, and their latencies lent to the runs."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.measuring.bench_file import read_measurements, write_measurement
from benchmarks.study.entry import Trained
from benchmarks.study.setting import Setting
from compress.networks import Spec
from compress.records import Record
from compress.runs import COSTS, Run


def untrained(setting: Setting, folder: Path) -> list[Run]:
    """A run for each network that a study trains, its reference first, of which a spec alone is there."""
    reference = setting.study.entry(setting.study.reference)
    specs = [setting.spec(entry) for entry in (reference, *setting.study.runs) if isinstance(entry, Trained)]
    return [_stand_in(spec, folder / f"{position}-{spec.arch}") for position, spec in enumerate(dict.fromkeys(specs))]


def _stand_in(spec: Spec, path: Path) -> Run:
    nothing: dict[str, Any] = {"config": {}, "data": {}, "environment": {}, "command": "", "seed": 0}
    exits = [{"exit": number} for number in range(1, len(spec.exits) + 1)]
    return Run(
        path,
        Record(
            status="finished",
            kind="train",
            method="bp",
            arch=spec.arch,
            spec=spec.to_json(),
            results={"exits": exits},
            **nothing,
        ),
    )


def lend_latencies(timed: Sequence[Run], runs: Sequence[Run]) -> None:
    """Give each run without latencies those of the timed network that is like its own, as of weights just drawn.

    The run that ratios refer to becomes the first one whose network is like the timed one.
    """
    alike = {twin.id: [run for run in runs if run.spec == twin.spec] for twin in timed}
    for twin in timed:
        measurements = read_measurements(twin)
        for run in alike[twin.id]:
            if any(not each.drawn for each in read_measurements(run)):
                continue  # it has its own; those that an earlier, shorter call lent are replaced
            for each in measurements:
                if named := alike[each.reference["run"]]:
                    refers = each.reference | {"run": named[0].id}
                    write_measurement(run, dataclasses.replace(each, reference=refers, drawn=True))
            if (twin.path / COSTS).exists():
                shutil.copyfile(twin.path / COSTS, run.path / COSTS)
