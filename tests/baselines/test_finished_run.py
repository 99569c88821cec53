"""The finished run of a job, whatever the technique, is the one that carrying it out gave, and no other."""

from pathlib import Path

import pytest

from baselines import Budget, Job, Technique, carry_out, finished_run
from baselines.job import find_reference
from compress import Place
from compress.data import Dataset
from compress.recipes import Recipe
from compress.runs import finished_runs
from compress.training import train
from tests.baselines.jobs import job_of

ASKED = (  # and for which speed-ups
    (Technique(), (2, 1.4)),
    (Technique(steps=2), (2,)),
    (Technique(method="bn-scale"), (2,)),
    (Technique(method="scratch-b"), (2,)),
    (Technique(method="distilled", nearest=True), (2,)),
)


@pytest.fixture(scope="module")
def jobs(small: Dataset, brief: Recipe, tmp_path_factory: pytest.TempPathFactory) -> list[Job]:
    """Jobs of every kind of technique."""
    runs = tmp_path_factory.mktemp("finding")
    return [
        job_of("resnet14w4-6-8", small, brief, runs, budget=Budget(speedup=speedup), technique=technique)
        for technique, speedups in ASKED
        for speedup in speedups
    ]


def test_every_job_finds_its_own_run_by_what_was_asked_for(jobs: list[Job]) -> None:
    made = [carry_out(job).id for job in jobs]
    assert len(set(made)) == len(jobs)
    runs = finished_runs(jobs[0].place.runs)[0]
    found = [finished_run(job, runs) for job in jobs]
    assert [run and run.id for run in found] == made
    assert [finished_run(job, [run for run in runs if run.id != id]) for job, id in zip(jobs, made, strict=True)] == [
        None for _ in jobs
    ]


def test_a_shallower_net_is_of_its_own_reference_not_of_one_with_the_same_macs(
    small: Dataset, brief: Recipe, tmp_path: Path
) -> None:
    for arch in ("resnet18b2-2-4w4-8-16", "resnet18b2-4-2w4-8-16"):
        train(arch, small, recipe=brief, place=Place(runs=tmp_path))
    job, other = (
        job_of(arch, small, brief, tmp_path, technique=Technique(method="shallow", nearest=True))
        for arch in ("resnet18b2-2-4w4-8-16", "resnet18b2-4-2w4-8-16")
    )
    assert len({find_reference(job).trained.exits[-1]["macs"] for job in (job, other)}) == 1
    made = carry_out(job)
    assert finished_run(job, [made]) == made
    assert finished_run(other, [made]) is None
