"""The six ratios of what training one network costs.

- mwbp_over_bp: an MW-BP step (several exits, simultaneous update) / a plain BP step of the same trunk.
- sequential_over_simultaneous: the authors' update / ours, both in fp32 and not compiled.
- bp_over_floor: a plain BP step / the network's convolutions and linear layers alone, see `bare_layers`.
- epoch_over_steps: an epoch by the training loop (data, augmentation, logging, checkpoint; no validation) / as many
  bare steps on one ready batch. The epoch is short, which overstates its fixed costs: a checkpoint comes every 10 steps
  here, every 390 on CIFAR-10.
- usual_over_ours: the usual trainer, see `usual_trainer` / the same epoch, over the same number of images.
- memory_mwbp_over_bp: peak memory of an MW-BP step / of a BP step, in fp32; an exact count, see `peak_memory`.
"""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.measuring.peak_memory import training_peak
from benchmarks.measuring.rounds import Call, clock, interleaved, quartiles, timed
from benchmarks.speed.bare_layers import bare_layers, floor
from benchmarks.speed.usual_trainer import UsualTrainer
from compress.console import console
from compress.data import Labelled, Normalisation, Split, normalise
from compress.hardware import Precision, describe
from compress.networks import create
from compress.recipes import Recipe, recipe_named
from compress.runs import write_json
from compress.training import Method
from compress.training.hooks import Options
from compress.training.loop import Training, fit

BP, MWBP, SEQUENTIAL = Method(name="bp"), Method(name="mwbp"), Method(name="mwbp", update="sequential")
Ratio = dict[str, float]


@dataclass(frozen=True, kw_only=True)
class Setup:
    """What is measured, where, and how often.

    Attributes:
        exits: number of exits that MW-BP trains.
        compile: whether our steps are compiled; the usual trainer's never are.
        steps: steps of an epoch.
        workers: workers of the usual trainer's loader.
    """

    arch: str
    exits: int
    device: torch.device
    precision: Precision
    compile: bool = False
    rounds: int = 9
    batch_size: int = 128
    steps: int = 10
    workers: int = 2

    @cached_property
    def split(self) -> Split:
        """Random training images in the shape of CIFAR's, on the device; speed does not depend on what they show."""
        count = self.steps * self.batch_size
        images = torch.randint(256, (count, 3, 32, 32), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
        train = Labelled(images=images, labels=torch.arange(count) % 10).to(self.device)
        none = train.subset(torch.arange(0))
        plain = Normalisation(mean=(0.5,) * 3, std=(0.25,) * 3)
        return Split(train=train, validation=none, calibration=none, test=none, normalisation=plain)

    @cached_property
    def batch(self) -> tuple[Tensor, Tensor]:
        """The first images, normalised, in the layout that the loop passes to a step, and their labels."""
        images = normalise(self.split.train.images[: self.batch_size], self.split.normalisation)
        return images.contiguous(memory_format=torch.channels_last), self.split.train.labels[: self.batch_size]

    def recipe(self, epochs: int) -> Recipe:
        """The paper's protocol, for a few epochs."""
        return dataclasses.replace(recipe_named("paper"), epochs=epochs, batch_size=self.batch_size)

    def training(self, method: Method = BP, exits: int = 1, *, epochs: int = 1) -> Training:
        """A training of a fresh network."""
        network = create(self.arch, exits=exits).to(self.device)
        training = Training(
            network,
            self.split,
            self.recipe(epochs),
            method.objective(network.spec),
            augment=True,
            seed=0,
            precision=self.precision,
            options=Options(compile=self.compile),
        )
        network.train()
        return training

    def step(self, method: Method = BP, exits: int = 1) -> Call:
        """A step of the training loop on a ready batch."""
        return partial(self.training(method, exits).step, *self.batch, done=0)

    def seconds(self, calls: Mapping[str, Call]) -> dict[str, np.ndarray]:
        """Seconds of every call in every round, timed in turn."""
        found, _ = interleaved([*calls.values()], rounds=self.rounds, device=self.device, warm_up=0, shortest=0.0)
        return dict(zip(calls, found.T, strict=True))


def measure(setup: Setup) -> dict[str, Any]:
    """The six ratios, each `{"ratio", "low", "high"}`, and `environment`."""
    results: dict[str, Any] = {}
    for measurement in (_steps, _epochs, _memory):
        for key, value in measurement(setup).items():
            console.print(f"{key}: {value['ratio']:.3f} ({value['low']:.3f} to {value['high']:.3f})")
            results[key] = value
    measured = ("arch", "exits", "precision", "compile", "batch_size", "rounds", "steps")
    return results | {"environment": describe(setup.device) | {name: getattr(setup, name) for name in measured}}


def ratio(over: np.ndarray, under: np.ndarray) -> Ratio:
    """The median of the ratio of two calls' seconds in the same round, and its quartiles as `low` and `high`."""
    low, median, high = quartiles(np.divide(over, under))
    return {"ratio": median, "low": low, "high": high}


def _steps(setup: Setup) -> dict[str, Ratio]:
    """Steps and bare layers, timed in turn."""
    eager = dataclasses.replace(setup, compile=False, precision="fp32")
    layers = bare_layers(setup.training().network, setup.batch[0], setup.precision)
    seconds = setup.seconds(
        {
            "bp": setup.step(),
            "mwbp": setup.step(MWBP, setup.exits),
            "simultaneous": eager.step(MWBP, setup.exits),
            "sequential": eager.step(SEQUENTIAL, setup.exits),
            "floor": partial(floor, layers),
        }
    )
    return {
        "mwbp_over_bp": ratio(seconds["mwbp"], seconds["bp"]),
        "sequential_over_simultaneous": ratio(seconds["sequential"], seconds["simultaneous"]),
        "bp_over_floor": ratio(seconds["bp"], seconds["floor"]),
    }


def _epochs(setup: Setup) -> dict[str, Ratio]:
    """An epoch of `fit`, bare steps and the usual trainer in turn; the latter two run between epochs of `fit`."""
    device, step, epochs = setup.device, setup.step(), setup.rounds + 1  # the first epoch warms up
    network = create(setup.arch).to(device)
    usual = UsualTrainer(network, setup.split, setup.recipe(1), workers=setup.workers, steps=epochs * setup.steps)
    seconds: list[tuple[float, float, float]] = []
    started = clock(device)

    def between_epochs(training: Training) -> None:
        nonlocal started
        write_json(directory / "metrics.json", {"history": training.history})
        epoch = clock(device) - started  # includes the checkpoint of the epoch before
        steps = timed(lambda: [step() for _ in range(setup.steps)], device=device)
        seconds.append((epoch, steps, timed(lambda: usual.train(setup.steps), device=device)))
        started = clock(device)

    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        training = setup.training(epochs=epochs)
        fit(training, title="epochs", checkpoint=directory / "checkpoint", on_epoch=between_epochs)
    epoch, steps, usual_epoch = np.array(seconds[1:]).T
    return {"epoch_over_steps": ratio(epoch, steps), "usual_over_ours": ratio(usual_epoch, epoch)}


def _memory(setup: Setup) -> dict[str, Ratio]:
    """Peak memory of MW-BP against BP."""
    networks = [create(setup.arch, exits=exits) for exits in (setup.exits, 1)]
    mwbp, bp = (np.array([training_peak(network, setup.batch_size, setup.device)]) for network in networks)
    return {"memory_mwbp_over_bp": ratio(mwbp, bp)}
