"""Estimates: how long the runs of a study take here, from their training MACs and a few steps timed now."""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Sequence
from functools import cache

from baselines.controls import scratch_epochs
from baselines.technique import SPARSE, TAUGHT
from benchmarks.study.entry import Match, Pruned, Source, Target, Trained
from benchmarks.study.graph import Node
from benchmarks.study.setting import Setting, image_macs
from compress.data import training_images
from compress.hardware import resolve_device
from compress.network_cost import exit_costs
from compress.networks import Spec, initialised
from compress.training import Objective, image_seconds, precision_of
from compress.training.objectives import bp

STEP = 3  # a backward pass costs two forward passes
PATIENCE = 20.0  # seconds for which networks are timed; others take the pace of the one nearest in MACs


def seconds_left(setting: Setting, left: Sequence[Node]) -> dict[Node, float]:
    """The seconds of every run that is left: the MACs of its training, at the pace of a network of its kind.

    Not counted are references that no entry trains, evaluation, choosing what to prune, and measuring all runs at the
    end.
    """
    kinds = {node: _kind(setting, node) for node in left}
    device, place = resolve_device(setting.place.device), setting.place
    paces: dict[Spec, float] = {}  # seconds a MAC, by trunk
    started = time.monotonic()
    for spec, objective in kinds.values():
        if (trunk := _trunk(spec)) in paces or (paces and time.monotonic() > started + PATIENCE):
            continue
        precision = precision_of(place.precision, objective, device)
        seconds = image_seconds(spec, objective, setting.recipe, device=device, precision=precision)
        paces[trunk] = seconds / image_macs(spec, objective)
    return {node: _nearest(_trunk(kinds[node][0]), paces) * training_macs(setting, node) for node in left}


def _kind(setting: Setting, node: Node) -> tuple[Spec, Objective]:
    """The network of an entry, or the one that it is made from or matched with, and what trains it."""
    entry, target = node.entry, node.target
    while isinstance(entry, Pruned):
        shallower = entry.technique.method in (TAUGHT, "shallow")
        source = target.source if shallower and isinstance(target, Match) else setting.source(entry)
        if source is None:
            spec = setting.spec(entry)
            return spec, bp(spec)
        entry = setting.study.entry(source.name)
    spec = setting.spec(entry)
    return spec, entry.method.objective(spec)


def _trunk(spec: Spec) -> Spec:
    return dataclasses.replace(spec, exits=spec.exits[-1:])


def _nearest(trunk: Spec, paces: dict[Spec, float]) -> float:
    """The pace of a trunk, or of the one nearest in MACs."""
    if trunk in paces:
        return paces[trunk]
    macs = math.log(_exit_macs(trunk)[-1])
    return min((abs(math.log(_exit_macs(timed)[-1]) - macs), pace) for timed, pace in paces.items())[1]


def training_macs(setting: Setting, node: Node) -> float:
    """The MACs of a run's training: epochs x images x MACs of a step an image."""
    entry, recipe = node.entry, setting.recipe
    images = training_images(setting.dataset, validation=recipe.validation, calibration=recipe.calibration)
    if isinstance(entry, Trained):
        return epochs(setting, node) * images * setting.image_macs(entry)
    before, after = _sizes(setting, node)
    method = entry.technique.method
    sparse = _fine_tuning_epochs(setting, entry) * STEP * before if method in SPARSE else 0.0
    taught = before if method == TAUGHT else 0.0
    return images * (epochs(setting, node) * (STEP * after + taught) + sparse)


def epochs(setting: Setting, node: Node) -> int:
    """The epochs of a run, of all its fine-tunings together."""
    entry, recipe = node.entry, setting.recipe
    if isinstance(entry, Trained):
        return setting.training_recipe(entry).epochs
    if entry.technique.kind != "control":
        steps = 1 if entry.technique.gradual else entry.technique.steps
        return steps * _fine_tuning_epochs(setting, entry)
    source = setting.source(entry)
    origin = setting.study.entry(source.name) if source else entry
    taken = setting.training_recipe(origin) if isinstance(origin, Trained) else recipe
    return scratch_epochs(entry.technique.method, taken, *_sizes(setting, node))


def _fine_tuning_epochs(setting: Setting, entry: Pruned) -> int:
    """The epochs of one fine-tuning, and of the sparse training before it where the method asks for one."""
    own = setting.fine_tuning(entry).epochs
    return setting.recipe.fine_tune_epochs if own is None else own


def _sizes(setting: Setting, node: Node) -> tuple[float, float]:
    """The MACs of a forward pass before and after pruning."""
    entry, target = node.entry, node.target
    assert isinstance(entry, Pruned)
    assert target
    return _whole_macs(setting, entry), _pruned_macs(setting, entry, target)


def _whole_macs(setting: Setting, entry: Pruned) -> float:
    source = setting.source(entry)
    return _exit_macs(setting.spec(entry))[-1] if source is None else _source_macs(setting, source)


def _pruned_macs(setting: Setting, entry: Pruned, target: Target) -> float:
    """The MACs of a forward pass through a pruned network; of the whole one where the budget is not one of MACs."""
    if isinstance(target, Match):
        return _source_macs(setting, target.source)
    whole, (option, value) = _whole_macs(setting, entry), target.option
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
