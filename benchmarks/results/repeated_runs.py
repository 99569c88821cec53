"""Repeated runs: of runs with the same configuration, images and seed a single one counts."""

from __future__ import annotations

import json
from collections.abc import Iterable

from benchmarks.results.series import series
from compress.records import digest_of
from compress.runs import Run


def distinct_runs(runs: Iterable[Run]) -> tuple[list[Run], list[str]]:
    """The runs without repetitions of the same configuration, images and seed, and a line on every run left out.

    A training repeated, as a copy or on another machine, is no further seed. Among repetitions the run counts whose id
    is its configuration's own; else the first by length of id, then by id.
    """
    runs, counted = list(runs), dict[str, Run]()
    for run in sorted(runs, key=_renamed):
        counted.setdefault(_configuration_and_seed(run), run)
    pairs = [(run, counted[_configuration_and_seed(run)]) for run in runs]
    repeated = [_repetition(run, original) for run, original in pairs if run is not original]
    return [run for run, original in pairs if run is original], repeated


def _renamed(run: Run) -> tuple[bool, int, str]:
    """Sort key that puts a run under its configuration's own id before copies of it under other names."""
    return not run.id.endswith(digest_of(run.record.config)), len(run.id), run.id


def _configuration_and_seed(run: Run) -> str:
    data = run.record.data
    return json.dumps([series(run), run.record.seed, data["digest"], data["split"]], sort_keys=True)


def _repetition(run: Run, original: Run) -> str:
    """A line on why a run is left out in favour of another."""
    if run.record.parent != original.record.parent:
        what = f"pruned from {run.record.parent}, not {original.record.parent}: give each its parent's --seed"
    elif run.record.results == original.record.results:
        what = "a copy"
    else:
        what = "trained again, with other results"
    return f"run {run.id}: configuration, images and seed of {original.id}, which alone counts ({what})"
