"""Feasibility: whether a network of the reference's shape can be pruned as a job asks, before anything is trained."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Sequence

import torch

from baselines.job import Job, Reference, find_reference
from baselines.pruning_candidates import find_candidates
from baselines.scoring_data import ScoringData
from baselines.selection import Unpruned, choose_removal, pruning_steps, scoring_data_of
from baselines.sparse_training import STRENGTHS, check_processes, regulariser
from baselines.technique import SPARSE
from compress.errors import UsageError
from compress.networks import Network, initialised
from compress.training.distributed import current_world
from compress.training.plan import split_by
from compress.training.planning import load_start

FEW = 16  # images that scores are taken on where they only have to exist
NOISE = 0.01  # added to initial weights: zeros, which training would change, have no scores


def check(job: Job, reference: Reference) -> None:
    """Refuse a job that cannot be done, as far as the shape of its network tells.

    Raises:
        UsageError: what cannot be done, and what can be instead.
    """
    if reference.run is not None and job.technique.method not in SPARSE:
        return  # the first step is taken at once, and tells
    network = reference.load(job.device) if reference.run else drawn(job, reference)
    check_sparsity(job, reference, network)
    check_prunable(job, reference, network)


def check_all(jobs: Sequence[Job]) -> None:
    """Refuse the jobs of a command, which have one reference, before it is trained, if one of them cannot be done.

    Raises:
        UsageError: what cannot be done, and what can be instead.
    """
    if len(jobs) > 1 and (reference := find_reference(jobs[0])).run is None:
        for job in jobs:
            check(job, reference)


def check_prunable(job: Job, reference: Reference, network: Network) -> None:
    """Refuse a job whose pruning steps fail when they follow one another on this network without fine-tuning.

    Where the order of removal depends on weights, fine-tuning may change it, so that a later step still fails.

    Raises:
        UsageError: which step fails, and why.
    """

    def rehearse() -> None:
        rehearsed(job, reference, network)

    current_world().on_leader(rehearse)


def check_sparsity(job: Job, reference: Reference, network: Network) -> None:
    """Refuse, by UsageError, a network that the job's sparse training does not fit."""
    method = job.technique.method
    if method not in SPARSE:
        return
    if reference.run is None:
        check_processes(method)
    regulariser(copy.deepcopy(network), method, STRENGTHS[method])


def rehearsed(job: Job, reference: Reference, network: Network) -> Network:
    """The network after all of a job's pruning steps without fine-tuning; errors are those of `check_prunable`."""
    unpruned, smaller = Unpruned.of(network, job.technique), network
    steps, scoring = pruning_steps(job, unpruned), _few_images(job, reference)
    for number, step in enumerate(steps, start=1):
        # A ranking stands in where widths go by sensitivity.
        technique = dataclasses.replace(step.technique.choosing, allocate=None)
        try:
            candidates = find_candidates(technique, smaller, scoring)
            if job.budget.latency_ratio is not None:  # it is measured on the trained network
                removed = candidates.order.after(candidates.order.moves)
            else:
                removed, _ = choose_removal(job, step, candidates, smaller, unpruned)
            smaller = candidates.without(removed)
        except UsageError as error:
            raise UsageError(f"step {number} of {len(steps)}: {error}" if number > 1 else str(error)) from error
    return smaller


def drawn(job: Job, reference: Reference) -> Network:
    """The network of a reference without a run, in eval mode, on the device: with random weights, or the given ones."""
    network = initialised(reference.spec, job.seed).eval()
    if job.start.given:
        load_start(network, job.start, whole=True)
        return network.to(job.device)
    generator = torch.Generator().manual_seed(job.seed)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(NOISE * torch.randn(parameter.shape, generator=generator))
    return network.to(job.device)


def _few_images(job: Job, reference: Reference) -> ScoringData:
    parts = split_by(job.recipe, job.dataset)
    few = parts.train.subset(torch.arange(min(FEW, len(parts.train)))).to(job.device)
    return dataclasses.replace(scoring_data_of(job, reference, parts), train=few, judging=few)
