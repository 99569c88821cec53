"""The six ratios of what training costs, and how they grow with the number of exits and with depth.

- mwbp_over_bp: an MW-BP step (five exits, simultaneous update) / a plain BP step of the same trunk, ResNet-56.
- sequential_over_simultaneous: the authors' update / ours, both in fp32, ResNet-56.
- bp_over_floor: a plain BP step of ResNet-44 / its convolutions and linear layer alone, see `bare_layers`.
- epoch_over_steps: an epoch of ResNet-44 by the training loop (data, augmentation, logging, checkpoint; no
  validation) / as many bare steps on one ready batch. The epoch is short, which overstates its fixed costs: a
  checkpoint comes every 10 steps here, every 390 on CIFAR-10.
- usual_over_ours: the usual trainer, see `usual_trainer` / the same epoch, over the same number of images.
- memory_mwbp_over_bp: peak memory of an MW-BP step / of a BP step, ResNet-56, see `measuring.peak_memory`.
"""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.measuring.peak_memory import peak_bytes
from benchmarks.measuring.rounds import Call, clock, interleaved, quartiles, timed
from benchmarks.speed.bare_layers import bare_layers, floor
from benchmarks.speed.usual_trainer import UsualTrainer
from compress.console import console
from compress.data import Labelled, Normalisation, Split, normalise
from compress.errors import UsageError
from compress.hardware import Precision, describe, resolve_device, resolve_precision
from compress.networks import create
from compress.recipes import Recipe, recipe_named
from compress.runs import write_json
from compress.training import Method
from compress.training.hooks import Options
from compress.training.loop import Training, fit

PLAIN = Normalisation(mean=(0.5,) * 3, std=(0.25,) * 3)
BP, MWBP = Method(name="bp"), Method(name="mwbp")
SEQUENTIAL = Method(name="mwbp", update="sequential")
Ratio = dict[str, float]


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """What is measured, and how often.

    Attributes:
        deep, exits: the network in which MW-BP is compared with BP, and its number of exits.
        plain: the network of the floor, the epoch and the usual trainer.
        steps: steps of an epoch.
        workers: workers of the usual trainer's loader.
        growth_exits, growth_depths: numbers of exits, and depths (at `exits` exits), for `measure_growth`.
    """

    deep: str = "resnet56"
    exits: int = 5
    plain: str = "resnet44"
    batch_size: int = 128
    rounds: int = 9
    steps: int = 10
    workers: int = 2
    growth_exits: tuple[int, ...] = (1, 2, 3, 5, 9)
    growth_depths: tuple[int, ...] = (20, 44, 56, 110)

    def __post_init__(self) -> None:
        if min(self.batch_size, self.rounds, self.steps) < 1:
            raise UsageError("batch size, rounds and steps must be 1 or more")


@dataclass(frozen=True, kw_only=True)
class Setup:
    """What all measurements share.

    Attributes:
        split: random training images `(N, 3, 32, 32)`, on the device; speed does not depend on what they show.
        compile: whether our steps are compiled; the usual trainer's never are.
    """

    sizes: Sizes
    device: torch.device
    precision: Precision
    split: Split
    compile: bool = False

    @classmethod
    def of(cls, sizes: Sizes, *, device: str = "auto", precision: str = "auto", compile: bool = False) -> Setup:
        """Make the images and resolve device and precision.

        Raises:
            UsageError: no such device or precision.
        """
        where = resolve_device(device)
        images = _random_split(sizes.steps * sizes.batch_size, where)
        return cls(
            sizes=sizes, device=where, precision=resolve_precision(precision, where), split=images, compile=compile
        )

    @property
    def environment(self) -> dict[str, Any]:
        """The conditions of the measurement, for its record."""
        return describe(self.device) | {
            "precision": self.precision,
            "compiled": self.compile,
            "batch_size": self.sizes.batch_size,
            "rounds": self.sizes.rounds,
            "epoch_steps": self.sizes.steps,
        }

    def training(self, arch: str, method: Method = BP, exits: int = 1, *, epochs: int = 1) -> Training:
        """A training of a fresh network."""
        network = create(arch, exits=exits).to(self.device)
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

    def recipe(self, epochs: int) -> Recipe:
        """The paper's protocol, for a few epochs."""
        return dataclasses.replace(recipe_named("paper"), epochs=epochs, batch_size=self.sizes.batch_size)

    def batch(self) -> tuple[Tensor, Tensor]:
        """The first images, normalised, in the layout that the loop passes to a step, and their labels."""
        size = self.sizes.batch_size
        images = normalise(self.split.train.images[:size], self.split.normalisation)
        return images.contiguous(memory_format=torch.channels_last), self.split.train.labels[:size]

    def step(self, arch: str, method: Method = BP, exits: int = 1) -> Call:
        """A step of the training loop on a ready batch."""
        return partial(self.training(arch, method, exits).step, *self.batch(), done=0)

    def seconds(self, calls: Mapping[str, Call]) -> dict[str, np.ndarray]:
        """Seconds of every call in every round, timed in turn."""
        found, _ = interleaved([*calls.values()], rounds=self.sizes.rounds, device=self.device, warm_up=0, shortest=0.0)
        return dict(zip(calls, found.T, strict=True))


