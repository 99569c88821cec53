"""Memory: the most that a training step and a forward pass hold at once, and with it all that an exit costs.

In fp32, by PyTorch's own account (see `peak_memory`): weights, buffers, images, activations, and for
training gradients and momentum. Not in it: scratch that libraries (oneDNN, MKL) allocate themselves, the interpreter,
CUDA's context.
"""

from __future__ import annotations

import copy
from functools import lru_cache, partial
from typing import Any

import torch
from msgspec import Struct

from benchmarks.measuring.peak_memory import peak_bytes
from benchmarks.measuring.rounds import Action
from compress.console import console
from compress.documents import read_kept
from compress.errors import UsageError
from compress.network_cost import cross_check, exit_costs
from compress.networks import Network, Spec, cut, initialised
from compress.recipes import recipe_named
from compress.records import Count
from compress.runs import COSTS, Run, write_json
from compress.training.objectives import mwbp
from compress.training.updates import update_of

MEND = "compress bench measures again"
TRAINING_BATCH = 128
INFERENCE_BATCHES = (1, 128)
FEW = 2  # images of a step that only makes the optimiser's buffers; batch norm takes no single one


def record_costs(run: Run, device: torch.device) -> None:
    """Write what the run's exits cost on such a device into its `costs.json`, unless it is there.

    Raises:
        UsageError: fvcore and torch count different MACs, or the file cannot be written.
    """
    known = _known(run)
    if device.type not in known:
        console.print(f"{run.id}: measuring memory and activations, {device.type}")
        write_json(run.path / COSTS, {"devices": known | {device.type: measured_costs(run.spec, device)}})


def read_costs(run: Run) -> list[dict[str, Any]]:
    """What `record_costs` wrote, an exit each, and `memory_device`, of which it is: the CPU where that was measured.

    Empty dicts where there is nothing that can be read.
    """
    known = _known(run)
    device = min(known, key=lambda name: (name != "cpu", name), default=None)
    return [{} for _ in run.exits] if device is None else [one | {"memory_device": device} for one in known[device]]


class Costs(Struct, frozen=True, kw_only=True):
    """`costs.json`: the exits' costs by type of device; those of one device where that was all there was room for."""

    devices: dict[str, list[dict[str, Count]]] | None = None
    device: str = ""
    exits: list[dict[str, Count]] | None = None


def _known(run: Run) -> dict[str, list[dict[str, int]]]:
    """The exits' costs by type of device; what cannot be read is said and left out."""
    kept = read_kept(run.path / COSTS, Costs, MEND)
    costs = kept[1] if kept else Costs(devices={})
    found = costs.devices if costs.devices is not None else {costs.device: costs.exits or []}
    if any(len(exits) != len(run.exits) for exits in found.values()):
        console.print(f"skipped: {run.path / COSTS} is not of the run's {len(run.exits)} exit(s); {MEND}")
    return {name: exits for name, exits in found.items() if len(exits) == len(run.exits)}


@lru_cache(maxsize=256)  # weights change nothing, and seeds share a spec
def measured_costs(spec: Spec, device: torch.device) -> tuple[dict[str, int], ...]:
    """What every exit of a network costs, shallow to deep, all but time; bytes but where said otherwise.

    Of the network cut at the exit: `bytes` (see `compress.cost`), `activations` (a number), `peak_training_bytes` (a
    step at batch 128 that trains it alone, by BP), `peak_inference_bytes_b1` and `peak_inference_bytes_b128`. Of the
    whole network `peak_joint_training_bytes`: a step at batch 128 that trains all of its exits, by MW-BP's
    simultaneous update; a teacher, and what sparse training adds, are not in it.

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


def training_peak(network: Network, batch_size: int, device: torch.device) -> int:
    """Bytes at the worst moment of a step on so many images: by BP, or by MW-BP where there are several exits.

    Raises:
        UsageError: fewer than two images, of which batch norm cannot train.
    """
    if batch_size < FEW:
        raise UsageError(f"batch size {batch_size}: a training step takes {FEW} images or more")
    network = _laid_out(network, device)

    def prepare() -> Action:
        trained = copy.deepcopy(network).train()
        objective = mwbp(trained.spec)
        update = update_of(objective, trained, recipe_named("paper"))

        def step(size: int) -> None:
            labels = torch.zeros(size, dtype=torch.long, device=device)
            update.step(objective.losses(trained(_images(network, size, device)), labels))

        step(FEW)  # momentum is there from the second step on
        return partial(step, batch_size)

    with torch.random.fork_rng():  # dropout draws
        return peak_bytes(prepare, device, steps=1)


def inference_peak(network: Network, batch_size: int, device: torch.device) -> int:
    """Bytes at the worst moment of a forward pass on so many images, in eval mode.

    Raises:
        UsageError: no images.
    """
    if batch_size < 1:
        raise UsageError(f"batch size {batch_size}: it must be 1 or more")
    network = _laid_out(network, device)

    def prepare() -> Action:
        return partial(_infer, copy.deepcopy(network).eval(), batch_size, device)

    return peak_bytes(prepare, device, steps=1)


@torch.inference_mode()
def _infer(network: Network, batch_size: int, device: torch.device) -> None:
    network(_images(network, batch_size, device))


def _laid_out(network: Network, device: torch.device) -> Network:
    """A copy on the device, as training lays it out, made before anything is measured."""
    return copy.deepcopy(network).to(device).to(memory_format=torch.channels_last)


def _images(network: Network, count: int, device: torch.device) -> torch.Tensor:
    shape = (count, *network.spec.input_shape)
    return torch.zeros(shape, device=device).contiguous(memory_format=torch.channels_last)
