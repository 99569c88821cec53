"""A pruned run: reference found or trained, pruned to a budget, fine-tuned, recorded."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from baselines.budget import Budget, meet
from baselines.channels import IMPORTANCES, TORCH_PRUNING, prunable_channels
from compress.cost import exit_costs
from compress.data import Dataset, Split, open_dataset
from compress.errors import UsageError, nearest
from compress.hardware import resolve_device
from compress.networks import Network, canonical, code_digest, display_name, spec_of
from compress.recipes import RECIPES, Recipe, recipe_named
from compress.runs import Run, find_run, load
from compress.training import (
    Objective,
    Plan,
    Prepared,
    check_same_data,
    command_line,
    execute,
    found_reference,
    precision_of,
    run_option,
    train,
)
from compress.training.evaluation import accuracies, predict

METHODS = tuple(IMPORTANCES)
DEFAULT_ARCH = "resnet110"


def prune(
    arch: str | None,
    dataset: Dataset | str = "fashion-mini",
    *,
    budget: Budget,
    method: str = "l1",
    reference: str | Path | None = None,
    recipe: Recipe | str = "quick",
    epochs: int | None = None,
    seed: int = 0,
    device: str = "auto",
    precision: str = "auto",
    runs: str | Path = "runs",
    resume: bool = False,
) -> Run:
    """The finished run of a reference pruned once to a budget and fine-tuned by the objective that trained it.

    Args:
        arch: the reference's architecture; may be None where `reference` is given.
        reference: the run to prune. None: the newest finished run by plain BP with the same architecture, data, split,
            recipe and seed; where there is none, one is trained first.
        recipe: of the reference, and of fine-tuning (its `fine_tune_*` fields).
        epochs: of fine-tuning, instead of the recipe's.

    Raises:
        UsageError: an argument is unknown, the reference does not fit, or the budget cannot be met.
    """
    runs = Path(runs)
    if method not in METHODS:
        raise UsageError(f"method {method!r}: {nearest(method, METHODS)}")
    dataset = open_dataset(dataset) if isinstance(dataset, str) else dataset
    recipe = recipe_named(recipe) if isinstance(recipe, str) else recipe
    fine_tuning = recipe.fine_tuning(epochs)
    if reference is not None:
        parent = _given_reference(find_run(reference, runs), arch, dataset, recipe)
    else:
        arch = arch or DEFAULT_ARCH
        options: dict[str, Any] = {"device": device, "precision": precision, "runs": runs, "resume": resume}
        spec = spec_of(arch, input_shape=dataset.input_shape, classes=len(dataset.classes))
        found = found_reference(spec, dataset, recipe, seed, runs)
        parent = found or train(arch, dataset, recipe=recipe, seed=seed, **options)
    where = resolve_device(device)
    name, value = budget.option
    command = ["prune", "--arch", parent.record.arch, *f"--{budget}".split(), "--method", method]
    looked_for = recipe.name in RECIPES and recipe == recipe_named(recipe.name)
    if reference is not None or not looked_for:
        command += ["--from", run_option(parent, runs)]
    objective = Objective.from_json(parent.record.config["objective"]).fine_tuning()
    used = precision_of(precision, objective, where)
    plan = Plan(
        name=f"{display_name(parent.spec)} {method} {budget}",
        kind="prune",
        method=method,
        objective=objective,
        spec=parent.spec,
        recipe=fine_tuning,
        dataset=dataset,
        seed=seed,
        precision=used,
        device=where,
        runs=runs,
        command=command_line(command, dataset, fine_tuning, seed, used, fine_tuning=True),
        parent=parent,
        code=code_digest(parent.spec),
        request={name: value, "scope": "all", "ranking": "global", "torch-pruning": TORCH_PRUNING},
    )
    return execute(plan, lambda parts: _pruned(plan, budget, parts), resume=resume)


def _pruned(plan: Plan, budget: Budget, parts: Split) -> Prepared:
    """The pruned network, not yet fine-tuned, and what was asked for and achieved."""
    assert plan.parent is not None
    network = load(plan.parent).to(plan.device)
    pruned = meet(budget, network, plan.method)
    before, after = exit_costs(network)[-1], exit_costs(pruned)[-1]
    name, value = budget.option
    achieved = {
        "ratio": 1 - prunable_channels(pruned.spec) / prunable_channels(network.spec),
        "speedup": before.macs / after.macs,
        "macs": after.macs,
        "params": after.params,
    }
    results = {
        "requested": {name: value},
        "achieved": achieved,
        "val_accuracy_before": _validation_accuracies(network, parts),
        "val_accuracy_pruned": _validation_accuracies(pruned, parts),
    }
    return Prepared(network=pruned, results=results)


def _validation_accuracies(network: Network, parts: Split) -> list[float] | None:
    logits = predict(network, parts.validation, parts.normalisation)
    return accuracies(logits, parts.validation.labels)


def _given_reference(parent: Run, arch: str | None, dataset: Dataset, recipe: Recipe) -> Run:
    """The run, checked against what it is to be compared with."""
    record = parent.record
    if arch is not None and canonical(arch).lower() != record.arch.lower():
        raise UsageError(f"run {parent.id} is a {record.arch}, not a {arch}: leave out --arch, or name another run")
    check_same_data(parent, dataset, recipe)
    return parent
