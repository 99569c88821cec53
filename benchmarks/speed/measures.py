"""The six ratios that say what training costs, and how they grow with the number of exits and with depth.

- mwbp_over_bp: an MW-BP step (five exits, simultaneous update) / a plain BP step of the same trunk, ResNet-56.
- sequential_over_simultaneous: the authors' update / ours, both in fp32, ResNet-56.
- bp_over_floor: a plain BP step of ResNet-44 / its bare convolutions (and linear layer), see `bare`.
- epoch_over_steps: an epoch of ResNet-44 through the training loop (data, augmentation, logging, checkpoint; no
  validation) / as many bare steps on one ready batch. The epoch is short, which overstates its fixed costs: a
  checkpoint comes every 10 steps here, every 390 on CIFAR-10.
- usual_over_ours: the usual trainer (see `usual`) / the same epoch, over the same number of images.
- memory_mwbp_over_bp: peak memory of an MW-BP step / of a BP step, ResNet-56, see `memory`.
"""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad

from benchmarks.measuring.peak_memory import peak_bytes
from benchmarks.measuring.rounds import Action, Ratio, interleaved, ratio, timed, timer
from benchmarks.speed.bare import bare_layers, floor
from benchmarks.speed.usual import UsualTrainer
from compress.console import console
from compress.data import Dataset, Labelled, Part, Split, normalise, open_dataset, split
from compress.errors import UsageError
from compress.hardware import Precision, describe, resolve_device, resolve_precision
from compress.networks import create
from compress.recipes import Recipe, recipe_named
from compress.runs import write_json
from compress.training import Method
from compress.training.loop import Options, Training, fit

SIZE = 32  # pixels, as CIFAR's
BP, MWBP = Method(name="bp"), Method(name="mwbp")
SEQUENTIAL = Method(name="mwbp", update="sequential")


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """How much is measured.

    Attributes:
        deep, exits: the network of MW-BP against BP, and the number of its exits.
        plain: the network of the floor, the epoch and the usual trainer.
        steps: of an epoch.
        workers: of the usual trainer's loader.
        growth_exits, growth_depths: of `measure_growth`; at each depth with `exits` exits.
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
class Bench:
    """What all measurements share.

    Attributes:
        split: its training images are `(N, 3, 32, 32)`, on the device.
        images: what they are.
        compile: whether our steps run compiled; the usual trainer's do not.
    """

    sizes: Sizes
    device: torch.device
    precision: Precision
    split: Split
    images: str
    compile: bool = False

    @property
    def environment(self) -> dict[str, Any]:
        """The conditions, for the record."""
        own = {
            "precision": self.precision,
            "compiled": self.compile,
            "batch_size": self.sizes.batch_size,
            "rounds": self.sizes.rounds,
        }
        return describe(self.device) | own | {"epoch_steps": self.sizes.steps, "images": self.images}

    def training(
        self, arch: str, method: Method = BP, exits: int = 1, *, precision: Precision | None = None, epochs: int = 1
    ) -> Training:
        """A training of a fresh network."""
        network = create(arch, exits=exits).to(self.device)
        objective, recipe = method.objective(network.spec), self.recipe(epochs)
        used = precision or self.precision
        options = Options(compile=self.compile)
        training = Training(
            network, self.split, recipe, objective, augment=True, seed=0, precision=used, options=options
        )
        network.train()
        return training

    def recipe(self, epochs: int) -> Recipe:
        """The paper's protocol, for a few epochs."""
        return dataclasses.replace(recipe_named("paper"), epochs=epochs, batch_size=self.sizes.batch_size)

    def batch(self) -> tuple[Tensor, Tensor]:
        """The first images, normalised, as the loop hands them to a step, and their labels."""
        size = self.sizes.batch_size
        images = normalise(self.split.train.images[:size], self.split.normalisation)
        return images.contiguous(memory_format=torch.channels_last), self.split.train.labels[:size]

    def step(self, arch: str, method: Method = BP, exits: int = 1, *, precision: Precision | None = None) -> Action:
        """A step of the training loop on a ready batch."""
        training = self.training(arch, method, exits, precision=precision)
        return partial(training.step, *self.batch(), done=0)


def open_bench(sizes: Sizes, *, device: str = "auto", precision: str = "auto", compile: bool = False) -> Bench:
    """Everything that measuring needs.

    Raises:
        UsageError: no such device or precision.
    """
    where = resolve_device(device)
    dataset, images = _dataset(sizes.steps * sizes.batch_size)
    parts = split(dataset, validation=0.0, calibration=0.0, seed=0)
    parts = dataclasses.replace(parts, train=parts.train.to(where), validation=parts.validation.to(where))
    return Bench(sizes=sizes, device=where, precision=resolve_precision(precision, where), split=parts, images=images)


def measure(bench: Bench) -> dict[str, Any]:
    """The six ratios, each `{"ratio", "low", "high"}`, and `environment`."""
    measurements: list[Callable[[Bench], dict[str, Ratio]]] = [_updates, _floor, _epochs, _memory]
    results: dict[str, Any] = {}
    for measurement in measurements:
        for key, value in measurement(bench).items():
            console.print(f"{key}: {value['ratio']:.3f} ({value['low']:.3f} to {value['high']:.3f})")
            results[key] = value
    return results | {"environment": bench.environment}


