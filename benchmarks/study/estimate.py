"""Estimates: how long the runs of a study take here, from their training MACs and a few steps timed now."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

from benchmarks.study.entry import Match, Pruned, Source, Target, Trained
from benchmarks.study.graph import Node
from benchmarks.study.setting import Setting
from compress.data import training_images
from compress.hardware import resolve_device
from compress.network_cost import exit_costs
from compress.networks import Spec, initialised
from compress.training import Objective, image_seconds, precision_of
from compress.training.objectives import bp


def seconds_left(setting: Setting, left: Sequence[Node]) -> dict[Node, float]:
    """The seconds of every run that is left: the MACs of its training, at the pace of the first entry's network.

    Not counted are references that no entry trains, evaluation, choosing what to prune, sparse training, and measuring
    all runs at the end.
    """
    if not left:
        return {}
    first, device, place = setting.study.runs[0], resolve_device(setting.place.device), setting.place
    spec = setting.spec(first)
    objective = first.method.objective(spec) if isinstance(first, Trained) else bp(spec)
    precision = precision_of(place.precision, objective, device)
    seconds = image_seconds(spec, objective, setting.recipe, device=device, precision=precision)
    pace = seconds / _image_macs(spec, objective)
    return {node: pace * training_macs(setting, node) for node in left}


def training_macs(setting: Setting, node: Node) -> float:
    """The MACs of a run's training: epochs x images x MACs of a step an image."""
    entry, recipe, dataset = node.entry, setting.recipe, setting.dataset
    images = training_images(dataset, validation=recipe.validation, calibration=recipe.calibration)
    if isinstance(entry, Trained):
        spec = setting.spec(entry)
        return recipe.epochs * images * _image_macs(spec, entry.method.objective(spec))
    technique, target = entry.technique, node.target
    assert target
    fine_tunings = 1 if technique.gradual else technique.steps
    epochs = recipe.epochs if technique.kind == "control" else fine_tunings * recipe.fine_tune_epochs
    return epochs * images * 3 * _pruned_macs(setting, entry, target)  # a backward pass costs two forward passes


def _pruned_macs(setting: Setting, entry: Pruned, target: Target) -> float:
    """The MACs of a forward pass through a pruned network; of the whole one where the budget is not one of MACs."""
    if isinstance(target, Match):
        return _source_macs(setting, target.source)
    source = setting.source(entry)
    whole = _exit_macs(setting.spec(entry))[-1] if source is None else _source_macs(setting, source)
    option, value = target.option
    return {"macs": value, "speedup": whole / value}.get(option, whole)


def _source_macs(setting: Setting, source: Source) -> float:
    entry = setting.study.entry(source.name)
    if isinstance(entry, Pruned):
        return _pruned_macs(setting, entry, entry.targets[0])
    exits = _exit_macs(setting.spec(entry))
    return exits[min(source.exit or len(exits), len(exits)) - 1]


@cache
def _exit_macs(spec: Spec) -> list[int]:
    return [cost.macs for cost in exit_costs(initialised(spec, 0))]


@cache
def _image_macs(spec: Spec, objective: Objective) -> int:
    return objective.macs_an_image(initialised(spec, 0))
