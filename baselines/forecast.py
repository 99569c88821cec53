"""Forecasts: what a budget would give, and what it would take, before anything is trained."""

from __future__ import annotations

import time
from dataclasses import dataclass

import torch

from baselines.budget import after, least
from baselines.check import check_together
from baselines.choice import choice, shallow_choice
from baselines.controls import scratch_epochs
from baselines.coupling import blank
from baselines.job import Job
from baselines.stages import Whole, evidence_of, met, stages
from baselines.steps import Size
from baselines.technique import CONTROLS, SHAPED, SPARSE
from compress.data import split
from compress.errors import UsageError
from compress.networks import Network, initialised
from compress.recipes import Recipe

TIMED = 3  # steps


@dataclass(frozen=True, kw_only=True)
class Forecast:
    """What a job would do.

    Attributes:
        requested: the budget, as options say it.
        trained: whether there is a reference; else its size is known, and its scores are those of drawn weights.
        whole: what there is before; smallest, largest: the ends of what can be had, after all moves and after one.
        achieved: what the budget would give; None where it is refused, and `refused` says why.
        seconds: of training, roughly, that of a missing reference included; None where the budget is refused.
    """

    requested: str
    trained: bool
    whole: Size
    smallest: Size
    largest: Size
    achieved: Size | None
    refused: str | None
    seconds: float | None


def foresee(job: Job) -> Forecast:
    """What a job would do; nothing is trained, but the method's scores are measured.

    Raises:
        UsageError: the reference does not fit, or the method cannot score its network.
    """
    check_together(job)
    technique, recipe, reference = job.technique, job.recipe, job.found
    network = job.network if reference else initialised(job.spec, job.seed).eval().to(job.where)
    whole = Whole.of(network, technique)
    kept = reference.path if reference and not job.exit else None
    plain = technique.method in CONTROLS and technique.method not in SHAPED  # no scores at all
    if plain:
        options = shallow_choice(job.spec, job.seed)
    else:
        parts = split(job.dataset, validation=recipe.validation, calibration=recipe.calibration, seed=recipe.split_seed)
        options = choice(technique.choosing, network, evidence_of(job, parts.to(job.where)), kept)
    steps, achieved, refused, seconds = options.steps, None, None, None
    try:
        removed, _ = met(job, stages(job, network)[-1], options, network, whole, kept)
        achieved = steps.size(removed)
        seconds = _seconds(job, network, options.without(removed), achieved)
    except UsageError as error:
        refused = str(error)
    return Forecast(
        requested=f"--{job.budget}",
        trained=reference is not None or plain,
        whole=whole.size,
        smallest=least(steps),
        largest=steps.size(after(steps, steps.moves[:1])),
        achieved=achieved,
        refused=refused,
        seconds=seconds,
    )


def _seconds(job: Job, whole: Network, smaller: Network, achieved: Size) -> float:
    """How long the trainings of a job take, by a few steps timed now."""
    technique, before = job.technique, Whole.of(whole, job.technique).size
    seconds = 0.0 if job.found or technique.method == "shallow" else _training_seconds(job, whole, job.recipe)
    if technique.method in CONTROLS:
        epochs = job.from_scratch.epochs
        if technique.method in SHAPED:
            epochs = scratch_epochs(technique.method, job.from_scratch, before.macs, achieved.macs)
        return seconds + _training_seconds(job, smaller, job.from_scratch.changed(epochs=epochs))
    if technique.method in SPARSE:
        seconds += _training_seconds(job, whole, job.recipe.fine_tuning())
    if technique.gradual:  # whole for the first quarter and more, then narrower
        return (
            seconds
            + (_training_seconds(job, whole, job.fine_tuning) + _training_seconds(job, smaller, job.fine_tuning)) / 2
        )
    return seconds + technique.steps * _training_seconds(job, smaller, job.fine_tuning)


def _training_seconds(job: Job, network: Network, recipe: Recipe) -> float:
    share = 1 - recipe.validation - recipe.calibration
    batches = max(1, int(share * len(job.dataset.train)) // recipe.batch_size)
    images = blank(network)[:1].expand(recipe.batch_size, -1, -1, -1)
    network = initialised(network.spec, job.seed).to(job.where).train()
    started = 0.0
    for step in range(1 + TIMED):
        if step == 1:  # the first warms up
            started = time.monotonic()
        torch.stack(network(images)).sum().backward()
    return recipe.epochs * batches * (time.monotonic() - started) / TIMED
