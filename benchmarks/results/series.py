"""Series: runs that differ by their seed alone, and what reports call their network."""

from __future__ import annotations

import json
from typing import Any

from baselines.controls import LONGEST
from benchmarks.results.arms import arm_name, family, made_smaller
from compress.networks import SHARED, Spec, display_name
from compress.networks.heads import WIDENING
from compress.recipes import RECIPES
from compress.records import without_seed
from compress.runs import Run

NAMED_CHANGES = ("optimizer", "label_smoothing", "zero_scale", "averaging", "warmup")


def series(run: Run) -> str:
    """Key that is equal for runs whose configurations differ by the seed alone, or by what follows from it.

    Pruning chooses a shape by weights, so that it differs between seeds; then so do the shape of a network that is
    pruned again, and the epochs of `scratch-b`.
    """
    config, speedup = _shapeless(run.record.config), run.record.results.get("achieved", {}).get("speedup")
    if config["method"] == "scratch-b" and speedup:
        epochs = round(config["recipe"]["epochs"] / min(speedup, LONGEST))  # those that its own were made from
        config["recipe"] = config["recipe"] | {"epochs": epochs}
    return json.dumps(config, sort_keys=True)


def _shapeless(config: dict[str, Any]) -> dict[str, Any]:
    """A configuration without its seed, and without the shape that an earlier pruning chose."""
    config = without_seed(config)
    if reference := config.get("reference"):
        config["reference"] = _shapeless(reference)
        if made_smaller(reference):
            del config["spec"]
    return config


def network_name(run: Run) -> str:
    """Name of a run's network in reports: ``MwResNet-44-5``, or ``ResNet-110, l1 2.60x`` for a pruned one.

    It includes the training method where that is neither plain BP nor MW-BP in its default form, and what exits do for
    one another.
    """
    record = run.record
    name = display_name(Spec.from_json(record.config["spec"]))
    if family(record) != "train":
        speedup = record.results.get("achieved", {}).get("speedup")
        return f"{name}, {arm_name(record)}" + ("" if speedup is None else f" {speedup:.2f}x")
    words = [record.method] if record.method not in ("bp", "mwbp") else []
    words += ["sequential"] if not words and record.config["objective"]["update"] == "sequential" else []
    return ", ".join([name, *words, *_exit_training(record.config)])


def recipe_changes(recipe: dict[str, Any]) -> str:
    """What a run's training changes in the recipe of its name, besides length and rates, as in ``optimizer muon``."""
    usual = RECIPES[recipe["name"]]().to_json() if recipe["name"] in RECIPES else {}
    changed = {key: recipe[key] for key in NAMED_CHANGES if key in recipe and recipe[key] != usual.get(key)}
    return ", ".join(key.replace("_", " ") + ("" if value is True else f" {value}") for key, value in changed.items())


def exit_places(spec: dict[str, Any]) -> str:
    """Where a network has its exits, as in ``exits after blocks 2, 4, 9``; nothing of a network with one."""
    blocks = [str(exit["block"]) for exit in spec["exits"]]
    return f"exits after blocks {', '.join(blocks)}" if len(blocks) > 1 else ""


def _exit_training(config: dict[str, Any]) -> list[str]:
    """As in ``auxiliary weight 0.3``, ``annealing last-third``, ``ensemble teacher``, ``heads shared``."""
    objective, heads = config["objective"], {exit["head"] for exit in config["spec"]["exits"][:-1]}
    named = [f"auxiliary weight {objective['auxiliary_weight']:g}"] if "auxiliary_weight" in objective else []
    named += [f"annealing {objective['annealing']}"] if "annealing" in objective else []
    named += ["ensemble teacher"] if objective.get("ensemble_teacher") else []
    return named + [f"heads {head}" for head in sorted(heads & {SHARED, *WIDENING})]
