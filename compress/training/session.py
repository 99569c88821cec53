"""A training from its plan to a finished run directory: claimed, resumed, recorded, tested once at the end."""

from __future__ import annotations

import dataclasses
import json
import re
import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from compress.cost import cost
from compress.data import Dataset, Split, open_dataset, split
from compress.errors import UsageError
from compress.hardware import Precision, describe, resolve_device, resolve_precision
from compress.networks import Network, Spec, display_name, place_exits, spec_of
from compress.recipes import Recipe, is_named, recipe_named
from compress.runs import METRICS, RECORD, Record, Run, claimed, identify, read_run, write_atomically
from compress.training.evaluation import exit_rows, predictions
from compress.training.loop import DivergedError, Training, fit
from compress.training.objectives import objective_named
from compress.training.progress import console

DEFAULT_EXITS = 5
PASSES = 3  # one forward pass, and a backward pass that costs two


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What is to be done, complete before it starts; equal plans are the same run.

    Attributes:
        name: of the network, as reports write it; in lower case the beginning of the run's id.
        objective: a key of `OBJECTIVES`.
        spec: of the network before anything is pruned.
        request: what pruning was asked for; part of the configuration.
        command: the shell command that does the same.
    """

    name: str
    kind: str
    method: str
    objective: str
    spec: Spec
    recipe: Recipe
    dataset: Dataset
    seed: int
    precision: Precision
    device: torch.device
    runs: Path
    command: str
    parent: Run | None = None
    request: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not 0 <= self.seed < 2**63:
            raise UsageError(f"seed {self.seed}: a whole number from 0 on, below 2**63")

    @cached_property
    def config(self) -> dict[str, Any]:
        """The resolved configuration: all that decides the result but the hardware."""
        return {
            "kind": self.kind,
            "method": self.method,
            "objective": self.objective,
            "spec": self.spec.to_json(),
            "recipe": self.recipe.to_json(),
            "data": self.dataset.digest,
            "seed": self.seed,
            "precision": self.precision,
            "parent": self.parent.id if self.parent else None,
            "reference": without_seed(self.parent.record.config) if self.parent else None,
            "request": self.request,
        }

    @cached_property
    def path(self) -> Path:
        """The run's directory."""
        data = re.sub(r"[^\w.-]", "-", self.dataset.name.rstrip("/").rpartition("/")[2])
        name = self.name.lower().replace("-", "", 1).replace(" ", "-")
        return self.runs / identify(name, data, self.seed, self.config)

    @cached_property
    def title(self) -> str:
        """What progress lines call the run."""
        return f"{self.name} on {self.dataset.name}, seed {self.seed}"


def without_seed(config: dict[str, Any]) -> dict[str, Any]:
    """What runs share that differ by their seed, and their parents' seed, alone."""
    return {key: value for key, value in config.items() if key not in ("seed", "parent")}


Prepare = Callable[[Split], tuple[Network, dict[str, Any]]]


def train(
    arch: str,
    dataset: Dataset | str = "fashion-mini",
    *,
    method: str = "bp",
    exits: int | str | Sequence[int | str] | None = None,
    width: int = 1,
    recipe: Recipe | str = "quick",
    seed: int = 0,
    device: str = "auto",
    precision: str = "auto",
    runs: str | Path = "runs",
    resume: bool = False,
) -> Run:
    """The finished run of an architecture trained on a data set: trained now, continued, or found finished.

    Args:
        arch, exits, width: as `create` takes them; exits None is 1 for BP, else 5 or the number of blocks if fewer.
        dataset: a data set, or the name of one.
        method: ``bp`` or ``mwbp``.
        seed: of weights, order and augmentation (the split has its own, in the recipe).
        resume: go on even where an earlier attempt failed.

    Raises:
        UsageError: an argument is unknown or does not fit, another process holds the run, or it failed.
    """
    if isinstance(dataset, str):
        dataset = open_dataset(dataset)
    if isinstance(recipe, str):
        recipe = recipe_named(recipe)
    shape, classes = dataset.input_shape, len(dataset.classes)
    if exits is None:
        blocks = len(spec_of(arch, width=width).blocks)
        exits = 1 if method == "bp" else min(DEFAULT_EXITS, blocks)
    spec = spec_of(arch, exits=exits, width=width, input_shape=shape, classes=classes)
    objective_named(method, spec)  # a method that does not fit is refused before anything is written
    placed = ["--exits", _exits_option(spec)] if method != "bp" else []
    command = ["train" if method == "bp" else f"train-{method}", "--arch", spec.arch, *placed]
    where = resolve_device(device)
    used = resolve_precision(precision, where)
    plan = Plan(
        name=display_name(spec),
        kind="train",
        method=method,
        objective=method,
        spec=spec,
        recipe=recipe,
        dataset=dataset,
        seed=seed,
        precision=used,
        device=where,
        runs=Path(runs),
        command=command_line(command, dataset, recipe, seed, used),
    )

    def fresh(_: Split) -> tuple[Network, dict[str, Any]]:
        with torch.random.fork_rng(devices=[]):  # the caller's random state is not ours to move
            torch.manual_seed(seed)
            return Network(spec), {}

    return execute(plan, fresh, resume=resume)


