"""Arms: runs that differ by budget and seed alone, how reports name them, and what a configuration asked for."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from typing import Any, get_args

from baselines import METHODS, Budget, Technique
from baselines.technique import DEPTH
from compress.networks import Spec, display_name
from compress.recipes import FineTuneSchedule
from compress.records import Record, without_seed
from compress.runs import Run

BUDGETS = (*(field.name for field in dataclasses.fields(Budget)), "match")


def family(record: Record) -> str:
    """What made a network smaller: ``width``, ``depth`` or a ``control``; ``train`` for any other network."""
    if not made_smaller(record.config):
        return "train"
    return record.kind if record.kind == "control" else "depth" if record.method in DEPTH else "width"


def base_network(record: Record) -> str:
    """Display name of the network that was pruned, or that a control was taught or shaped by; otherwise its own."""
    config = record.config
    origin = config.get("reference") or config.get("teacher_reference") or config
    return display_name(Spec.from_json(origin["spec"]))


def arm_name(record: Record) -> str:
    """As in ``l1``, ``l1 inner uniform``, ``random restart``; for a trained network its method."""
    if not made_smaller(record.config):
        return record.method
    usual, request = get_args(FineTuneSchedule)[0], record.config.get("request", {})
    words = [technique(record.config).label]
    words += [request["schedule"]] if request.get("schedule", usual) != usual else []
    return " ".join(words) + (f", step {request['step']}" if "step" in request else "")


def arm_key(run: Run) -> str:
    """Key that is equal for the runs of an arm: the configuration without seed, budget and what follows from these."""
    record = run.record
    config = _unbudgeted(record.config)
    if family(record) == "control":  # tells its origin, which its own network, perhaps a shallower one, does not
        achieved = record.results.get("achieved", {})
        if {"speedup", "macs"} <= achieved.keys():
            config["macs_before"] = round(achieved["speedup"] * achieved["macs"])
    return json.dumps(config, sort_keys=True)


def _unbudgeted(config: dict[str, Any]) -> dict[str, Any]:
    config = without_seed(config)
    if not made_smaller(config):
        return config
    config["request"] = {key: value for key, value in config.get("request", {}).items() if key not in BUDGETS}
    del config["spec"]  # it depends on the budget in iterative pruning and for shallower networks
    if config.get("reference"):
        config["reference"] = _unbudgeted(config["reference"])
    if config["method"] == "scratch-b":
        config["recipe"] = config["recipe"] | {"epochs": None}
    if config["kind"] == "control":
        config["objective"] = config["objective"] | {"segments": None}  # its last block depends on the budget
    return config


def made_smaller(config: dict[str, Any]) -> bool:
    """Whether `compress prune` made the run; controls of training are not made by it."""
    return config["kind"] != "train" and config["method"] in METHODS


def technique(config: Mapping[str, Any]) -> Technique:
    """The technique that a configuration asked for; fields that it lacks have their defaults."""
    asked = config.get("request", {})
    fields = {field.name for field in dataclasses.fields(Technique)}
    return Technique(**{name: asked[name] for name in fields & asked.keys()} | {"method": config["method"]})


def protocol(config: Mapping[str, Any]) -> dict[str, Any]:
    """The recipe without learning rate and weight decay, which tuning chooses for each arm."""
    return {key: value for key, value in config["recipe"].items() if key not in ("learning_rate", "weight_decay")}


def is_subject(config: Mapping[str, Any], others: Sequence[Mapping[str, Any]]) -> bool:
    """Whether a network is one whose exits a comparison is about, and no control: it is by MW-BP or AuxNet.

    MW-BP's losses with plain weight decay are the control of MW-BP where a net with the same exits is there by MW-BP,
    and the subject where none is.
    """
    if config["method"] != "mwbp-uniform-decay":
        return config["method"] in ("mwbp", "auxnet")
    own = config["spec"] | {"arch": ""}, protocol(config)
    return not any(
        other["method"] == "mwbp" and (other["spec"] | {"arch": ""}, protocol(other)) == own for other in others
    )


def plainly_trained(config: Mapping[str, Any]) -> bool:
    """Whether a network was trained by plain BP alone: from scratch, with one exit, without a teacher."""
    shallower = config["kind"] == "control" and config["method"] == "shallow"
    trained = config["kind"] == "train" and config["method"] == "bp"
    borrowed = config.get("initial") or config.get("teacher_reference") or config["objective"].get("teacher")
    return (trained or shallower) and len(config["spec"]["exits"]) == 1 and not borrowed
