"""Execution of a plan: claim or resume the run directory, train, evaluate once at the end, write the record."""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch

from compress.console import console
from compress.data import Split
from compress.data.division import DIVISION
from compress.ensemble_exit import ENSEMBLE
from compress.errors import UsageError, reason
from compress.hardware import check_bf16, describe
from compress.network_cost import cross_check
from compress.networks import Network, Spec
from compress.recipes import LEAST_STEPS, Recipe
from compress.records import Record
from compress.runs import (
    CHECKPOINT,
    METRICS,
    RECORD,
    Run,
    abandoned_runs,
    claimed,
    load,
    read_run,
    sweep,
    write_atomically,
    write_json,
)
from compress.stores.mirror import discard
from compress.training.batchnorm import check_one_image
from compress.training.distributed import current_world, naming_lost_processes
from compress.training.ensembles import ensemble_of
from compress.training.evaluation import class_rows, exit_rows, predict
from compress.training.hooks import NO_HOOK, Hook, Options
from compress.training.loop import DivergedError, Training, fit
from compress.training.objectives import Objective
from compress.training.plan import Plan, split_by


def objective_of(run: Run) -> Objective:
    """The objective that trained a run, adapted to the run's final network."""
    config = run.record.config
    return Objective.from_json(config["objective"]).fitted(Spec.from_json(config["spec"]), run.spec)


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """A network to train, and what its preparation found out.

    Attributes:
        results: added to the run's results.
        conclude: called with the trained network; returns further results.
        hook: called at every step of the training.
        choosing_macs, choosing_seconds: what it took to choose what to prune.
    """

    network: Network
    results: dict[str, Any] = field(default_factory=dict)
    conclude: Callable[[Network], dict[str, Any]] | None = None
    hook: Hook = NO_HOOK
    choosing_macs: int = 0
    choosing_seconds: float = 0.0


Prepare = Callable[[Split], Prepared]


def execute(plan: Plan, prepare: Prepare, *, resume: bool = False) -> Run:
    """Execute a plan and return the finished run; continue an interrupted run, return a finished run as it is.

    Under torchrun every process calls this, and only rank 0 reads and writes the run's directory.

    Args:
        prepare: returns the network to train, given the split.
        resume: continue even if the run failed before.

    Raises:
        UsageError: another process holds the run, it failed before, it cannot be written, the processes cannot share
            the work, or fvcore and torch count different MACs.
        DivergedError: the loss became NaN or infinite; the run is marked as failed.
    """
    world = current_world()
    world.check_device(plan.device)
    world.check_update(plan.objective.update)
    world.check_same(plan.path.name)
    if finished := world.on_leader(lambda: _finished(plan, resume=resume)):
        return finished
    with contextlib.ExitStack() as claim:
        if finished := world.on_leader(lambda: _claim(plan, claim, resume=resume)):
            return finished
        parts = split_by(plan.recipe, plan.dataset).to(plan.device)
        world.check_batch(plan.recipe.batch(len(parts.train)))
        prepared = prepare(parts)
        cross_check(prepared.network)  # before training rather than after
        if plan.recipe.batch(len(parts.train)) == 1 and plan.recipe.epochs:
            check_one_image(prepared.network)
        if plan.precision == "bf16":
            check_bf16(prepared.network, plan.device)
        training = _training(plan, parts, prepared)  # raises before a record is written
        run = Run(plan.path, _new_record(plan, training))
        world.on_leader(run.write_record)
        world.on_leader(partial(_write_division, plan))
        _announce(plan, training)
        try:
            with naming_lost_processes():
                on_epoch = partial(_write_metrics, run)
                fit(training, title=plan.title, checkpoint=run.path / CHECKPOINT, on_epoch=on_epoch)
                return world.on_leader(lambda: _evaluate(plan, run, training, prepared))
        except Exception as error:
            if world.leads and isinstance(error, DivergedError):
                _mark_failed(run, str(error))
            elif world.leads and not isinstance(error, UsageError):
                _mark_failed(run, reason(error))
            raise


