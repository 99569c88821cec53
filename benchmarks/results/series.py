"""Series: runs that differ by their seed alone, what reports call their network, and runs that were made twice."""

from __future__ import annotations

import json
from collections.abc import Iterable

from benchmarks.results.arms import arm_name, family
from compress.networks import Spec, display_name
from compress.records import digest_of, without_seed
from compress.runs import Run


def series(run: Run) -> str:
    """Key that is equal for runs whose configurations differ by the seed (a parent's included) alone."""
    return json.dumps(without_seed(run.record.config), sort_keys=True)


def network_name(run: Run) -> str:
    """Name of a run's network in reports: ``MwResNet-44-5``, or ``ResNet-110, l1 2.60x`` for a pruned one.

    It includes the training method where that is neither plain BP nor MW-BP in its default form.
    """
    record = run.record
    name = display_name(Spec.from_json(record.config["spec"]))
    if family(record) != "train":
        speedup = record.results.get("achieved", {}).get("speedup")
        return f"{name}, {arm_name(record)}" + ("" if speedup is None else f" {speedup:.2f}x")
    if record.method not in ("bp", "mwbp"):
        return f"{name}, {record.method}"
    return f"{name}, sequential" if record.config["objective"]["update"] == "sequential" else name


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
