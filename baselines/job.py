"""A job: what was asked for with `compress prune`, its reference, and the plans of the runs that it takes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from baselines.budget import Budget, Quartiles
from baselines.coupling import TORCH_PRUNING
from baselines.technique import Technique
from compress.data import Dataset
from compress.errors import UsageError, checked
from compress.hardware import Precision, resolve_device
from compress.networks import (
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
from compress.runs import Run, load, run_and_exit
from compress.training import (
    Objective,
    Plan,
    check_same_data,
    command_line,
    found_reference,
    objective_of,
    precision_of,
    run_option,
    train_reference,
)
from compress.training.objectives import bp
from compress.training.plan import check_seed
from compress.training.planning import PLACE, Place

DEFAULT_ARCH = "resnet110"
# The latency of a network, as its ratio to that of another, measured here: the other first.
Timed = Callable[[Network, Network], Quartiles]


@checked
@dataclass(frozen=True, kw_only=True)
class FineTuning:
    """How a pruned network is fine-tuned, or a control trained, where the recipe is not followed as it is.

    Attributes:
        schedule: learning rates of fine-tuning, see `Recipe.fine_tuning`; controls have none.
        epochs, learning_rate, weight_decay: None: the recipe's.
    """

    schedule: FineTuneSchedule = "small-rate"
    epochs: int | None = None
    learning_rate: float | None = None
    weight_decay: float | None = None

    def change(self, recipe: Recipe) -> Recipe:
        """The recipe with these epochs, rate and decay.

        Raises:
            UsageError: one of them is out of range.
        """
        return recipe.changed(epochs=self.epochs, learning_rate=self.learning_rate, weight_decay=self.weight_decay)


FINE_TUNING = FineTuning()


@dataclass(frozen=True, kw_only=True)
class Job:
    """What `baselines.prune` takes, opened; and what follows from it, worked out when it is asked for.

    Attributes:
        arch: the reference's architecture; may be None where `reference` is given.
        reference: the run to start from; RUN:EXIT cuts it there first. None: the newest finished run by plain BP with
            the same architecture, data, split, recipe and seed; where there is none, one is trained first.
        recipe: of the reference and of controls, and of fine-tuning (its `fine_tune_*` fields).
        fine_tuning: how the pruned network is fine-tuned, or the control trained.
        seed: random seed of the reference, of scores that are drawn, and of fine-tuning.
        place: where and how the runs are computed, and where they are kept.
        timed: measures latency, for a budget of it.
    """

    arch: str | None
    dataset: Dataset
    budget: Budget
    technique: Technique
    recipe: Recipe
    reference: str | Path | None = None
    fine_tuning: FineTuning = FINE_TUNING
    seed: int = 0
    place: Place = PLACE
    timed: Timed | None = None

    def __post_init__(self) -> None:
        check_seed(self.seed)

    @cached_property
    def named(self) -> tuple[Run, int | None] | None:
        """The run that was named, and the exit (1-based) to cut it at first; None where one is to be looked for.

        Raises:
            UsageError: there is no such run or exit, it is not finished, or it does not fit the job.
        """
        if self.reference is None:
            return None
        run, exit = run_and_exit(self.reference, self.place.runs)
        if self.arch is not None and canonical(self.arch).lower() != run.record.arch.lower():
            raise UsageError(
                f"run {run.id} is a {run.record.arch}, not a {self.arch}: leave out --arch, or name another run"
            )
        check_same_data(run, self.dataset, self.recipe)
        return run, exit if len(run.exits) > 1 else None

    @property
    def exit(self) -> int | None:
        """The exit at which the reference is cut before anything else."""
        return self.named[1] if self.named else None

    @cached_property
    def found(self) -> Run | None:
        """The reference, named or found among the finished runs."""
        if self.named:
            return self.named[0]
        return found_reference(self._spec, self.dataset, self.recipe, self.seed, self.place.runs)

    @cached_property
    def base(self) -> Run:
        """The reference, trained now where there is none, which is said."""
        if self.found:
            return self.found
        return train_reference(
            self._spec,
            self.dataset,
            self.recipe,
            self.seed,
            self.place,
        )

    @cached_property
    def spec(self) -> Spec:
        """Of the network that is made smaller; known before any reference is trained."""
        if self.exit:
            return cut(initialised(self.base.spec, self.seed), self.exit).spec
        return self.named[0].spec if self.named else self._spec

    @cached_property
    def network(self) -> Network:
        """The network that is made smaller, in eval mode, on the device."""
        return self.of(self.base)

    @cached_property
    def objective(self) -> Objective:
        """The one that trained the reference; plain BP where that is cut out of it, or not trained yet."""
        if self.exit or self.found is None:
            return bp(self.spec)
        return objective_of(self.found).fine_tuning()

    @cached_property
    def fine_tuned(self) -> Recipe:
        """What a smaller network is given."""
        return self.fine_tuning.change(self.recipe.fine_tuning(self.fine_tuning.schedule))

    @cached_property
    def from_scratch(self) -> Recipe:
        """What a control is given, but for epochs that depend on its size: as many as its reference was."""
        reference = self.found.record if self.found else None
        trained = reference is not None and reference.kind == "train" and not reference.parent
        epochs = reference.config["recipe"]["epochs"] if reference and trained else None
        return self.fine_tuning.change(self.recipe.changed(epochs=epochs))

    @property
    def where(self) -> torch.device:
        """The device."""
        return resolve_device(self.place.device)

    def of(self, run: Run) -> Network:
        """The network of a run of this job, cut where the job cuts, in eval mode, on the device."""
        network = load(run).to(self.where)
        return cut(network, self.exit) if self.exit and len(network.spec.exits) > 1 else network

    def plan(self, recipe: Recipe, *, step: int | None = None, **fields: Any) -> Plan:
        """The plan of one of the job's runs, but for the fields that are given; `step` says which, but for the last."""
        objective = fields.pop("objective", None) or self.objective
        budget, technique = fields.pop("budget", self.budget), fields.pop("technique", self.technique)
        used = precision_of(self.place.precision, objective, self.where)
        name, value = budget.option
        request = {
            name: float(value),
            **technique.to_json(),
            "schedule": self.fine_tuning.schedule,
            "torch-pruning": TORCH_PRUNING,
        }
        defaults: dict[str, Any] = {
            "name": f"{display_name(self.spec)} {technique.label} {budget}",
            "kind": technique.kind,
            "method": technique.method,
            "spec": self.spec,
            "code": code_digest(self.spec),
            "request": request | ({"exit": self.exit} if self.exit else {}) | ({"step": step} if step else {}),
        }
        return Plan(
            objective=objective,
            recipe=recipe,
            dataset=self.dataset,
            seed=self.seed,
            precision=used,
            device=self.where,
            runs=self.place.runs,
            command=self._command(used) + (f"  # step {step} of {technique.steps}" if step else ""),
            **(defaults | fields),
        )

    @cached_property
    def _spec(self) -> Spec:
        shape, classes = self.dataset.input_shape, len(self.dataset.classes)
        return spec_of(DEFAULT_ARCH if self.arch is None else self.arch, input_shape=shape, classes=classes)

    def _command(self, precision: Precision) -> str:
        words = ["prune", "--arch", self.spec.arch, *f"--{self.budget}".split(), *self.technique.options()]
        looked_for = self.recipe.name in RECIPES and self.recipe == recipe_named(self.recipe.name)
        if self.named or (not looked_for and self.technique.method != "shallow"):
            words += ["--from", run_option(self.base, self.place.runs) + (f":{self.exit}" if self.exit else "")]
        changes = ["--schedule", self.fine_tuning.schedule] if self.fine_tuning.schedule != "small-rate" else []
        for option in ("learning_rate", "weight_decay"):
            value = getattr(self.fine_tuning, option)
            changes += [f"--{option.replace('_', '-')}", repr(value)] if value is not None else []
        return command_line(
            words,
            self.dataset,
            self.recipe,
            self.seed,
            precision,
            epochs=(self.from_scratch if self.technique.kind == "control" else self.fine_tuned).epochs,
            changes=changes,
        )
