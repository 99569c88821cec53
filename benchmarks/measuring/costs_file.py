"""Costs file: `costs.json` in a run directory, the bytes, activations and peak memory of every exit."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import torch

from benchmarks.measuring.peak_memory import inference_peak, training_peak
from compress.console import console
from compress.documents import read_kept
from compress.network_cost import cross_check, exit_costs
from compress.networks import Spec, cut, initialised
from compress.records import Count
from compress.runs import COSTS, Run, write_json
from compress.schema import Struct

MEND = "compress bench measures again"
TRAINING_BATCH = 128
INFERENCE_BATCHES = (1, 128)


class CostsFile(Struct, frozen=True, kw_only=True):
    """The content of `costs.json`: costs of all exits, shallow to deep, by type of device."""

    devices: dict[str, list[dict[str, Count]]]


def record_costs(run: Run, device: torch.device) -> None:
    """Measure the costs of the run's exits on the device and write `costs.json`, unless they are there.

    Raises:
        UsageError: fvcore and torch count different MACs, or the file cannot be written.
    """
    known = _costs_by_device(run)
    if device.type not in known:
        console.print(f"{run.id}: measuring memory and activations, {device.type}")
        write_json(run.path / COSTS, {"devices": known | {device.type: measured_costs(run.spec, device)}})


def read_costs(run: Run) -> list[dict[str, Any]]:
    """A dict of costs for every exit, with the `memory_device` they were measured on: a CPU where it was measured.

    The dicts are empty where there is no file, or none that can be read.
    """
    known = _costs_by_device(run)
    device = min(known, key=lambda name: (name != "cpu", name), default=None)
    return [{} for _ in run.exits] if device is None else [costs | {"memory_device": device} for costs in known[device]]


def _costs_by_device(run: Run) -> dict[str, list[dict[str, int]]]:
    """Costs of the exits by type of device; prints a line on whatever cannot be read, and leaves it out."""
    kept = read_kept(run.path / COSTS, CostsFile, MEND)
    devices = kept[1].devices if kept else {}
    if any(len(exits) != len(run.exits) for exits in devices.values()):
        console.print(f"skipped: {run.path / COSTS} is not of the run's {len(run.exits)} exit(s); {MEND}")
    return {name: exits for name, exits in devices.items() if len(exits) == len(run.exits)}


@lru_cache(maxsize=256)  # costs do not depend on weights, and runs of several seeds share a spec
def measured_costs(spec: Spec, device: torch.device) -> tuple[dict[str, int], ...]:
    """Costs of every exit of a network, shallow to deep, in bytes unless stated otherwise.

    For the network cut at the exit: `bytes` (on disk), `activations` (a number), `peak_training_bytes` (a
    BP step at batch 128), `peak_inference_bytes_b1` and `peak_inference_bytes_b128`. For the whole network:
    `peak_joint_training_bytes` (a step at batch 128 that trains all exits by MW-BP's simultaneous update, without a
    teacher and without sparse training).

    Raises:
        UsageError: fvcore and torch count different MACs.
    """
    network = initialised(spec, 0).to(device)
    cross_check(network)
    exits = [cut(network, exit) for exit in range(1, len(network.spec.exits) + 1)]
    alone = [training_peak(exit, TRAINING_BATCH, device) for exit in exits]
    joint = training_peak(network, TRAINING_BATCH, device) if len(exits) > 1 else alone[0]
    return tuple(
        {
            "bytes": cost.bytes,
            "activations": cost.activations,
            "peak_training_bytes": training,
            "peak_joint_training_bytes": joint,
        }
        | {f"peak_inference_bytes_b{size}": inference_peak(exit, size, device) for size in INFERENCE_BATCHES}
        for exit, cost, training in zip(exits, exit_costs(network), alone, strict=True)
    )