def measure(setup: Setup) -> dict[str, Any]:
    """The six ratios, each `{"ratio", "low", "high"}`, and `environment`."""
    measurements: list[Callable[[Setup], dict[str, Ratio]]] = [_updates, _floor, _epochs, _memory]
    results: dict[str, Any] = {}
    for measurement in measurements:
        for key, value in measurement(setup).items():
            console.print(f"{key}: {value['ratio']:.3f} ({value['low']:.3f} to {value['high']:.3f})")
            results[key] = value
    return results | {"environment": setup.environment}


def measure_growth(setup: Setup) -> dict[str, Any]:
    """The ratios of a step by number of exits and by depth: `{"exits": {"1": {key: ratio}}, "depth": ...}`.

    The ratios of an epoch and of the usual trainer are left out, since they depend on neither.
    """
    axes: dict[str, dict[int, dict[str, Any]]] = {
        "exits": {exits: {"exits": exits} for exits in setup.sizes.growth_exits},
        "depth": {depth: dict.fromkeys(("deep", "plain"), f"resnet{depth}") for depth in setup.sizes.growth_depths},
    }
    growth: dict[str, Any] = {}
    for axis, variants in axes.items():
        growth[axis] = {}
        for value, changes in variants.items():
            console.print(f"{axis} {value}")
            sizes = dataclasses.replace(setup.sizes, **changes)
            varied = dataclasses.replace(setup, sizes=sizes)
            floor_ratio = _floor(varied) if axis == "depth" else {}
            growth[axis][str(value)] = _updates(varied) | floor_ratio | _memory(varied)
    return growth | {"environment": setup.environment}


def ratio(over: np.ndarray, under: np.ndarray) -> Ratio:
    """The median of the ratio of two calls' seconds in the same round, and its quartiles as `low` and `high`."""
    low, median, high = quartiles(np.divide(over, under))
    return {"ratio": median, "low": low, "high": high}


def _updates(setup: Setup) -> dict[str, Ratio]:
    """MW-BP against BP in the given precision; sequential against simultaneous in fp32, neither compiled."""
    arch, exits = setup.sizes.deep, setup.sizes.exits
    eager = dataclasses.replace(setup, compile=False, precision="fp32")
    seconds = setup.seconds(
        {
            "bp": setup.step(arch),
            "mwbp": setup.step(arch, MWBP, exits),
            "simultaneous": eager.step(arch, MWBP, exits),
            "sequential": eager.step(arch, SEQUENTIAL, exits),
        }
    )
    return {
        "mwbp_over_bp": ratio(seconds["mwbp"], seconds["bp"]),
        "sequential_over_simultaneous": ratio(seconds["sequential"], seconds["simultaneous"]),
    }


def _floor(setup: Setup) -> dict[str, Ratio]:
    """A BP step against the convolutions and linear layers of its network alone."""
    arch = setup.sizes.plain
    layers = bare_layers(setup.training(arch).network, setup.batch()[0], setup.precision)
    seconds = setup.seconds({"bp": setup.step(arch), "floor": partial(floor, layers)})
    return {"bp_over_floor": ratio(seconds["bp"], seconds["floor"])}


def _epochs(setup: Setup) -> dict[str, Ratio]:
    """An epoch of `fit`, bare steps and the usual trainer in turn; the latter two run between epochs of `fit`."""
    sizes, arch, device = setup.sizes, setup.sizes.plain, setup.device
    step = setup.step(arch)
    usual = UsualTrainer(
        create(arch).to(device),
        setup.split,
        setup.recipe(1),
        workers=sizes.workers,
        steps=(sizes.rounds + 1) * sizes.steps,
    )
    seconds: list[tuple[float, float, float]] = []
    started = clock(device)

    def between_epochs(training: Training) -> None:
        nonlocal started
        write_json(directory / "metrics.json", {"history": training.history})
        epoch = clock(device) - started  # includes the checkpoint of the epoch before
        steps = timed(lambda: [step() for _ in range(sizes.steps)], device=device)
        seconds.append((epoch, steps, timed(lambda: usual.train(sizes.steps), device=device)))
        started = clock(device)

    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        training = setup.training(arch, epochs=sizes.rounds + 1)  # the first round warms up
        fit(training, title="epochs", checkpoint=directory / "checkpoint", on_epoch=between_epochs)
    epoch, steps, usual_epoch = np.array(seconds[1:]).T
    return {"epoch_over_steps": ratio(epoch, steps), "usual_over_ours": ratio(usual_epoch, epoch)}


def _memory(setup: Setup) -> dict[str, Ratio]:
    """Peak memory of MW-BP against BP; an exact count, which does not vary."""
    arch, exits = setup.sizes.deep, setup.sizes.exits
    bp = peak_bytes(lambda: setup.step(arch), setup.device)
    mwbp = peak_bytes(lambda: setup.step(arch, MWBP, exits), setup.device)
    return {"memory_mwbp_over_bp": ratio(np.array([mwbp]), np.array([bp]))}


def _random_split(count: int, device: torch.device) -> Split:
    """`count` random training images in the shape of CIFAR's, of ten classes, on the device."""
    images = torch.randint(256, (count, 3, 32, 32), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    train = Labelled(images=images, labels=torch.arange(count) % 10).to(device)
    none = train.subset(torch.arange(0))
    return Split(train=train, validation=none, calibration=none, test=none, normalisation=PLAIN)
