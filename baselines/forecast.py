"""Forecasts: what a job would give and how long it would take, before anything is trained."""

from __future__ import annotations

from dataclasses import dataclass

from baselines.controls import scratch_epochs
from baselines.feasibility import check_sparsity, drawn, rehearsed
from baselines.job import Job, Reference, find_reference, training_recipe
from baselines.kept_files import KeptFiles
from baselines.pruning_candidates import find_candidates
from baselines.removal_order import Size
from baselines.selection import Unpruned, choose_removal, pruning_steps, scoring_data_of
from baselines.technique import CONTROLS, SHAPED, SPARSE, TAUGHT
from compress.errors import UsageError
from compress.networks import Network
from compress.training import image_seconds, precision_of
from compress.training.plan import split_by

FORWARD = 1 / 3  # cost of an image that is only looked at, relative to one that is trained on


@dataclass(frozen=True, kw_only=True)
class Forecast:
    """What a job would do.

    Attributes:
        requested: the budget, as an option of the command.
        trained: whether the reference is trained; else scores are those of random weights, and only sizes are exact.
        whole: size before pruning.
        smallest, largest: the ends of what can be reached, after all moves and after the first.
        achieved: size that the budget would give; None where it is refused.
        refused: why the budget is refused.
        seconds: rough duration of all trainings, that of a missing reference included; None where it is refused.
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
    """Forecast a job: candidates are scored, nothing is trained.

    Raises:
        UsageError: the reference does not fit, or the method cannot score its network.
    """
    technique, reference = job.technique, find_reference(job)
    network = reference.load(job.device) if reference.run else drawn(job, reference)
    check_sparsity(job, reference, network)
    unpruned = Unpruned.of(network, technique)
    kept = KeptFiles(reference.run.path, reference.exit) if reference.run else None
    plain = technique.method in CONTROLS and technique.method not in SHAPED  # nothing is scored
    scoring = scoring_data_of(job, reference, split_by(job.recipe, job.dataset).to(job.device))
    candidates = find_candidates(technique.choosing, network, scoring, kept)
    order, achieved, refused, seconds = candidates.order, None, None, None
    try:
        if technique.steps > 1:
            smaller = rehearsed(job, reference, network)
        else:
            [step] = pruning_steps(job, unpruned)
            smaller = candidates.without(choose_removal(job, step, candidates, network, unpruned, kept)[0])
        achieved = Size.of(smaller)
        seconds = _seconds(job, reference, network, smaller)
    except UsageError as error:
        refused = str(error)
    return Forecast(
        requested=f"--{job.budget}",
        trained=reference.run is not None or job.start.given or plain,
        whole=unpruned.size,
        smallest=order.smallest,
        largest=order.size(order.after(order.moves[:1])),
        achieved=achieved,
        refused=refused,
        seconds=seconds,
    )


def _seconds(job: Job, reference: Reference, network: Network, smaller: Network) -> float:
    """The rough duration of a job's trainings: epochs times images times what an image takes, timed now."""
    method, epochs, steps = job.technique.method, training_recipe(job, reference).epochs, job.technique.steps
    before, after = 0.0, float(epochs)  # epochs of the unpruned network and of the pruned one
    if method in SHAPED:
        macs = Size.of(network).macs, Size.of(smaller).macs
        after = scratch_epochs(method, training_recipe(job, reference), *macs)
    elif method == TAUGHT:
        before = FORWARD * epochs
    elif job.technique.gradual:  # steps at equal distances over the first half
        before = epochs * (steps + 1) / (4 * steps)
        after = epochs - before
    elif job.technique.kind == "prune":  # a chain of networks between both
        before, after = epochs * (steps - 1) / 2, epochs * (steps + 1) / 2
    before += epochs if method in SPARSE else 0
    missing = reference.run is None and not job.start.given and method != "shallow"
    before += job.recipe.epochs if missing else 0

    def seconds_of(network: Network) -> float:
        """The seconds that a training step takes, per image."""
        objective = reference.objective.fitted(reference.spec, network.spec)
        precision = precision_of(job.place.precision, objective, job.device)
        return image_seconds(network.spec, objective, job.recipe, device=job.device, precision=precision)

    seconds = after * seconds_of(smaller) + (before * seconds_of(network) if before else 0)
    parts = split_by(job.recipe, job.dataset)
    return seconds * (len(parts.train) + FORWARD * len(parts.validation))
