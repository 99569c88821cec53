"""Pruning jobs: what is asked for, the reference that a job starts from, and the plan of each of its runs."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from baselines.budget import Budget, Quartiles
from baselines.controls import shallower
from baselines.coupling import torch_pruning_version
from baselines.technique import CONTROLS, SHAPED, SPARSE, TAUGHT, Technique
from compress.console import console
from compress.data import Dataset
from compress.ensemble_exit import ENSEMBLE
from compress.errors import UsageError, checked
from compress.hardware import Precision, resolve_device
from compress.networks import (
    SHARED,
    Network,
    Spec,
    canonical,
    code_digest,
    cut,
    display_name,
    initialised,
    spec_of,
)
from compress.recipes import RECIPES, FineTuneSchedule, Recipe, recipe_named
from compress.runs import RECORD, Run, load, read_run, run_and_exit
from compress.training import (
    Objective,
    Plan,
    check_same_data,
    command_line,
    found_reference,
    objective_of,
    plan_of,
    precision_of,
    run_option,
    train,
    train_reference,
)
from compress.training.objectives import bp
from compress.training.plan import check_seed
from compress.training.planning import PLACE, START, Place, Start, start_options
from compress.training.references import of_this_code

DEFAULT_ARCH = "resnet110"
# Configuration that follows from the reference and the request; some of a control's follows from the selected shape.
DERIVED = ("parent", "reference", "teacher", "teacher_reference", "objective", "spec")


@checked
@dataclass(frozen=True, kw_only=True)
class FineTuning:
    """Changes to the recipe for fine-tuning a pruned network, or for training a control.

    Attributes:
        schedule: learning rates of fine-tuning, see `Recipe.fine_tuning`; controls follow the recipe's.
        epochs, learning_rate, weight_decay: None: the recipe's.
    """

    schedule: FineTuneSchedule = "small-rate"
    epochs: int | None = None
    learning_rate: float | None = None
    weight_decay: float | None = None

    def change(self, recipe: Recipe) -> Recipe:
        """The recipe with these epochs, learning rate and weight decay.

        Raises:
            UsageError: one of them is out of range.
        """
        return recipe.changed(epochs=self.epochs, learning_rate=self.learning_rate, weight_decay=self.weight_decay)


FINE_TUNING = FineTuning()


@dataclass(frozen=True, kw_only=True)
class Job:
    """What a pruning is asked to do.

    Attributes:
        arch: architecture of the reference; may be None where `reference` is given.
        reference: the run to prune; RUN:EXIT is first cut at that exit. None, and no weights: the newest finished run
            by plain BP with the same architecture, data, split, recipe and seed; where there is none, one is trained
            first.
        start: weights of a trained network, which is the reference as it is: a run of 0 epochs.
        recipe: recipe of the reference and of controls; its `fine_tune_*` fields are for fine-tuning.
        fine_tuning: changes to that recipe.
        seed: random seed of the reference, of randomly drawn scores, and of fine-tuning.
        place: where and how the runs are computed, and where they are kept.
        timed: measures a network's latency as a ratio to the first one's; needed for a latency budget.

    Raises:
        UsageError: an option is out of range, or does not go with another.
    """

    arch: str | None
    dataset: Dataset
    budget: Budget
    technique: Technique
    recipe: Recipe
    reference: str | Path | None = None
    start: Start = START
    fine_tuning: FineTuning = FINE_TUNING
    seed: int = 0
    place: Place = PLACE
    timed: Callable[[Network, Network], Quartiles] | None = None

    def __post_init__(self) -> None:
        check_seed(self.seed)
        self.fine_tuning.change(self.recipe.fine_tuning(self.fine_tuning.schedule))
        technique, schedule = self.technique, self.fine_tuning.schedule
        if self.place.compile:
            raise UsageError("compile: what is pruned is fine-tuned without compiled blocks: leave it out")
        check_start(self.start, self.arch, self.reference, technique)
        training = technique.kind == "control" or technique.method in SPARSE
        if self.fine_tuning.epochs == 0 and (training or technique.gradual):
            which = technique.method if training else "--gradual"
            raise UsageError(f"--epochs 0: {which} needs some training; leave one of the two out")
        if self.budget.latency_ratio is not None and technique.steps > 1:
            given = "--gradual and --steps" if technique.gradual else "--steps"
            raise UsageError(f"--latency-ratio is met in one pruning: leave out {given}")
        if self.budget.latency_ratio is not None and self.timed is None:
            raise UsageError("--latency-ratio: no function measures latency; in Python give `Job` its `timed`")
        if schedule != "small-rate" and technique.kind == "control":
            raise UsageError(
                f"--schedule {schedule}: is for fine-tuning, and {technique.method} is trained by the recipe: "
                "leave it out"
            )

    @property
    def device(self) -> torch.device:
        """The device that the runs are computed on."""
        return resolve_device(self.place.device)


@dataclass(frozen=True, kw_only=True)
class Reference:
    """The network that a job prunes.

    Attributes:
        spec: its spec, known before it is trained.
        run: the finished run that has its weights; None where there is none yet.
        exit: the exit (1-based) at which the run's network is cut; None: it is pruned whole.
    """

    spec: Spec
    run: Run | None
    exit: int | None = None

    @property
    def trained(self) -> Run:
        """The finished run, which has to exist."""
        assert self.run is not None
        return self.run

    @property
    def objective(self) -> Objective:
        """The objective of fine-tuning: that of the reference's training, or plain BP where it is cut."""
        return bp(self.spec) if self.exit or self.run is None else objective_of(self.run).fine_tuning()

    def load(self, device: torch.device, run: Run | None = None) -> Network:
        """The reference's network, or that of a run pruned from it: cut at the exit, in eval mode, on the device."""
        network = load(run or self.trained).to(device)
        return cut(network, self.exit) if self.exit and len(network.spec.exits) > 1 else network