def measure_growth(bench: Bench) -> dict[str, Any]:
    """The ratios of a step by number of exits and by depth: `{"exits": {"1": {key: ratio}}, "depth": ...}`.

    What an epoch adds to its steps, and the usual trainer, know neither exits nor depth and are left out.
    """
    sizes = bench.sizes
    by_exits = {str(exits): dataclasses.replace(sizes, exits=exits) for exits in sizes.growth_exits}
    by_depth = {
        str(depth): dataclasses.replace(sizes, deep=f"resnet{depth}", plain=f"resnet{depth}")
        for depth in sizes.growth_depths
    }
    growth: dict[str, Any] = {"exits": {}, "depth": {}}
    for axis, variants in (("exits", by_exits), ("depth", by_depth)):
        for value, changed in variants.items():
            varied = dataclasses.replace(bench, sizes=changed)
            console.print(f"{axis} {value}")
            results = _updates(varied) | (_floor(varied) if axis == "depth" else {}) | _memory(varied)
            growth[axis][value] = results
    return growth | {"environment": bench.environment}


def _updates(bench: Bench) -> dict[str, Ratio]:
    """MW-BP against BP in the precision of choice; sequential against simultaneous in fp32, neither compiled."""
    arch, exits = bench.sizes.deep, bench.sizes.exits
    eager = dataclasses.replace(bench, compile=False)
    actions = {
        "bp": bench.step(arch),
        "mwbp": bench.step(arch, MWBP, exits),
        "simultaneous": eager.step(arch, MWBP, exits, precision="fp32"),
        "sequential": eager.step(arch, SEQUENTIAL, exits, precision="fp32"),
    }
    seconds = interleaved(actions, bench.sizes.rounds)
    return {
        "mwbp_over_bp": ratio(seconds["mwbp"], seconds["bp"]),
        "sequential_over_simultaneous": ratio(seconds["sequential"], seconds["simultaneous"]),
    }


def _floor(bench: Bench) -> dict[str, Ratio]:
    """A BP step against the bare convolutions of its network."""
    arch = bench.sizes.plain
    layers = bare_layers(bench.training(arch).network, bench.batch()[0], bench.precision)
    seconds = interleaved({"bp": bench.step(arch), "floor": partial(floor, layers)}, bench.sizes.rounds)
    return {"bp_over_floor": ratio(seconds["bp"], seconds["floor"])}


def _epochs(bench: Bench) -> dict[str, Ratio]:
    """An epoch as `fit` runs it, bare steps and the usual trainer, in turn: the others run between `fit`'s epochs."""
    sizes, arch = bench.sizes, bench.sizes.plain
    step = bench.step(arch)
    usual = UsualTrainer(
        create(arch).to(bench.device),
        bench.split,
        bench.recipe(1),
        workers=sizes.workers,
        steps=(sizes.rounds + 1) * sizes.steps,
    )
    seconds: dict[str, list[float]] = {"epoch": [], "steps": [], "usual": []}
    started = timer()

    def between_epochs(training: Training) -> None:
        nonlocal started
        write_json(directory / "metrics.json", {"history": training.history})
        seconds["epoch"].append(timer() - started)  # with the checkpoint of the epoch before
        seconds["steps"].append(timed(lambda: [step() for _ in range(sizes.steps)]))
        seconds["usual"].append(timed(lambda: usual.train(sizes.steps)))
        started = timer()

    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        training = bench.training(arch, epochs=sizes.rounds + 1)  # the first round warms up
        fit(training, title="epochs", checkpoint=directory / "checkpoint", on_epoch=between_epochs)
    warm = {name: values[1:] for name, values in seconds.items()}
    return {
        "epoch_over_steps": ratio(warm["epoch"], warm["steps"]),
        "usual_over_ours": ratio(warm["usual"], warm["epoch"]),
    }


def _memory(bench: Bench) -> dict[str, Ratio]:
    """Peak memory of MW-BP against BP; an exact count, so there is no spread."""
    arch, exits = bench.sizes.deep, bench.sizes.exits
    bp = peak_bytes(lambda: bench.step(arch), bench.device)
    mwbp = peak_bytes(lambda: bench.step(arch, MWBP, exits), bench.device)
    return {"memory_mwbp_over_bp": ratio([mwbp], [bp])}


def _dataset(count: int) -> tuple[Dataset, str]:
    """As many training images `(N, 3, 32, 32)`, of CIFAR-10 where it is here, and what they are."""
    try:
        whole = open_dataset("cifar10", download=False)
        source = f"{whole.name} ({whole.copy})"
    except UsageError:
        whole = open_dataset("fashion-mini")
        source = f"{whole.name}, padded to 32x32 and repeated to three channels"
    chosen = torch.arange(count) * len(whole.train) // count
    train, test = (_colour(part) for part in (whole.train.subset(chosen), whole.test))
    return dataclasses.replace(whole, train=train, test=test), source


def _colour(part: Part) -> Labelled:
    """The same images in CIFAR's shape."""
    _, _, height, width = part.images.shape
    left, top = (SIZE - width) // 2, (SIZE - height) // 2
    padded = pad(part.images, (left, SIZE - width - left, top, SIZE - height - top))
    return Labelled(images=padded.expand(-1, 3, -1, -1).contiguous(), labels=part.labels)
