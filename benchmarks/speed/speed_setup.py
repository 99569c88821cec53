"""Speed setup: what the ratios of training are measured with: network, images, recipe, precision, rounds."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.measuring.rounds import SHORTEST, Call, interleaved
from benchmarks.speed.usual_trainer import default_workers
from compress.data import Labelled, Normalisation, Split, normalise
from compress.hardware import Precision
from compress.networks import Architecture, Network, create
from compress.recipes import Recipe, recipe_named
from compress.training import Method
from compress.training.hooks import Options
from compress.training.loop import Training

BP, MWBP, SEQUENTIAL = Method(name="bp"), Method(name="mwbp"), Method(name="mwbp", update="sequential")
EXIT_TRAINING = Method(name="mwbp", ensemble_teacher=0.3, annealing="last-third")


@dataclass(frozen=True, kw_only=True)
class Setup:
    """What is measured, where, and how often.

    Attributes:
        exits: number of exits that MW-BP trains.
        compile: whether our steps are compiled; the others' never are.
        capture: whether our steps are captured as CUDA graphs, on CUDA.
        steps: steps of an epoch; None: 100 on CUDA, 10 elsewhere.
        workers: workers of the usual trainer's loader.
        time_limit: seconds after which no further round is begun; None: there is time for all. A compilation, or a
            round, that is under way is not stopped.
    """

    arch: str
    exits: int
    device: torch.device
    precision: Precision
    compile: bool = False
    capture: bool = True
    rounds: int = 9
    batch_size: int = 128
    steps: int | None = None
    workers: int = field(default_factory=default_workers)
    time_limit: float | None = None

    @property
    def conditions(self) -> dict[str, Any]:
        """What a record of the measurement says of the setup."""
        fields = {each.name: getattr(self, each.name) for each in dataclasses.fields(self) if each.name != "device"}
        return fields | {"steps": self.epoch_steps}

    @property
    def epoch_steps(self) -> int:
        """Steps of an epoch."""
        return self.steps or (100 if self.device.type == "cuda" else 10)

    @property
    def half(self) -> torch.dtype:
        """What a loop computes in that casts the weights themselves: fp16 on CUDA, elsewhere as the precision says."""
        if self.device.type == "cuda":
            return torch.float16
        return torch.bfloat16 if self.precision == "bf16" else torch.float32

    def eagerly(self, precision: Precision | None = None) -> Setup:
        """The same on the same images, without compilation and capture."""
        plain = dataclasses.replace(self, compile=False, capture=False, precision=precision or self.precision)
        vars(plain).update(split=self.split, batch=self.batch)
        return plain

    @cached_property
    def split(self) -> Split:
        """Random training images in the shape of CIFAR's, on the device; speed does not depend on what they show."""
        count = self.epoch_steps * self.batch_size
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

    def network(self, exits: int = 1, *, head: str | None = None) -> Network:
        """A fresh network on the device; `head` is that of auxiliary exits, see `Architecture`."""
        return create(Architecture(self.arch, head=head), exits=exits).to(self.device)

    def training(self, method: Method = BP, exits: int = 1, *, head: str | None = None, epochs: int = 1) -> Training:
        """A training of a fresh network."""
        network = self.network(exits, head=head)
        training = Training(
            network,
            self.split,
            self.recipe(epochs),
            method.objective(network.spec),
            augment=True,
            seed=0,
            precision=self.precision,
            options=Options(compile=self.compile, capture=self.capture),
        )
        network.train()
        return training

    def step(self, method: Method = BP, exits: int = 1, *, head: str | None = None) -> Call:
        """A step of the training loop on a ready batch."""
        return partial(self.training(method, exits, head=head).step, *self.batch, done=0)

    def seconds(self, calls: Mapping[str, Call], until: float) -> dict[str, np.ndarray]:
        """Seconds of every call in every round, timed in turn; no round but the first begins after `until`.

        On CUDA calls are repeated, since a timing of one would be that of the host which launches it.
        """
        gpu = self.device.type == "cuda"
        found, _ = interleaved(
            [*calls.values()],
            rounds=self.rounds,
            device=self.device,
            warm_up=int(gpu),
            shortest=SHORTEST if gpu else 0.0,
            until=until,
        )
        return dict(zip(calls, found.T, strict=True))
