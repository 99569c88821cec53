"""Finding: the finished run of a job, whatever the technique, is the one that carrying it out gave, and no other."""

import dataclasses

import pytest

from baselines import Budget, Job, Technique, carry_out, finished_run
from compress.data import Dataset
from compress.recipes import Recipe
from compress.runs import finished_runs

TECHNIQUES = (
    Technique(),
    Technique(steps=2),
    Technique(steps=2, gradual=True),
    Technique(method="bn-scale"),
    Technique(method="scratch-b"),
    Technique(method="shallow", nearest=True),
    Technique(method="distilled", nearest=True),
)


@pytest.fixture(scope="module")
def jobs(small: Dataset, brief: Recipe, tmp_path_factory: pytest.TempPathFactory) -> list[Job]:
    """One of every technique, for two budgets."""
    runs = tmp_path_factory.mktemp("finding")
    return [
        Job(
            arch="resnet14", dataset=small, budget=Budget(speedup=speedup), technique=technique, recipe=brief, runs=runs
        )
        for technique in TECHNIQUES
        for speedup in ((2, 1.4) if technique.steps == 1 else (2,))
    ]


def test_every_job_finds_its_own_run_by_what_was_asked_for(jobs: list[Job]) -> None:
    made = [carry_out(job).id for job in jobs]
    assert len(set(made)) == len(jobs)
    runs = finished_runs(jobs[0].runs)[0]
    jobs = [dataclasses.replace(job) for job in jobs]  # which look again whether there is a reference
    found = [finished_run(job, runs) for job in jobs]
    assert [run and run.id for run in found] == made
    assert [finished_run(job, [run for run in runs if run.id != id]) for job, id in zip(jobs, made, strict=True)] == [
        None for _ in jobs
    ]
