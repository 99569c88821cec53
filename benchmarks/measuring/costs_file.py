"""Costs file: `costs.json` in a run directory, the bytes, activations and peak memory of every exit and ensemble."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import torch

from benchmarks.measuring.peak_memory import inference_peak, training_peak
from compress.console import console
from compress.documents import read_kept
from compress.network_cost import Cost, cost, cross_check, exit_costs
from compress.networks import Ensemble, Network, Spec, cut, initialised
from compress.records import Count
from compress.runs import COSTS, Run, write_json
from compress.schema import Struct

MEND = "compress bench measures again"
TRAINING_BATCH = 128
INFERENCE_BATCHES = (1, 128)


class CostsFile(Struct, frozen=True, kw_only=True):
    """The content of `costs.json`: costs of all exits, shallow to deep, then of the ensemble, by type of device.

    Files of earlier versions have none of the ensemble.
    """

    devices: dict[str, list[dict[str, Count]]]


def record_costs(run: Run, device: torch.device) -> None:
    """Measure the costs of what the run predicts on the device and write `costs.json`, unless they are there.

    Raises:
        UsageError: fvcore and torch count different MACs, or the file cannot be written.
    """
    known = _costs_by_device(run)
    if len(known.get(device.type, [])) != len(run.predictions):
        console.print(f"{run.id}: measuring memory and activations, {device.type}")
        averaged = len(run.ensemble["exits"]) if run.ensemble else 0
        write_json(run.path / COSTS, {"devices": known | {device.type: measured_costs(run.spec, device, averaged)}})


def read_costs(run: Run) -> list[dict[str, Any]]:
    """A dict of costs for every prediction, with the `memory_device` of the measurement: a CPU where there is one.

    The dicts are empty where nothing was measured that can be read.
    """
    known = _costs_by_device(run)
    device = min(known, key=lambda name: (name != "cpu", name), default="")
    found: list[dict[str, Any]] = [costs | {"memory_device": device} for costs in known.get(device, [])]
    return found + [{} for _ in run.predictions[len(found) :]]


def _costs_by_device(run: Run) -> dict[str, list[dict[str, int]]]:
    """Costs of the predictions by type of device; prints a line on whatever cannot be read, and leaves it out."""
    kept, fitting = read_kept(run.path / COSTS, CostsFile, MEND), {len(run.exits), len(run.predictions)}
    devices = kept[1].devices if kept else {}
    if any(len(rows) not in fitting for rows in devices.values()):
        console.print(f"skipped: {run.path / COSTS} is not of the run's {len(run.exits)} exit(s); {MEND}")
    return {name: rows for name, rows in devices.items() if len(rows) in fitting}


@lru_cache(maxsize=256)  # costs do not depend on weights, and runs of several seeds share a spec
def measured_costs(spec: Spec, device: torch.device, averaged: int = 0) -> tuple[dict[str, int], ...]:
    """Costs of every exit of a network, shallow to deep, in bytes unless stated otherwise; then of an ensemble.

    For the network cut at the exit: `bytes` (on disk), `activations` (a number), `peak_training_bytes` (a
    BP step at batch 128), `peak_inference_bytes_b1` and `peak_inference_bytes_b128`. For the whole network:
    `peak_joint_training_bytes` (a step at batch 128 that trains all exits by MW-BP's simultaneous update, without a
    teacher and without sparse training). An ensemble is not trained on its own, so it has no `peak_training_bytes`.

    Args:
        averaged: the number of last exits that the ensemble averages; 0: there is none.

    Raises:
        UsageError: fvcore and torch count different MACs.
    """
    network = initialised(spec, 0).to(device)
    cross_check(network)
    exits = [cut(network, exit) for exit in range(1, len(network.spec.exits) + 1)]
    alone = [training_peak(exit, TRAINING_BATCH, device) for exit in exits]
    joint = training_peak(network, TRAINING_BATCH, device) if len(exits) > 1 else alone[0]
    rows = [
        _kept(exit, size, device) | {"peak_training_bytes": training, "peak_joint_training_bytes": joint}
        for exit, size, training in zip(exits, exit_costs(network), alone, strict=True)
    ]
    if averaged:
        ensemble = Ensemble(network, [1 / averaged] * averaged)
        rows.append(_kept(ensemble, cost(ensemble), device) | {"peak_joint_training_bytes": joint})
    return tuple(rows)


def _kept(network: Network, size: Cost, device: torch.device) -> dict[str, int]:
    """What a network takes to keep and run."""
    peaks = {f"peak_inference_bytes_b{count}": inference_peak(network, count, device) for count in INFERENCE_BATCHES}
    return {"bytes": size.bytes, "activations": size.activations} | peaks
