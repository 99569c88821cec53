"""Arms: what runs share that differ by budget and seed alone, and how a table or figure names it."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from typing import Any, get_args

from baselines import METHODS, Budget, Technique
from baselines.technique import DEPTH
from compress.networks import Spec, display_name
from compress.recipes import FineTuneSchedule
from compress.records import Record, without_seed
from compress.runs import Run

BUDGETS = (*(field.name for field in dataclasses.fields(Budget)), "match")


def family(record: Record) -> str:
    """What made a network smaller: ``width``, ``depth``, or as a ``control`` neither; ``train`` of any other."""
    if not _made_smaller(record.config):
        return "train"
    return record.kind if record.kind == "control" else "depth" if record.method in DEPTH else "width"


def base_network(record: Record) -> str:
    """The network that was pruned, or taught a control or gave it its shape, as the field writes it; else its own."""
    config = record.config
    origin = config.get("reference") or config.get("teacher_reference") or config
    return display_name(Spec.from_json(origin["spec"]))


def arm_name(record: Record) -> str:
    """As in ``l1``, ``l1 inner uniform``, ``random restart``; of a trained network its method."""
    if not _made_smaller(record.config):
        return record.method
    usual, request = get_args(FineTuneSchedule)[0], record.config.get("request", {})
    words = [technique(record.config).label]
    words += [request["schedule"]] if request.get("schedule", usual) != usual else []
    return " ".join(words) + (f", step {request['step']}" if "step" in request else "")


def arm_key(run: Run) -> str:
    """All of the configuration but seed and budget, and what follows from the budget; equal for the runs of an arm."""
    record = run.record
    config = _unbudgeted(record.config)
    if family(record) == "control":  # of an origin that its own network, a shallower one perhaps, does not name
        achieved = record.results.get("achieved", {})
        if {"speedup", "macs"} <= achieved.keys():
            config["macs_before"] = round(achieved["speedup"] * achieved["macs"])
    return json.dumps(config, sort_keys=True)


def _unbudgeted(config: dict[str, Any]) -> dict[str, Any]:
    config = without_seed(config)
    if not _made_smaller(config):
        return config
    config["request"] = {key: value for key, value in config.get("request", {}).items() if key not in BUDGETS}
    del config["spec"]  # a step's, in iterative pruning, and a shallower net's
    if config.get("reference"):
        config["reference"] = _unbudgeted(config["reference"])
    if config["method"] == "scratch-b":
        config["recipe"] = config["recipe"] | {"epochs": None}
    if config["kind"] == "control":
        config["objective"] = config["objective"] | {"segments": None}  # the last block of a shallower net
    return config


def _made_smaller(config: dict[str, Any]) -> bool:
    """Whether a run is of `compress prune`; controls of training are controls, too."""
    return config["kind"] != "train" and config["method"] in METHODS


def technique(config: Mapping[str, Any]) -> Technique:
    """What a configuration asks for; what an older one does not say was as it usually is."""
    asked = config.get("request", {})
    fields = [field.name for field in dataclasses.fields(Technique) if field.name in asked]
    return Technique(**{name: asked[name] for name in fields} | {"method": config["method"]})


def protocol(config: Mapping[str, Any]) -> dict[str, Any]:
    """The recipe but for rate and decay, which tuning may choose for each arm; equal for what was trained alike."""
    return {key: value for key, value in config["recipe"].items() if key not in ("learning_rate", "weight_decay")}


def plainly_trained(config: Mapping[str, Any]) -> bool:
    """Whether a network was trained by plain BP alone: from scratch, with one exit, untaught, by itself."""
    shallower = config["kind"] == "control" and config["method"] == "shallow"
    trained = config["kind"] == "train" and config["method"] == "bp"
    borrowed = config.get("initial") or config.get("teacher_reference") or config["objective"].get("teacher")
    return (trained or shallower) and len(config["spec"]["exits"]) == 1 and not borrowed