def check_start(start: Start, arch: str | None, reference: object, technique: Technique) -> None:
    """Refuse, by UsageError, given weights that do not go with other arguments of a job."""
    if start.teacher is not None or start.trunk is not None:
        raise UsageError("start: a pruning takes weights or pretrained from it, no teacher and no trunk")
    if start.given and reference is not None:
        raise UsageError(f"--from {reference}: has weights of its own; leave out --weights and --pretrained, or it")
    if start.given and arch is None:
        raise UsageError("--weights and --pretrained: of which network? give its --arch")
    if start.given and technique.method == "shallow":
        raise UsageError("--weights and --pretrained: shallow has no reference, so no weights are used: leave them out")


def as_given(job: Job) -> dict[str, Any]:
    """The arguments of `train` that record the network of a job's given weights as it is."""
    recipe = dataclasses.replace(job.recipe, epochs=0)
    return {"recipe": recipe, "seed": job.seed, "start": job.start, "place": job.place}


def find_reference(job: Job) -> Reference:
    """The reference that a job names, or the newest that fits, which is printed; without a run where there is none.

    Raises:
        UsageError: the named run or exit does not exist, is not finished, or does not fit the job.
    """
    if job.start.given:
        assert job.arch is not None
        plan = plan_of(job.arch, job.dataset, **as_given(job))
        found = read_run(plan.path) if (plan.path / RECORD).exists() else None
        return Reference(spec=plan.spec, run=found if found and found.record.status == "finished" else None)
    if job.reference is None:
        shape, classes = job.dataset.input_shape, len(job.dataset.classes)
        spec = spec_of(DEFAULT_ARCH if job.arch is None else job.arch, input_shape=shape, classes=classes)
        if len(spec.exits) > 1:
            raise UsageError(
                f"{spec.arch} has {len(spec.exits)} exits, and a reference that is not named is trained by plain BP: "
                "name a run that has them with --from"
            )
        return Reference(spec=spec, run=found_reference(spec, job.dataset, job.recipe, job.seed, job.place.runs))
    run, exit = run_and_exit(job.reference, job.place.runs)
    if exit == ENSEMBLE:
        raise UsageError(f"--from {job.reference}: an ensemble is no network that can be pruned: name an exit")
    if job.arch is not None and canonical(job.arch).lower() != run.record.arch.lower():
        raise UsageError(
            f"run {run.id} is a {run.record.arch}, not a {job.arch}: leave out --arch, or name another run"
        )
    check_same_data(run, job.dataset, job.recipe)
    if not of_this_code(run):
        console.print(f"warning: the code of {run.record.arch} is not that with which run {run.id} was trained")
    if any(head.head == SHARED for head in run.spec.exits):
        raise UsageError(f"--from {job.reference}: its exits share the last head, so the network cannot be pruned")
    if exit is None or len(run.exits) == 1:
        return Reference(spec=run.spec, run=run)
    if job.technique.method in SPARSE:
        raise UsageError(
            f"--from {job.reference}: {job.technique.method} first trains all exits towards sparsity: name the run "
            "without an exit"
        )
    return Reference(spec=cut(initialised(run.spec, job.seed), exit).spec, run=run, exit=exit)


def train_missing(job: Job, reference: Reference) -> Reference:
    """The reference with a finished run, which is trained now where there is none (that is printed), or given.

    Raises:
        UsageError: the training failed, or another process holds it.
    """
    if reference.run is not None:
        return reference
    if job.start.given:
        assert job.arch is not None
        return dataclasses.replace(reference, run=train(job.arch, job.dataset, **as_given(job)))
    run = train_reference(reference.spec, job.dataset, job.recipe, job.seed, job.place)
    return dataclasses.replace(reference, run=run)


