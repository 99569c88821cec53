"""What is refused before anything is trained: options, and prunings that no network of this shape can bear."""

from __future__ import annotations

import copy
import dataclasses

import torch

from baselines.budget import after
from baselines.choice import choice, shallow_choice
from baselines.evidence import Evidence
from baselines.job import Job
from baselines.stages import Stage, Whole, evidence_of, met, stages
from baselines.technique import CONTROLS, SHAPED, SPARSE
from compress.errors import UsageError
from compress.networks import Network, initialised
from compress.training.distributed import current_world
from compress.training.plan import split_by

FEW = 16  # images, enough for scores that only have to exist
NOISE = 0.01  # on weights just drawn: what starts as zeros is not when it is trained, and would have no scores


def check(job: Job) -> None:
    """Refuse options that do not go together, and what cannot be pruned, as far as its shape tells.

    Raises:
        UsageError: which, and what can be had instead.
    """
    check_together(job)
    if job.found is not None and job.technique.method not in SPARSE:
        return  # the choice itself says so at once
    network = job.network if job.found else drawn(job)
    check_sparsity(job, network)
    check_prunable(job, network)


def check_together(job: Job) -> None:
    """Refuse options of a job that do not go together, by UsageError."""
    technique = job.technique
    job.fine_tuning.change(job.recipe)
    if job.budget.latency_ratio is not None and technique.steps > 1:
        given = "--gradual and --steps" if technique.gradual else "--steps"
        raise UsageError(f"--latency-ratio is met in one pruning: leave out {given}")
    if job.budget.latency_ratio is not None and job.timed is None:
        raise UsageError("--latency-ratio: nothing was given to measure latency with; in Python give `Job` its `timed`")
    schedule = job.fine_tuning.schedule
    if schedule != "small-rate" and technique.kind == "control":
        raise UsageError(
            f"--schedule {schedule}: of fine-tuning; {technique.method} is trained as the recipe says: leave it out"
        )
    if job.exit and technique.method in SPARSE:
        raise UsageError(
            f"--from {job.reference}: {technique.method} trains all exits towards sparsity first: name the run alone"
        )


def check_prunable(job: Job, network: Network) -> None:
    """Refuse a job whose prunings fail when they are made one after the other on this network, untrained in between.

    Where the order of what goes depends on weights, it is another one than later: what passes here may fail then.

    Raises:
        UsageError: at which step, and why.
    """

    def rehearse() -> None:
        rehearsed(job, network)

    current_world().on_leader(rehearse)


def check_sparsity(job: Job, network: Network) -> None:
    """Refuse, by UsageError, a network that a job's sparse training does not fit."""
    method = job.technique.method
    if method not in SPARSE:
        return
    from baselines.sparse import SPARSITIES, check_processes, regulariser  # here, as it imports torch-pruning

    if job.found is None:
        check_processes(method)
    regulariser(copy.deepcopy(network), SPARSITIES[method], SPARSITIES[method].regularisation)


def rehearsed(job: Job, network: Network) -> Network:
    """What a job's prunings leave of a network, fine-tuned nowhere; errors as those of `check_prunable`."""
    whole, every, evidence = Whole.of(network, job.technique), stages(job, network), _evidence(job)
    smaller = network
    for number, stage in enumerate(every, start=1):
        try:
            smaller = _without(job, stage, smaller, whole, evidence)
        except UsageError as error:
            if number == 1:
                raise
            raise UsageError(
                f"step {number} of {len(every)}: {error}{_in_one(job, every[-1], network, whole, evidence)}"
            ) from error
    return smaller


def drawn(job: Job) -> Network:
    """A job's network before there is a reference, weights drawn, in eval mode, on the device."""
    network = initialised(job.spec, job.seed).eval()
    generator = torch.Generator().manual_seed(job.seed)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(NOISE * torch.randn(parameter.shape, generator=generator))
    return network.to(job.where)


def _without(job: Job, stage: Stage, network: Network, whole: Whole, evidence: Evidence) -> Network:
    """A network after one of a job's prunings, widths by sensitivity chosen by a ranking instead."""
    technique = dataclasses.replace(stage.technique.choosing, allocate=None)
    plain = technique.method in CONTROLS and technique.method not in SHAPED
    options = shallow_choice(job.spec, job.seed) if plain else choice(technique, network, evidence)
    if job.budget.latency_ratio is not None:  # to be measured on what is trained
        return options.without(after(options.steps, options.steps.moves))
    return options.without(met(job, stage, options, network, whole)[0])


def _in_one(job: Job, last: Stage, network: Network, whole: Whole, evidence: Evidence) -> str:
    """What to do about a step that cannot be, if one pruning can."""
    alone = dataclasses.replace(job, technique=dataclasses.replace(job.technique, steps=1, gradual=False))
    try:
        _without(alone, last, network, whole, evidence)
    except UsageError:
        return ""
    return f"; in one pruning it can be done: leave out {'--gradual and ' * job.technique.gradual}--steps"


def _evidence(job: Job) -> Evidence:
    recipe = job.recipe
    parts = split_by(recipe, job.dataset)
    few = parts.train.subset(torch.arange(min(FEW, len(parts.train)))).to(job.where)
    return dataclasses.replace(evidence_of(job, parts), train=few, judging=few)
