"""A smaller network by any technique: its reference found or trained, pruned to a budget, fine-tuned, recorded."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from baselines.budget import Budget, check_held
from baselines.channels import Channel
from baselines.check import check, check_prunable
from baselines.choice import choice, shallow_choice
from baselines.controls import DISTILLED, scratch, scratch_epochs
from baselines.gradual import Gradual, even_shares
from baselines.job import FINE_TUNING, FineTuning, Job
from baselines.stages import Stage, Whole, decide, evidence_of, met, stages
from baselines.steps import Size
from baselines.technique import CONTROLS, SHAPED, SPARSE, TAUGHT, Technique
from compress.console import console
from compress.data import Dataset, Split, open_dataset
from compress.errors import UsageError, checked
from compress.networks import Network, initialised
from compress.recipes import Recipe, recipe_named
from compress.runs import Run
from compress.training import Method, Prepared, execute, run_option
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
    check(job)
    if job.technique.method in SHAPED:
        return _from_scratch(job)
    if job.technique.method in CONTROLS:
        return _shallow(job)
    return _gradually(job) if job.technique.gradual else _step_by_step(job)


def _step_by_step(job: Job) -> Run:
    """The last of a chain of runs, each pruned from the one before and fine-tuned."""
    run, every = _start(job), stages(job, job.network)
    for number, stage in enumerate(every, start=1):
        run = _pruned(job, stage, run, number if number < len(every) else None)
    return run


def _pruned(job: Job, stage: Stage, parent: Run, step: int | None) -> Run:
    """A run pruned once and fine-tuned; `step` is its number in a chain, but for the last."""
    plan = job.plan(job.fine_tuned, step=step, budget=stage.budget, technique=stage.technique, parent=parent)
    before = _choosing(parent) if parent.record.kind == "prune" and parent.id != job.base.id else {}

    def prepare(parts: Split) -> Prepared:
        network = job.of(parent)
        if step == 1:
            check_prunable(job, network)
        try:
            decision = decide(job, stage, network, _whole(job), parts, kept=None if job.exit else parent.path)
        except UsageError as error:
            raise UsageError(f"{error}{_kept(job, parent)}") from error
        spent = {"macs": decision.macs, "seconds": decision.seconds}
        chain = {"choosing": {name: value + before[name] for name, value in spent.items()}} if before else {}
        return Prepared(
            network=decision.network,
            results={
                "requested": _requested(stage.budget),
                "achieved": decision.achieved,
                "val_accuracy_before": _validation_accuracies(job.network, parts),
                "val_accuracy_pruned": _validation_accuracies(decision.network, parts),
            }
            | chain,
            choosing_macs=decision.macs,
            choosing_seconds=decision.seconds,
        )

    return execute(plan, prepare, resume=job.place.resume)


def _kept(job: Job, parent: Run) -> str:
    """What stays when a pruning is refused that came after a training, and how to go on from there."""
    if parent.id != job.base.id:
        return f"; what was trained so far is kept: prune it by itself, --from {run_option(parent, job.place.runs)}"
    return "" if job.found else f"; the reference, {parent.id}, is kept"


def _choosing(run: Run) -> dict[str, float]:
    """What a step and those before it took to choose."""
    cost = run.record.cost
    return run.record.results.get("choosing") or {
        "macs": cost.get("choosing_macs", 0),
        "seconds": cost.get("choosing_seconds", 0.0),
    }


def _gradually(job: Job) -> Run:
    """A run pruned while it is fine-tuned."""
    parent, every = _start(job), stages(job, job.network)
    plan = job.plan(job.fine_tuned, parent=parent)

    def prepare(parts: Split) -> Prepared:
        network, whole, evidence = job.of(parent), _whole(job), evidence_of(job, parts)
        check_prunable(job, network)

        def choose(now: Network, number: int) -> list[Channel]:
            stage = every[number]
            options = choice(stage.technique, now, evidence)
            assert options.channels is not None
            try:
                removed, _ = met(job, stage, options, now, whole)
            except UsageError as error:
                raise UsageError(
                    f"pruning {number + 1} of {len(every)}: {error}; without --gradual each is a run that is kept"
                ) from error
            size, left = options.steps.size(removed), whole.left(now) - sum(removed)
            check_held(stage.budget, whole.size, size, Size.of(options.without(removed)))
            console.print(whole.compared(stage.budget, {"ratio": 1 - left / whole.units} | size._asdict()))
            return options.channels(removed)

        return Prepared(
            network=network,
            hook=Gradual(shares=even_shares(len(every)), choose=choose, evidence=evidence).hook,
            results={
                "requested": _requested(job.budget),
                "val_accuracy_before": _validation_accuracies(job.network, parts),
            },
            conclude=lambda trained: {"achieved": whole.achieved(trained)},
        )

    return execute(plan, prepare, resume=job.place.resume)


def _from_scratch(job: Job) -> Run:
    """A control: the shape that pruning would give, trained from new weights."""
    [stage], recipe = stages(job, job.network), job.recipe
    parts = split_by(recipe, job.dataset)
    whole = _whole(job)
    decision = decide(job, stage, job.network, whole, parts.to(job.where), kept=None if job.exit else job.base.path)
    epochs = scratch_epochs(job.technique.method, job.from_scratch, whole.size.macs, decision.achieved["macs"])
    plan = job.plan(dataclasses.replace(job.from_scratch, epochs=epochs), parent=job.base)
    results = {"requested": _requested(job.budget), "achieved": decision.achieved}

    def prepare(_: Split) -> Prepared:
        return Prepared(
            network=scratch(decision.network.spec, job.seed),
            results=results,
            choosing_macs=decision.macs,
            choosing_seconds=decision.seconds,
        )

    return execute(plan, prepare, resume=job.place.resume)


def _shallow(job: Job) -> Run:
    """A control: the plain shallower network of the budget, by plain BP, by itself or taught by the reference."""
    network, options = initialised(job.spec, job.seed).eval().to(job.where), shallow_choice(job.spec, job.seed)
    whole, [stage] = Whole.of(network, job.technique), stages(job, network)
    removed, measured = current_world().on_leader(lambda: met(job, stage, options, network, whole))
    smaller, taught = options.without(removed), job.technique.method == TAUGHT
    plan = job.plan(
        job.from_scratch,
        objective=(DISTILLED if taught else BP).objective(smaller.spec),
        spec=smaller.spec,
        teacher=job.base if taught else None,
    )
    achieved = whole.achieved(smaller) | measured
    console.print(whole.compared(job.budget, achieved))
    results = {"requested": _requested(job.budget), "achieved": achieved}
    return execute(plan, lambda _: Prepared(network=smaller, results=results), resume=job.place.resume)


def _start(job: Job) -> Run:
    """The run that is pruned: the reference, or what sparse training makes of it."""
    if job.technique.method not in SPARSE:
        return job.base
    from baselines.sparse import sparse_trained  # here, as it imports torch-pruning, which takes seconds

    return sparse_trained(
        job.base,
        job.technique.method,
        job.dataset,
        job.recipe,
        seed=job.seed,
        place=job.place,
    )


def _whole(job: Job) -> Whole:
    return Whole.of(job.network, job.technique)


def _requested(budget: Budget) -> dict[str, float]:
    return dict([budget.option])


def _validation_accuracies(network: Network, parts: Split) -> list[float] | None:
    logits = predict(network, parts.validation, parts.normalisation)
    return accuracies(logits, parts.validation.labels)