def command_line(
    own: list[str], dataset: Dataset, recipe: Recipe, seed: int, precision: Precision, *, fine_tuning: bool = False
) -> str:
    """The shell command of a run, for its record: its own options and those that every kind of run shares.

    A recipe that no command can give, since it was made in Python, is pointed out in a comment.
    """
    height, width = dataset.input_shape[1:]
    resized = ["--image-size", str(width)] if dataset.name.startswith("folder:") and height == width else []
    options = ["--dataset", dataset.name, *resized, "--recipe", recipe.name, "--epochs", str(recipe.epochs)]
    command = shlex.join(["compress", *own, *options, "--seed", str(seed), "--precision", precision])
    return (
        command
        if is_named(recipe, fine_tuning=fine_tuning)
        else f"{command}  # with a recipe made in Python: see config.recipe in run.json"
    )


def _exits_option(spec: Spec) -> str:
    numbers = [exit.block for exit in spec.exits]
    if tuple(numbers) == place_exits(len(numbers), len(spec.blocks)):
        return str(len(numbers))
    return ",".join([*map(str, numbers[:-1]), "end"])


def execute(plan: Plan, prepare: Prepare, *, resume: bool = False) -> Run:
    """The finished run of a plan: as it stands where it is finished, continued where it was interrupted, else made.

    `prepare` gives the network to train, on the CPU or the device, and what its making adds to the results.

    Raises:
        UsageError: another process holds the run, it failed before (and `resume` is false), or it cannot be written.
        DivergedError: the loss became NaN or infinite; the run is marked as failed.
    """
    if finished := _finished(plan, resume=resume):
        return finished
    with claimed(plan.path):
        if finished := _finished(plan, resume=resume):  # by another process, just now
            return finished
        if (plan.path / RECORD).exists():
            console.print(f"{plan.title}: going on with {plan.path}")
        parts = _on_device(_split(plan), plan.device)
        network, results = prepare(parts)
        run = Run(plan.path, _new_record(plan, parts))
        run.write_record()
        try:
            _train_and_evaluate(plan, run, parts, network.to(plan.device), results)
        except UsageError as error:
            if isinstance(error, DivergedError):
                _mark_failed(run, str(error))
            raise
        except Exception as error:
            _mark_failed(run, f"{type(error).__name__}: {error}")
            raise
    return run


def _train_and_evaluate(plan: Plan, run: Run, parts: Split, network: Network, results: dict[str, Any]) -> None:
    training = Training(
        network,
        parts,
        plan.recipe,
        objective_named(plan.objective, network.spec),
        augment=plan.dataset.augmentable,
        seed=plan.seed,
        precision=plan.precision,
    )
    checkpoint = run.path / "checkpoint"
    fit(training, title=plan.title, checkpoint=checkpoint, on_epoch=lambda state: _write_metrics(run, state))

    named = {"validation": parts.validation, "calibration": parts.calibration, "test": parts.test}
    predicted = predictions(network, named, parts.normalisation)
    if not all(torch.isfinite(logits).all() for logits, _ in predicted.values()):
        raise DivergedError("the network's logits are not finite after training; a lower learning rate may help")
    run.write_weights(network)
    run.write_predictions(
        {f"{name}_logits": logits.half() for name, (logits, _) in predicted.items()}
        | {f"{name}_labels": labels for name, (_, labels) in predicted.items()}
    )
    macs = PASSES * cost(network).macs * training.images_seen
    before = plan.parent.record.cost["total_training_macs"] if plan.parent else 0
    run.record.spec = network.spec.to_json()
    run.record.cost = {
        "epochs": training.epochs_done,
        "seconds": sum(line["seconds"] for line in training.history),
        "training_macs": macs,
        "total_training_macs": macs + before,
    }
    run.record.results = results | {"weights": _reported(plan.recipe), "exits": exit_rows(network, predicted)}
    run.record.status = "finished"
    run.write_record()
    for file in checkpoint.iterdir():
        file.unlink()
    checkpoint.rmdir()


def _finished(plan: Plan, *, resume: bool) -> Run | None:
    """The run, if it is finished; a failed one is refused unless it is to be resumed."""
    if not (plan.path / RECORD).exists():
        return None
    run = read_run(plan.path)
    if run.record.status == "failed" and not resume:
        raise UsageError(f"run {run.id} failed before: {run.record.failure}; --resume goes on from its last good epoch")
    if run.record.status != "finished":
        return None
    console.print(f"{plan.title}: finished before, {plan.path}")
    return run


def _mark_failed(run: Run, reason: str) -> None:
    run.record.status, run.record.failure, run.record.results = "failed", reason, {}
    run.write_record()


def _new_record(plan: Plan, parts: Split) -> Record:
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
            "classes": list(plan.dataset.classes),
            "normalisation": {"mean": list(parts.normalisation.mean), "std": list(parts.normalisation.std)},
            "split": sizes | {"seed": plan.recipe.split_seed},
        },
        seed=plan.seed,
        parent=plan.parent.id if plan.parent else None,
        environment=describe(plan.device) | {"precision": plan.precision},
        command=plan.command,
    )


def _split(plan: Plan) -> Split:
    recipe = plan.recipe
    return split(plan.dataset, validation=recipe.validation, calibration=recipe.calibration, seed=recipe.split_seed)


def _on_device(parts: Split, device: torch.device) -> Split:
    return dataclasses.replace(
        parts,
        train=parts.train.to(device),
        validation=parts.validation.to(device),
        calibration=parts.calibration.to(device),
        test=parts.test.to(device),
    )


def _write_metrics(run: Run, training: Training) -> None:
    lines = "".join(json.dumps(line) + "\n" for line in training.history)
    write_atomically(run.path / METRICS, lines.encode())


def _reported(recipe: Recipe) -> str:
    if recipe.select == "best-validation":
        return "best by the last exit's validation accuracy"
    return "last" if recipe.averaging == "none" else f"{recipe.averaging} average"
