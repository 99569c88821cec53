"""Forecasts: what a budget would give, and what it would take, before anything is trained."""

from __future__ import annotations

import math
from dataclasses import dataclass

from baselines.budget import Budget, after, least, meet
from baselines.channels import Channel, in_equal_shares, remove_channels
from baselines.channels import steps as in_order
from baselines.check import check_sparsity, check_together, drawn, rehearsed
from baselines.choice import choice, shallow_choice
from baselines.coupling import Coupling
from baselines.effort import Images, effort
from baselines.job import Job
from baselines.stages import Whole, evidence_of, met, stages
from baselines.steps import Size
from baselines.technique import CONTROLS, SHAPED
from compress.errors import UsageError
from compress.networks import Network
from compress.training import image_seconds, precision_of
from compress.training.plan import split_by


@dataclass(frozen=True, kw_only=True)
class Forecast:
    """What a job would do.

    Attributes:
        requested: the budget, as options say it.
        trained: whether there is a reference; else its size is known, and its scores are those of drawn weights.
        whole: what there is before; smallest, largest: the ends of what can be had, after all moves and after one.
        achieved: what the budget would give; None where it is refused, and `refused` says why.
        seconds: of all there is to do, a missing reference's training too, roughly; None where the budget is refused.
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
    network = job.network if reference else drawn(job)
    check_sparsity(job, network)
    whole = Whole.of(network, technique)
    kept = reference.path if reference and not job.exit else None
    plain = technique.method in CONTROLS and technique.method not in SHAPED  # no scores at all
    if plain:
        options = shallow_choice(job.spec, job.seed)
    else:
        parts = split_by(recipe, job.dataset)
        options = choice(technique.choosing, network, evidence_of(job, parts.to(job.where)), kept)
    steps, achieved, refused, seconds = options.steps, None, None, None
    try:
        if technique.steps > 1:
            smaller = rehearsed(job, network)
        else:
            [stage] = stages(job, network)
            smaller = options.without(met(job, stage, options, network, whole, kept)[0])
        achieved = Size.of(smaller)
        seconds = _seconds(job, network, smaller, whole.size.macs / achieved.macs)
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


def narrower(network: Network, budget: Budget) -> Network:
    """A uniformly narrower network of a budget's size: about as fast as what any scores would leave.

    Raises:
        UsageError: the budget, which is not one of latency, cannot be met.
    """
    scoped = Coupling(network).within("all")
    removed = meet(budget, in_order(in_equal_shares(scoped.units), scoped), within=math.inf)
    gone = zip(scoped.numbers, removed, strict=True)
    return remove_channels(network, [Channel(number, index) for number, count in gone for index in range(count)])


def _seconds(job: Job, whole: Network, smaller: Network, speedup: float) -> float:
    """How long a job takes, by a few steps timed now; what was chosen just now is kept."""
    images = Images.of(job.dataset, job.recipe)
    epochs = {"fine_tuning": job.fine_tuned.epochs, "scratch": job.from_scratch.epochs}
    needed = effort(job.technique, images, whole, job.recipe, speedup=speedup, **epochs)
    before = needed.whole + needed.once.get(job.technique.method, 0.0)
    if not job.found and job.technique.method != "shallow":
        before += images.training(job.recipe.epochs)
    return (before * _image_seconds(job, whole) if before else 0) + needed.smaller * _image_seconds(job, smaller)


def _image_seconds(job: Job, network: Network) -> float:
    objective = job.objective.fitted(job.spec, network.spec)
    precision = precision_of(job.place.precision, objective, job.where)
    return image_seconds(network.spec, objective, job.recipe, device=job.where, precision=precision)
