"""The ratios of what training one network costs, in the order in which they are measured.

- usual_over_ours: the usual trainer, see `usual_trainer` / an epoch by our loop, over the same number of images.
- airbench_over_ours: airbench's loop on the same network, see `airbench_loop` / the same epoch.
- epoch_over_steps: an epoch by our loop (data, augmentation, logging, checkpoint; no validation, and no recomputation
  of batch norm's statistics, which only a training's first steps need) / as many bare steps on one ready batch. The
  epoch is short, which overstates its fixed costs: a checkpoint comes every 10 steps here, every 390 on CIFAR-10 (on
  CUDA every 10 seconds).
- captured_over_eager: an MW-BP step replayed as a CUDA graph / the same step, eagerly; on CUDA.
- over_kernel_limit: a BP step / its kernels if each were empty, see `kernel_limit`; on CUDA.
- mwbp_over_bp: an MW-BP step (several exits, simultaneous update) / a plain BP step of the same trunk.
- exit_training_over_mwbp: an MW-BP step with the exits' ensemble as teacher and annealed auxiliary losses / without.
- memory_captured_over_eager: peak memory of an MW-BP training with its first step captured / eagerly; on CUDA.
- sequential_over_simultaneous: the authors' update / ours, both in fp32, neither compiled nor captured.
- bp_over_floor: a plain BP step / the network's convolutions and linear layers alone, see `bare_layers`.
- memory_mwbp_over_bp: peak memory of an MW-BP step / of a BP step, in fp32; an exact count, see `peak_memory`.
- stage_cost_over_mwbp: an MW-BP step with auxiliary exits through later shortcuts and the last exit's head / with heads
  of their own.
"""

from __future__ import annotations

import contextlib
import gc
import math
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.measuring.peak_memory import peak_bytes, training_peak
from benchmarks.measuring.rounds import Call, clock, quartiles, timed
from benchmarks.speed.airbench_loop import AirbenchLoop
from benchmarks.speed.bare_layers import bare_layers, floor_call
from benchmarks.speed.kernel_limit import kernels_of, seconds_a_kernel
from benchmarks.speed.speed_setup import EXIT_TRAINING, MWBP, SEQUENTIAL, Setup
from benchmarks.speed.usual_trainer import UsualTrainer, missing_torchvision
from compress.console import console
from compress.errors import UsageError, reason
from compress.hardware import describe
from compress.networks import SHARED, create
from compress.runs import write_json
from compress.training.loop import Training, fit

Ratio = dict[str, float]
Part = Callable[[Setup, float], dict[str, Ratio]]  # a moment of `time.monotonic` after which it begins no round


def measure(setup: Setup, on_part: Callable[[dict[str, Any]], object] | None = None) -> dict[str, Any]:
    """The ratios, each `{"ratio", "low", "high", "rounds"}`, what was left out and why, and `environment`.

    Whatever fails is left out, and the rest goes on.

    Args:
        on_part: is called with the results so far after every part, also after one that was left out.
    """
    until = time.monotonic() + (math.inf if setup.time_limit is None else setup.time_limit)
    results: dict[str, Any] = {"environment": describe(setup.device) | setup.conditions, "left_out": {}}
    if missing := missing_torchvision():
        results["left_out"]["usual_over_ours"] = missing
    for name in (name for name in PARTS if setup.device.type == "cuda" or name not in ON_CUDA):
        try:
            if time.monotonic() > until:
                raise UsageError(f"the {setup.time_limit:g} s were over")
            gc.collect()  # what earlier parts left: memory, graphs, the thread of a loader, see `_rivals`
            with torch.backends.cudnn.flags(enabled=True, benchmark=True):  # for others' loops: ours decides itself
                found = PARTS[name](setup, until)
        except Exception as error:  # of any kind: what was measured must not be lost
            results["left_out"][name] = reason(error)
            console.print(f"left out: {name}: {reason(error)}")
            found = {}
        for key, value in found.items():
            console.print(f"{key}: {value['ratio']:.3f} ({value['low']:.3f} to {value['high']:.3f})")
        results |= found
        if on_part:
            on_part(results)
    return results


def ratio(over: np.ndarray, under: np.ndarray) -> Ratio:
    """The median of the ratio of two calls' seconds in the same round, and its quartiles as `low` and `high`."""
    ratios = np.divide(over, under)
    low, median, high = quartiles(ratios)
    return {"ratio": median, "low": low, "high": high, "rounds": ratios.size}


def _steps(setup: Setup, until: float) -> dict[str, Ratio]:
    """MW-BP against BP, and with what exits can do for one another."""
    methods = {"mwbp": MWBP, "exit_training": EXIT_TRAINING}
    calls = {name: setup.step(method, setup.exits) for name, method in methods.items()}
    seconds = setup.seconds({"bp": setup.step()} | calls, until)
    return {
        "mwbp_over_bp": ratio(seconds["mwbp"], seconds["bp"]),
        "exit_training_over_mwbp": ratio(seconds["exit_training"], seconds["mwbp"]),
    }


def _stage_cost(setup: Setup, until: float) -> dict[str, Ratio]:
    """MW-BP with the last exit's head for all exits against MW-BP with heads of their own; not for every network."""
    calls = {"own": setup.step(MWBP, setup.exits), "shared": setup.step(MWBP, setup.exits, head=SHARED)}
    seconds = setup.seconds(calls, until)
    return {"stage_cost_over_mwbp": ratio(seconds["shared"], seconds["own"])}


