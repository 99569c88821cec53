"""Trainings of 20 steps whose rate changes, for tests of the step; what is left after every epoch; a stand-in graph."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from compress import Architecture
from compress.data import Dataset, split
from compress.hardware import Precision
from compress.networks import Network, initialised, spec_of
from compress.recipes import Recipe, recipe_named
from compress.training import Method
from compress.training.capture import WARM_UP, Steps
from compress.training.hooks import Options
from compress.training.loop import Training, fit
from compress.training.updates import Simultaneous

EPOCHS, BATCH = 4, 32  # of 180 images: 5 steps an epoch, 20 in all


@dataclass(frozen=True, kw_only=True)
class Case:
    """A training: its method, what it changes in the recipe, its precision, and whether it has a teacher."""

    method: str
    exits: int
    precision: Precision
    recipe: dict[str, Any]
    teacher: bool = False

    def parts(self, tiny: Dataset) -> tuple[Recipe, Network, Method, Network | None]:
        recipe = replace(recipe_named("quick"), epochs=EPOCHS, batch_size=BATCH, flip="random", **self.recipe)
        arch = Architecture("resnet8", widths="4,8,8")
        spec = spec_of(arch, exits=self.exits, input_shape=tiny.input_shape)
        teacher = initialised(spec_of(arch, input_shape=tiny.input_shape), 7).eval() if self.teacher else None
        method = Method(
            name=self.method,
            teacher=0.3 if self.teacher else None,
            self_distillation=0.2 if self.teacher and self.exits > 1 else 0.0,
        )
        return recipe, initialised(spec, 0), method, teacher

    def training(self, tiny: Dataset, device: str = "cpu", *, capture: bool = True) -> Training:
        recipe, network, method, teacher = self.parts(tiny)
        return Training(
            network.to(device),
            split(tiny, validation=recipe.validation, calibration=recipe.calibration, seed=0).to(device),
            recipe,
            method.objective(network.spec),
            augment=True,
            seed=0,
            precision=self.precision,
            options=Options(teacher=teacher.to(device) if teacher else None, capture=capture),
        )


CASES = {
    "bp": Case(method="bp", exits=1, precision="fp32", recipe={}),
    "mwbp": Case(method="mwbp", exits=3, precision="fp32", recipe={"label_smoothing": 0.1}),
    "bp, bf16": Case(method="bp", exits=1, precision="bf16", recipe={"label_smoothing": 0.1}),
    "mwbp, bf16": Case(method="mwbp", exits=3, precision="bf16", recipe={"averaging": "ema", "averaging_start": 0.3}),
    "ema": Case(method="mwbp", exits=3, precision="fp32", recipe={"averaging": "ema", "averaging_start": 0.3}),
    "swa, class weights": Case(
        method="deep-supervision",
        exits=2,
        precision="fp32",
        recipe={"averaging": "swa", "averaging_start": 0.5, "class_weights": "balanced"},
    ),
    "taught": Case(method="mwbp", exits=3, precision="fp32", recipe={"schedule": "cosine"}, teacher=True),
    "stochastic depth": Case(method="mwbp", exits=2, precision="fp32", recipe={"stochastic_depth": 0.5}),
}


def state(network: Network, averaged: AveragedModel | None, momentum: list[Tensor]) -> dict[str, Tensor]:
    """Everything that steps change, by name."""
    named = {f"network.{name}": tensor.clone() for name, tensor in network.state_dict().items()}
    named |= {
        f"averaged.{name}": tensor.clone() for name, tensor in (averaged.state_dict() if averaged else {}).items()
    }
    return named | {f"momentum.{number}": tensor.clone() for number, tensor in enumerate(momentum)}


def state_of(training: Training) -> dict[str, Tensor]:
    assert isinstance(training.update, Simultaneous)
    return state(training.network, training.averaging.averaged, [*training.update.momentum().values()])


def differing(got: dict[str, Tensor], expected: dict[str, Tensor]) -> list[str]:
    """Names of tensors that are not equal to the last bit."""
    assert got.keys() == expected.keys()
    return [name for name, tensor in got.items() if not torch.equal(tensor, expected[name])]


@dataclass
class Course:
    """What a training was after every epoch: every tensor, mean losses and shares of right answers."""

    states: list[dict[str, Tensor]]
    losses: list[list[float]]
    accuracies: list[list[float]]


def course_of(training: Training, **options: Any) -> Course:
    """The course of a training by `fit`."""
    course = Course([], [], [])
    fit(training, title="steps", on_epoch=lambda training: course.states.append(state_of(training)), **options)
    course.losses = [line["train_loss"] for line in training.history]
    course.accuracies = [line["train_accuracy"] for line in training.history]
    return course


def assert_same(got: Course, expected: Course) -> None:
    assert (got.losses, got.accuracies) == (expected.losses, expected.accuracies)
    assert len(got.states) == len(expected.states)
    assert [differing(*pair) for pair in zip(got.states, expected.states, strict=True)] == [[]] * len(got.states)


class KilledError(Exception):
    """Stands for the end of the process."""


@dataclass
class Player:
    """Stands for a recording on a GPU: replaying calls the function, which recording only warms up.

    Attributes:
        fails: the call, counted from 1, in which recording fails.
    """

    device: torch.device
    fails: int | None
    calls: int = 0
    replays: int = 0

    def record(self, function: Callable[[], None]) -> None:
        with torch.random.fork_rng(devices=[]):
            for _ in range(WARM_UP):
                self.calls += 1
                function()
                if self.calls == self.fails:
                    raise RuntimeError("operation not permitted when stream is capturing\nand more")
        self.function = function

    def replay(self) -> None:
        self.replays += 1
        self.function()


def played(
    training: Training, fails: int | None = None, compiled: nn.Module | None = None
) -> tuple[Training, list[Player]]:
    """Let a training record its steps as on a GPU, `compiled` if given; returns it and its recordings, as they come."""
    players: list[Player] = []

    def graph(device: torch.device) -> Player:
        players.append(Player(device, fails))
        return players[-1]

    step = training.stepping.step
    step.model = compiled or step.model
    training.stepping = Steps(step, eager=None, plain=training.network, graph=graph)
    return training, players
