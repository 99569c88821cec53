"""Finding: the finished run of a job without working out what to remove, by what records say was asked for."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from baselines.controls import shallower
from baselines.job import Job
from baselines.technique import CONTROLS, SHAPED, SPARSE, TAUGHT
from compress.runs import Run

# What follows from the reference and the request; for a control some of it is known only when the shape is.
FOLLOWS = ("parent", "reference", "teacher", "teacher_reference", "objective", "spec")


def finished_run(job: Job, runs: Iterable[Run]) -> Run | None:
    """The run among finished ones that the job would give; None where there is none, or no reference yet.

    Raises:
        UsageError: the job asks for a shallower network, and its reference has none.
    """
    if job.found is None:
        return None
    technique = job.technique
    recipe = job.from_scratch if technique.kind == "control" else job.fine_tuned
    by_id = {run.id: run for run in runs}
    wanted = _asked(job.plan(recipe).config)
    for run in by_id.values():
        if _asked(run.record.config) == wanted and _starts_from(run, job, by_id):
            return run
    return None


def _asked(config: dict[str, Any]) -> dict[str, Any]:
    asked = {key: value for key, value in config.items() if key not in FOLLOWS}
    if config["method"] == "scratch-b":
        asked["recipe"] = config["recipe"] | {"epochs": None}
    return asked


def _starts_from(run: Run, job: Job, by_id: dict[str, Run]) -> bool:
    """Whether the run comes of the job's reference, by as many runs in between as the job makes."""
    technique, base = job.technique, job.base
    if technique.method in CONTROLS and technique.method not in SHAPED:
        achieved = {"speedup": 0.0, "macs": 0} | run.record.results.get("achieved", {})
        same = round(achieved["speedup"] * achieved["macs"]) == base.exits[(job.exit or 0) - 1]["macs"]
        same = same and run.spec in shallower(job.spec)  # other trunks have the same MACs
        return same and (technique.method != TAUGHT or run.record.config["teacher"] == base.id)
    generations = (1 if technique.gradual else technique.steps) + (technique.method in SPARSE)
    id: str | None = run.id
    for _ in range(generations):
        id = by_id[id].record.parent if id in by_id else None
    return id == base.id