def training_recipe(job: Job, reference: Reference) -> Recipe:
    """The recipe of fine-tuning, or of a control's training with as many epochs as its reference had."""
    if job.technique.kind == "prune":
        return job.fine_tuning.change(job.recipe.fine_tuning(job.fine_tuning.schedule))
    record = reference.run.record if reference.run else None
    from_scratch = record is not None and record.kind == "train" and not record.parent
    epochs = record.config["recipe"]["epochs"] or None if record and from_scratch else None  # none of a given network
    return job.fine_tuning.change(job.recipe.changed(epochs=epochs))


def plan_run(job: Job, reference: Reference, *, step: int | None = None, **fields: Any) -> Plan:
    """The plan of one of a job's runs.

    Args:
        step: the number of a pruning step that others follow.
        fields: fields of the plan that differ from the job's; of budget and technique, those of the step.
    """
    budget, technique = fields.pop("budget", job.budget), fields.pop("technique", job.technique)
    objective = fields.setdefault("objective", reference.objective)
    precision = precision_of(job.place.precision, objective, job.device)
    name, value = budget.option
    request = {name: float(value), **technique.to_json(), "schedule": job.fine_tuning.schedule}
    request |= {"torch-pruning": torch_pruning_version()}
    request |= ({"exit": reference.exit} if reference.exit else {}) | ({"step": step} if step else {})
    common: dict[str, Any] = {
        "name": f"{display_name(reference.spec)} {technique.label} {budget}",
        "kind": technique.kind,
        "method": technique.method,
        "spec": reference.spec,
        "recipe": training_recipe(job, reference),
        "dataset": job.dataset,
        "seed": job.seed,
        "precision": precision,
        "device": job.device,
        "capture": job.place.capture,
        "runs": job.place.runs,
        "command": _command(job, reference, precision) + (f"  # step {step} of {technique.steps}" if step else ""),
        "code": code_digest(reference.spec),
        "request": request,
    }
    return Plan(**common | fields)


def _command(job: Job, reference: Reference, precision: Precision) -> str:
    """The shell command of a job, for the records of its runs."""
    words = ["prune", "--arch", reference.spec.arch, *f"--{job.budget}".split(), *job.technique.options()]
    by_name = job.recipe.name in RECIPES and job.recipe == recipe_named(job.recipe.name)  # a command finds its run
    if job.start.given:
        words += start_options(job.start)
    elif job.reference is not None or (not by_name and job.technique.method != "shallow"):
        exit = f":{reference.exit}" if reference.exit else ""
        words += ["--from", run_option(reference.trained, job.place.runs) + exit]
    tuning = job.fine_tuning
    changes = ["--schedule", tuning.schedule] if tuning.schedule != "small-rate" else []
    changes += ["--learning-rate", repr(tuning.learning_rate)] if tuning.learning_rate is not None else []
    changes += ["--weight-decay", repr(tuning.weight_decay)] if tuning.weight_decay is not None else []
    epochs = training_recipe(job, reference).epochs
    return command_line(words, job.dataset, job.recipe, job.seed, precision, epochs=epochs, changes=changes)


def finished_run(job: Job, runs: Iterable[Run]) -> Run | None:
    """The finished run that a job would give, found by what the records say; None where there is none.

    Nothing is scored or trained; a job without a reference has no finished run.

    Raises:
        UsageError: the named reference does not fit, or a shallower network is asked for and there is none.
    """
    reference = find_reference(job)
    if reference.run is None:
        return None
    by_id = {run.id: run for run in runs}
    wanted = _requested(plan_run(job, reference).config)
    for run in by_id.values():
        if _requested(run.record.config) == wanted and _starts_from(run, job, reference, by_id):
            return run
    return None


def _requested(config: dict[str, Any]) -> dict[str, Any]:
    """A configuration without what follows from the reference or the selected shape."""
    requested = {key: value for key, value in config.items() if key not in DERIVED}
    if config["method"] == "scratch-b":
        requested["recipe"] = config["recipe"] | {"epochs": None}
    return requested


def _starts_from(run: Run, job: Job, reference: Reference, by_id: dict[str, Run]) -> bool:
    """Whether a run was made from the job's reference, by as many runs in between as the job makes."""
    technique, base = job.technique, reference.trained
    if technique.method in CONTROLS and technique.method not in SHAPED:
        achieved = {"speedup": 0.0, "macs": 0} | run.record.results.get("achieved", {})
        same = round(achieved["speedup"] * achieved["macs"]) == base.exits[(reference.exit or 0) - 1]["macs"]
        same = same and run.spec in shallower(reference.spec)  # networks of other stages may have the same MACs
        return same and (technique.method != TAUGHT or run.record.config["teacher"] == base.id)
    generations = (1 if technique.gradual else technique.steps) + (technique.method in SPARSE)
    id: str | None = run.id
    for _ in range(generations):
        id = by_id[id].record.parent if id in by_id else None
    return id == base.id