def _capture(setup: Setup, until: float) -> dict[str, Ratio]:
    """A captured step against an eager one, and a captured step of BP against its kernels' number."""
    calls = {
        "bp": setup.step(),
        "captured": setup.step(MWBP, setup.exits),
        "eager": setup.eagerly().step(MWBP, setup.exits),
    }
    seconds = setup.seconds(calls, until)
    found = {"captured_over_eager": ratio(seconds["captured"], seconds["eager"])}
    try:
        limit = kernels_of(calls["bp"], setup.device) * seconds_a_kernel(setup.device)
    except UsageError as error:
        console.print(f"left out: over_kernel_limit: {error}")
        return found
    return found | {"over_kernel_limit": ratio(seconds["bp"], np.full_like(seconds["bp"], limit))}


class _TimeUpError(Exception):
    """Ends a training that has no time left."""


def _epochs(setup: Setup, until: float) -> dict[str, Ratio]:
    """An epoch of `fit`, bare steps and others' epochs in turn; all but the first run between epochs of `fit`."""
    device, step, epochs = setup.device, setup.step(), setup.rounds + 1  # the first epoch warms up
    others: dict[str, Call] = {"steps": lambda: [step() for _ in range(setup.epoch_steps)]} | _rivals(setup, epochs)
    seconds: list[list[float]] = []
    started, settling = clock(device), 0.0

    def between_epochs(training: Training) -> None:
        nonlocal started, settling
        write_json(directory / "metrics.json", {"history": training.history})
        epoch = clock(device) - started  # includes the checkpoint of the epoch before
        epoch, settling = epoch - (training.spent.settling_seconds - settling), training.spent.settling_seconds
        seconds.append([epoch, *(timed(call, device=device) for call in others.values())])
        if len(seconds) > 1 and time.monotonic() > until:
            raise _TimeUpError
        started = clock(device)

    with tempfile.TemporaryDirectory() as name, contextlib.suppress(_TimeUpError):
        directory = Path(name)
        training = setup.training(epochs=epochs)
        fit(training, title="epochs", checkpoint=directory / "checkpoint", on_epoch=between_epochs)
    epoch, *columns = np.array(seconds[1:]).T
    by_name = dict(zip(others, columns, strict=True))
    return {"epoch_over_steps": ratio(epoch, by_name.pop("steps"))} | {
        f"{name}_over_ours": ratio(column, epoch) for name, column in by_name.items()
    }


def _rivals(setup: Setup, epochs: int) -> dict[str, Call]:
    """An epoch by airbench's loop, and by the usual trainer where there is torchvision.

    The latter comes last: its loader pins memory in a thread, and no step can be captured while one does.
    """
    recipe, steps = setup.recipe(epochs), epochs * setup.epoch_steps
    airbench = AirbenchLoop(setup.network(), setup.split, recipe, dtype=setup.half, steps=steps)
    rivals: dict[str, Call] = {"airbench": partial(airbench.train, setup.epoch_steps)}
    if not missing_torchvision():
        workers, precision = setup.workers, setup.precision
        usual = UsualTrainer(setup.network(), setup.split, recipe, precision=precision, workers=workers, steps=steps)
        rivals["usual"] = partial(usual.train, setup.epoch_steps)
    return rivals


def _memory(setup: Setup, until: float) -> dict[str, Ratio]:
    """Peak memory of MW-BP against BP."""
    networks = [create(setup.arch, exits=exits) for exits in (setup.exits, 1)]
    mwbp, bp = (np.array([training_peak(network, setup.batch_size, setup.device)]) for network in networks)
    return {"memory_mwbp_over_bp": ratio(mwbp, bp)}


def _captured_memory(setup: Setup, until: float) -> dict[str, Ratio]:
    """Peak memory of a captured training against an eager one."""
    captured, eager = (
        np.array([peak_bytes(partial(each.step, MWBP, each.exits), each.device)]) for each in (setup, setup.eagerly())
    )
    return {"memory_captured_over_eager": ratio(captured, eager)}


def _updates(setup: Setup, until: float) -> dict[str, Ratio]:
    """The two updates, and what a plain step needs above its convolutions."""
    eager = setup.eagerly(precision="fp32")
    laid_out = setup.network().to(memory_format=torch.channels_last)  # as a training does
    layers = bare_layers(laid_out, setup.batch[0], setup.precision)
    seconds = setup.seconds(
        {
            "bp": setup.step(),
            "floor": floor_call(layers, setup.device),
            "simultaneous": eager.step(MWBP, setup.exits),
            "sequential": eager.step(SEQUENTIAL, setup.exits),
        },
        until,
    )
    return {
        "sequential_over_simultaneous": ratio(seconds["sequential"], seconds["simultaneous"]),
        "bp_over_floor": ratio(seconds["bp"], seconds["floor"]),
    }


PARTS: dict[str, Part] = {
    "epochs": _epochs,  # what is promised comes first
    "capture": _capture,
    "steps": _steps,
    "captured memory": _captured_memory,
    "updates": _updates,
    "memory": _memory,
    "stage cost": _stage_cost,
}
ON_CUDA = ("capture", "captured memory")
