"""Pruning: a network made smaller by any technique, fine-tuned or trained anew, and recorded as a run."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from baselines.budget import Budget
from baselines.budget_search import check_held
from baselines.channels import Channels
from baselines.controls import DISTILLED, scratch, scratch_epochs
from baselines.coupling import torch_pruning_version
from baselines.feasibility import check, check_prunable
from baselines.gradual_pruning import even_shares, gradual_pruning
from baselines.job import (
    FINE_TUNING,
    FineTuning,
    Job,
    Reference,
    find_reference,
    plan_run,
    train_missing,
    training_recipe,
)
from baselines.kept_files import KeptFiles
from baselines.pruning_candidates import find_candidates
from baselines.removal_order import Size
from baselines.selection import PruningStep, Unpruned, choose_removal, pruning_steps, scoring_data_of, select
from baselines.sparse_training import sparse_trained
from baselines.technique import SHAPED, SPARSE, TAUGHT, Technique
from compress.console import console
from compress.data import Dataset, Split, open_dataset
from compress.errors import UsageError, checked
from compress.networks import Network, initialised
from compress.recipes import Recipe, recipe_named
from compress.runs import Run
from compress.training import Method, Objective, Prepared, execute, objective_of, run_option
from compress.training.batchnorm import REESTIMATION_IMAGES
from compress.training.distributed import current_world
from compress.training.evaluation import accuracies, predict
from compress.training.plan import split_by
from compress.training.planning import PLACE, Place

BP = Method(name="bp")


@checked
def prune(
    arch_or_run: str | Path | Run,
    dataset: Dataset | str = "fashion-mini",
    *,
    budget: Budget,
    technique: Technique | str = "l1",
    recipe: Recipe | str = "quick",
    fine_tuning: FineTuning = FINE_TUNING,
    seed: int = 0,
    place: Place = PLACE,
) -> Run:
    """The finished run of a reference made smaller and fine-tuned by the objective that trained it, or of a control.

    Args:
        arch_or_run: an architecture's name, whose newest run by plain BP is pruned, or else one trained now; or the
            finished run to prune, as a `Run` or a path; the path RUN:EXIT cuts it at that exit first.
        dataset, technique, recipe: see `Job`; or their names.
        budget, fine_tuning, seed, place: see `Job`.

    Raises:
        UsageError: an argument is unknown, the reference does not fit, or the budget cannot be met.
    """
    run = arch_or_run.path if isinstance(arch_or_run, Run) else arch_or_run
    return carry_out(
        Job(
            arch=run if isinstance(run, str) else None,
            dataset=open_dataset(dataset) if isinstance(dataset, str) else dataset,
            budget=budget,
            technique=Technique(method=technique) if isinstance(technique, str) else technique,
            recipe=recipe_named(recipe) if isinstance(recipe, str) else recipe,
            reference=None if isinstance(run, str) else run,
            fine_tuning=fine_tuning,
            seed=seed,
            place=place,
        )
    )


def carry_out(job: Job) -> Run:
    """The finished run of a job: see `prune`."""
    torch_pruning_version()  # refuses, before anything is computed
    reference = find_reference(job)
    check(job, reference)
    if job.technique.method == "shallow":
        return _shallow(job, reference)
    reference = train_missing(job, reference)
    if job.technique.method == TAUGHT:
        return _shallow(job, reference)
    if job.technique.method in SHAPED:
        return _from_scratch(job, reference)
    return _gradually(job, reference) if job.technique.gradual else _step_by_step(job, reference)


def _step_by_step(job: Job, reference: Reference) -> Run:
    """Prune and fine-tune in one or several steps, each a run that starts from the one before; return the last."""
    network, run = reference.load(job.device), _sparse(job, reference)
    steps = pruning_steps(job, Unpruned.of(network, job.technique))
    for number, step in enumerate(steps, start=1):
        run = _prune_once(job, reference, network, step, run, number if number < len(steps) else None)
    return run


def _prune_once(
    job: Job, reference: Reference, network: Network, step: PruningStep, parent: Run, number: int | None
) -> Run:
    """The run of one pruning step; `network` is the reference's, `number` the step's where others follow."""
    plan = plan_run(job, reference, step=number, budget=step.budget, technique=step.technique, parent=parent)
    follows = parent.record.kind == "prune" and parent.id != reference.trained.id

    def prepare(parts: Split) -> Prepared:
        start = reference.load(job.device, parent)
        if number == 1:
            check_prunable(job, reference, start)
        unpruned, scoring = Unpruned.of(network, job.technique), scoring_data_of(job, reference, parts)
        kept = KeptFiles(parent.path, reference.exit)
        try:
            selection = select(job, step, start, unpruned, scoring, kept)
        except UsageError as error:
            raise UsageError(f"{error}{_what_is_kept(job, reference, parent)}") from error
        results: dict[str, Any] = {
            "requested": dict([step.budget.option]),
            "achieved": selection.achieved,
            "val_accuracy_before": _validation_accuracies(network, parts),
            "val_accuracy_pruned": _validation_accuracies(selection.network, parts),
        }
        if not plan.recipe.epochs:
            results["batch_norm"] = f"re-estimated on up to {REESTIMATION_IMAGES:,} training images; nothing trained"
        if follows:
            before = _spent_on_choosing(parent)
            spent = {"macs": selection.macs, "seconds": selection.seconds}
            results["choosing"] = {name: value + before[name] for name, value in spent.items()}
        return Prepared(
            network=selection.network,
            results=results,
            choosing_macs=selection.macs,
            choosing_seconds=selection.seconds,
        )

    return execute(plan, prepare, resume=job.place.resume)


def _what_is_kept(job: Job, reference: Reference, parent: Run) -> str:
    """The end of an error after a training: which runs are kept, and how to prune them."""
    if parent.id == reference.trained.id:
        return ""
    return f"; what was trained so far is kept: prune it by itself, --from {run_option(parent, job.place.runs)}"


def _spent_on_choosing(run: Run) -> dict[str, float]:
    """The MACs and seconds that the selections of a pruning step and of those before it took."""
    cost = run.record.cost
    return run.record.results.get("choosing") or {
        "macs": cost.get("choosing_macs", 0),
        "seconds": cost.get("choosing_seconds", 0.0),
    }


def _gradually(job: Job, reference: Reference) -> Run:
    """The run of a network that is pruned while it is fine-tuned."""
    whole, parent = reference.load(job.device), _sparse(job, reference)
    unpruned = Unpruned.of(whole, job.technique)
    steps = pruning_steps(job, unpruned)

    def prepare(parts: Split) -> Prepared:
        start, scoring = reference.load(job.device, parent), scoring_data_of(job, reference, parts)
        check_prunable(job, reference, start)

        def choose(network: Network, number: int) -> Channels:
            step = steps[number]
            candidates = find_candidates(step.technique, network, scoring)
            assert candidates.channels is not None
            try:
                removed, _ = choose_removal(job, step, candidates, network, unpruned)
            except UsageError as error:
                raise UsageError(
                    f"pruning {number + 1} of {len(steps)}: {error}; without --gradual each is a run that is kept"
                ) from error
            size, left = candidates.order.size(removed), unpruned.left(network) - sum(removed)
            check_held(step.budget, unpruned.size, size, Size.of(candidates.without(removed)))
            console.print(unpruned.compared(step.budget, {"ratio": 1 - left / unpruned.units} | size._asdict()))
            return candidates.channels(removed)

        return Prepared(
            network=start,
            hook=gradual_pruning(even_shares(len(steps)), choose, scoring),
            results={
                "requested": dict([job.budget.option]),
                "val_accuracy_before": _validation_accuracies(whole, parts),
            },
            conclude=lambda trained: {"achieved": unpruned.achieved(trained)},
        )

    return execute(plan_run(job, reference, parent=parent), prepare, resume=job.place.resume)


def _from_scratch(job: Job, reference: Reference) -> Run:
    """The run of a control: the shape that pruning would give, trained from newly initialised weights."""
    network, base = reference.load(job.device), reference.trained
    unpruned = Unpruned.of(network, job.technique)
    [step] = pruning_steps(job, unpruned)
    scoring = scoring_data_of(job, reference, split_by(job.recipe, job.dataset).to(job.device))
    selection = select(job, step, network, unpruned, scoring, KeptFiles(base.path, reference.exit))
    recipe = training_recipe(job, reference)
    epochs = scratch_epochs(job.technique.method, recipe, unpruned.size.macs, selection.achieved["macs"])
    recipe = dataclasses.replace(recipe, epochs=epochs)
    plan = plan_run(job, reference, recipe=recipe, parent=base, objective=_objective_from_scratch(reference))

    def prepare(_: Split) -> Prepared:
        return Prepared(
            network=scratch(selection.network.spec, job.seed, zero_scale=plan.recipe.zero_scale),
            results={"requested": dict([job.budget.option]), "achieved": selection.achieved},
            choosing_macs=selection.macs,
            choosing_seconds=selection.seconds,
        )

    return execute(plan, prepare, resume=job.place.resume)


def _objective_from_scratch(reference: Reference) -> Objective:
    """The objective of the reference's own training, but for a teacher: a control differs by its weights alone."""
    if reference.exit:
        return reference.objective
    own = objective_of(reference.trained)
    if own.frozen_trunk:
        raise UsageError(
            f"--from {reference.trained.id}: its trunk was trained by another run, without the exits, so that there is "
            "no training to repeat from scratch"
        )
    return dataclasses.replace(own, teacher=0.0)