def _claim(plan: Plan, claim: contextlib.ExitStack, *, resume: bool) -> Run | None:
    """Hold the run's directory until the stack is closed; returns the run if another process has just finished it."""
    claim.enter_context(claimed(plan.path, patience=None))
    if finished := _finished(plan, resume=resume):
        return finished
    if (plan.path / RECORD).exists():
        console.print(f"{plan.title}: going on with {plan.path}")
    elif resume:
        alike = [run for run in abandoned_runs(plan.runs) if run.record.method == plan.method and run.spec == plan.spec]
        unfinished = "".join(f"; {run.id} is unfinished, to go on: {run.record.command}" for run in alike)
        console.print(f"{plan.title}: there is no such run to resume, so it starts anew{unfinished}")
    return None


def _training(plan: Plan, parts: Split, prepared: Prepared) -> Training:
    return Training(
        prepared.network.to(plan.device),
        parts,
        plan.recipe,
        plan.objective.fitted(plan.spec, prepared.network.spec),
        augment=plan.dataset.augmentable,
        seed=plan.seed,
        precision=plan.precision,
        options=Options(
            teacher=load(plan.teacher).to(plan.device) if plan.teacher else None,
            compile=plan.compile,
            capture=plan.capture,
            hook=prepared.hook,
        ),
    )


def _announce(plan: Plan, training: Training) -> None:
    """Print the consequences of few training images: smaller batches, few steps."""
    images, batch, steps = len(training.split.train), training.batch_size, training.steps
    if plan.fewer:
        console.print(f"{plan.title}: batches of {batch}, not {plan.recipe.batch_size}, for {images} training images")
    if plan.recipe.epochs and steps < LEAST_STEPS:
        every = steps * plan.recipe.epochs
        console.print(
            f"{plan.title}: warning: an epoch has only {steps} step{'s' * (steps > 1)} of {batch} images, the training "
            f"{every}; more images teach more, or --epochs"
        )


def _evaluate(plan: Plan, run: Run, training: Training, prepared: Prepared) -> Run:
    """Evaluate the trained network, on test images too, write all files and remove the checkpoint."""
    parts, network = training.split, training.network
    named = {"validation": parts.validation, "calibration": parts.calibration, "test": parts.test}
    predicted = {name: (predict(network, part, parts.normalisation), part.labels) for name, part in named.items()}
    if not all(torch.isfinite(logits).all() for logits, _ in predicted.values()):
        raise DivergedError("the network's logits are not finite after training; a lower --learning-rate may help")
    if not training.history:  # no epoch has written it
        _write_metrics(run, training)
    run.write_weights(network)
    trained = parts.train.labels
    ensemble, means = ensemble_of(network, plan.ensemble, predicted, trained) if plan.ensemble else (None, {})
    run.write_predictions(
        {f"{name}_logits": logits.half() for name, (logits, _) in predicted.items()}
        | {f"{name}_labels": labels for name, (_, labels) in predicted.items()}
        | {f"{name}_{ENSEMBLE}_logits": mean.half() for name, mean in means.items()}
    )
    run.record.environment |= _ways(training)
    run.record.spec = network.spec.to_json()
    run.record.cost = _cost(plan, training, prepared)
    settled = _settled(training)
    if settled:
        console.print(f"{plan.title}: batch norm: {settled}")
    concluded = prepared.conclude(network) if prepared.conclude else {}
    of_classes = class_rows(*predicted["test"], trained)
    run.record.results = (
        prepared.results
        | concluded
        | ({"batch_norm": settled} if settled else {})
        | {"weights": _reported(plan.recipe), "exits": exit_rows(network, predicted)}
        | ({ENSEMBLE: ensemble} if ensemble else {})
        | ({"per_class": of_classes} if of_classes else {})
    )
    run.record.status = "finished"
    run.write_record()
    shutil.rmtree(run.path / CHECKPOINT, ignore_errors=True)  # what is left `sweep` takes: the run is finished
    discard(run.path / CHECKPOINT)
    return run


def _cost(plan: Plan, training: Training, prepared: Prepared) -> dict[str, Any]:
    """What the run took, as its record has it; the total is unknown where given weights are part of it."""
    macs, choosing = training.training_macs, prepared.choosing_macs + training.spent.choosing_macs
    before = list({run.id: run.record.cost for run in (plan.parent, plan.teacher) if run}.values())  # perhaps one run
    totals = [cost["total_training_macs"] for cost in before]
    unknown = plan.initial is not None or None in totals
    return {
        "epochs": training.epochs_done,
        "total_epochs": training.epochs_done + sum(cost["total_epochs"] for cost in before),
        "seconds": sum(line["seconds"] for line in training.history) + training.spent.settling_seconds,
        "training_macs": macs,
        "choosing_macs": choosing,
        "choosing_seconds": prepared.choosing_seconds + training.spent.choosing_seconds,
        "total_training_macs": None if unknown else macs + choosing + sum(totals),
    }


