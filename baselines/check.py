"""What is refused before anything is trained."""

from __future__ import annotations

from baselines.budget import check_reachable
from baselines.controls import shallow_steps
from baselines.coupling import Coupling
from baselines.depth import block_steps, cut_steps, removable_blocks
from baselines.job import Job
from baselines.steps import Steps
from baselines.technique import CONTROLS, SHAPED, SPARSE
from compress.errors import UsageError
from compress.networks import initialised


def check(job: Job) -> None:
    """Refuse options that do not go together, and a budget that no network of this shape can meet.

    Raises:
        UsageError: which, and what can be had instead.
    """
    check_together(job)
    if job.found is None or job.technique.method in SPARSE:  # else the choice itself says so at once
        check_reachable(job.budget, _unscored(job))


def check_together(job: Job) -> None:
    """Refuse options of a job that do not go together, by UsageError."""
    technique = job.technique
    job.recipe.changed(epochs=job.epochs, learning_rate=job.learning_rate, weight_decay=job.weight_decay)
    if job.budget.latency_ratio is not None and technique.steps > 1:
        raise UsageError("--latency-ratio is met in one pruning: leave out --steps")
    if job.schedule != "small-rate" and technique.kind == "control":
        raise UsageError(f"--schedule {job.schedule}: of fine-tuning; {technique.method} is trained as the recipe says")
    if job.exit and technique.method in SPARSE:
        raise UsageError(
            f"--from {job.reference}: {technique.method} trains all exits towards sparsity first: name the run alone"
        )


def _unscored(job: Job) -> Steps:
    """Steps to the ends of what can be reached, in no order."""
    technique = job.technique.choosing
    if technique.method in CONTROLS and technique.method not in SHAPED:
        return shallow_steps(job.spec)
    network = initialised(job.spec, job.seed)
    if technique.method == "blocks":
        return block_steps(network, dict.fromkeys(removable_blocks(job.spec), 0.0))
    if technique.method == "depth-cut":
        return cut_steps(network)
    scoped = Coupling(network).within(technique.scope, technique.keep)
    every = tuple((group, units - 1) for group, units in enumerate(scoped.units))
    return Steps(units=scoped.units, moves=(every,), size=scoped.size, at_ratio=lambda _: (0,) * len(scoped.units))