def _shallow(job: Job, reference: Reference) -> Run:
    """The run of a control: the plain shallower network, trained by plain BP or taught by the reference."""
    network = initialised(reference.spec, job.seed).eval().to(job.device)
    unpruned = Unpruned.of(network, job.technique)
    [step] = pruning_steps(job, unpruned)
    scoring = scoring_data_of(job, reference, split_by(job.recipe, job.dataset))
    candidates = find_candidates(job.technique, network, scoring)
    kept = KeptFiles(reference.run.path, reference.exit) if reference.run else None
    removed, measured = current_world().on_leader(
        lambda: choose_removal(job, step, candidates, network, unpruned, kept)
    )
    smaller, taught = candidates.without(removed), job.technique.method == TAUGHT
    plan = plan_run(
        job,
        reference,
        objective=(DISTILLED if taught else BP).objective(smaller.spec),
        spec=smaller.spec,
        teacher=reference.trained if taught else None,
    )
    achieved = unpruned.achieved(smaller) | measured
    console.print(unpruned.compared(job.budget, achieved))
    results = {"requested": dict([job.budget.option]), "achieved": achieved}
    network = initialised(smaller.spec, job.seed, zero_scale=plan.recipe.zero_scale)
    return execute(plan, lambda _: Prepared(network=network, results=results), resume=job.place.resume)


def _sparse(job: Job, reference: Reference) -> Run:
    """The run that is pruned: the reference, trained on towards sparse channels where the method asks for that."""
    if job.technique.method not in SPARSE:
        return reference.trained
    how: dict[str, Any] = {"epochs": job.fine_tuning.epochs, "seed": job.seed, "place": job.place}
    return sparse_trained(reference.trained, job.technique.method, job.dataset, job.recipe, **how)


def _validation_accuracies(network: Network, parts: Split) -> list[float] | None:
    logits = predict(network, parts.validation, parts.normalisation)
    return accuracies(logits, parts.validation.labels)