def _finished(plan: Plan, *, resume: bool) -> Run | None:
    """The run if it is finished; raises UsageError for a failed run unless `resume`."""
    if not (plan.path / RECORD).exists():
        return None
    run = read_run(plan.path)
    if run.record.status == "failed" and not resume:
        since = "from its last good epoch" if (run.path / METRICS).exists() else "from the beginning"
        raise UsageError(f"run {run.id} failed before: {run.record.failure}; --resume tries again {since}")
    if run.record.status != "finished":
        return None
    known, asked = run.record.data["classes"], [*plan.dataset.classes]
    if known != asked:  # the images are the same, and so is the run's id
        before, now = next(names for names in zip(known, asked, strict=True) if names[0] != names[1])
        raise UsageError(
            f"run {run.id} was trained on the same images, with a class called {before!r}, now {now!r}: give the "
            f"folder its name back, or remove {run.path} to train again"
        )
    sweep(run)
    console.print(f"{plan.title}: finished before, {plan.path}")
    return run


def _mark_failed(run: Run, why: str) -> None:
    run.record.status, run.record.failure, run.record.results = "failed", why, {}
    run.write_record()


def _new_record(plan: Plan, training: Training) -> Record:
    parts = training.split
    sizes = {name: len(getattr(parts, name)) for name in ("train", "validation", "calibration", "test")}
    return Record(
        status="running",
        kind=plan.kind,
        method=plan.method,
        arch=plan.spec.arch,
        spec=plan.spec.to_json(),
        config=plan.config,
        data={
            "name": plan.dataset.name,
            "copy": plan.dataset.copy,
            "digest": plan.dataset.digest,
            "skipped": plan.dataset.skipped,
            "preprocessing": plan.dataset.preprocessing,
            "division": plan.dataset.division,
            "classes": list(plan.dataset.classes),
            "normalisation": {"mean": list(parts.normalisation.mean), "std": list(parts.normalisation.std)},
            "split": sizes | {"seed": plan.recipe.split_seed},
        },
        seed=plan.seed,
        parent=plan.parent.id if plan.parent else None,
        environment=describe(plan.device)
        | {"precision": plan.precision, "world_size": training.world.size, **_ways(training)},
        command=plan.command,
    )


def _ways(training: Training) -> dict[str, bool]:
    """How steps ran up to now, as a record has it."""
    compiled = training.world.size == 1 and training.model is not training.network
    return {"compiled": compiled, "captured": training.stepping.captured}


def _write_division(plan: Plan) -> None:
    """Write the part of every file, where flat class folders were divided."""
    if plan.dataset.division and plan.dataset.divided:
        files: dict[str, list[str]] = {part: [] for part in plan.dataset.division["shares"]}
        for content, part in sorted(plan.dataset.divided.items()):
            files[part].append(content)
        write_json(plan.path / DIVISION, plan.dataset.division | {"files": files})


def _write_metrics(run: Run, training: Training) -> None:
    lines = "".join(json.dumps(line) + "\n" for line in training.history)
    write_atomically(run.path / METRICS, lines.encode())


def _reported(recipe: Recipe) -> str:
    if not recipe.epochs:
        return "as given, without any training"
    if recipe.select == "best-validation":
        return "best by the last exit's validation accuracy"
    return "last" if recipe.averaging == "none" else f"{recipe.averaging} average"


def _settled(training: Training) -> str | None:
    """Which images batch norm's statistics were recomputed from, and why; None if they were not."""
    spent, images = training.spent, len(training.split.train)
    if training.averaging.begun and spent.settling_macs:  # which is zero where there is no batch norm
        return f"recomputed over all {images} training images, for the averaged weights"
    if not spent.settled_epochs:
        return None
    some = spent.settled_epochs < training.epochs_done
    when = f"each of the first {spent.settled_epochs} epochs" if some else "every epoch"
    return (
        f"recomputed over all {images} training images after {when}, because its running statistics take "
        f"{spent.steps_to_settle:g} steps to settle, and an epoch has {training.steps}"
    )
