"""The step that runs on every device takes, on a CPU, the very steps of the loop before it; recorded, the same again.

A recording is played by a stand-in, which calls the function again where a GPU would launch what it recorded.
"""

import copy
import functools
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils._python_dispatch import TorchDispatchMode

from compress.data import Dataset
from compress.training.class_weights import class_weights
from compress.training.loop import Training, fit
from compress.training.updates import DeviceRates, Simultaneous, update_of
from tests.training.step_cases import (
    BATCH,
    CASES,
    EPOCHS,
    Case,
    Course,
    KilledError,
    assert_same,
    course_of,
    differing,
    played,
    state,
)

CPU = torch.device("cpu")


class LoopBefore:
    """The arithmetic of the training loop as it was before the step was made a function of tensors, written plainly."""

    def __init__(self, case: Case, tiny: Dataset) -> None:
        self.recipe, self.network, method, self.teacher = case.parts(tiny)
        self.objective, self.precision = method.objective(self.network.spec), case.precision
        self.network = self.network.to(memory_format=torch.channels_last)
        self.network.drop_blocks(self.recipe.stochastic_depth)
        groups = self.objective.parameter_groups(
            self.network, learning_rate=self.recipe.learning_rate, weight_decay=self.recipe.weight_decay
        )
        self.highest = [group["lr"] for group in groups]
        self.optimizer = torch.optim.SGD(
            groups, lr=self.recipe.learning_rate, momentum=self.recipe.momentum, nesterov=True, fused=True
        )
        average = get_ema_multi_avg_fn(self.recipe.ema_decay) if self.recipe.averaging == "ema" else None
        self.averaged = AveragedModel(self.network, multi_avg_fn=average)

    def losses(self, logits: list[Tensor], labels: Tensor, taught: Tensor | None, weights: Tensor | None) -> Tensor:
        """What `Objective.losses` computed, with numbers copied to the device at every step."""
        objective, smoothing = self.objective, self.recipe.label_smoothing
        stacked = torch.stack(logits).float()
        hard = []
        for exit in stacked:
            each = nn.functional.cross_entropy(exit, labels, label_smoothing=smoothing, reduction="none")
            whole = nn.functional.cross_entropy(exit, labels, label_smoothing=smoothing)
            hard.append(whole if weights is None else (each * weights[labels]).mean())
        shares = [objective.self_distillation] * (len(stacked) - 1) + [0.0]
        losses = torch.stack(hard)
        losses = losses * losses.new_tensor([1 - share - objective.teacher for share in shares])
        if objective.self_distillation and len(stacked) > 1:
            losses = losses + objective._distilled(stacked, stacked[-1].detach()) * losses.new_tensor(shares)
        if objective.teacher:
            assert taught is not None
            losses = losses + objective._distilled(stacked, taught.to(stacked.dtype)) * objective.teacher
        return losses

    def epoch(self, training: Training, epoch: int) -> tuple[Tensor, Tensor]:
        """Train on the batches of another training's epoch; returns the sums of losses and of right answers."""
        self.network.train()
        weights = class_weights(self.recipe.class_weights, training.split.train.labels, 10)
        torch.manual_seed(int(np.random.default_rng((4, epoch, 0, 0)).integers(2**63)))  # for stochastic depth
        losses, correct = torch.zeros(len(self.objective.gammas)), torch.zeros(len(self.objective.gammas))
        for step, (images, labels) in enumerate(training._batches(), start=1):
            done = epoch * training.steps + step - 1
            factor = self.recipe.rate_factor((done + 0.5) / (EPOCHS * training.steps))
            for group, highest in zip(self.optimizer.param_groups, self.highest, strict=True):
                group["lr"] = factor * highest
            with torch.autocast("cpu", dtype=torch.bfloat16, enabled=self.precision == "bf16"):
                logits = self.network(images)
                with torch.no_grad():
                    taught = self.teacher(images)[-1] if self.teacher else None
            own = self.losses(logits, labels, taught, weights)
            self.optimizer.zero_grad()
            (own @ own.new_tensor(self.objective.loss_weights)).backward()
            self.optimizer.step()
            losses += own.detach()
            correct += torch.stack([(exit.argmax(dim=1) == labels).sum() for exit in logits])
            due = done + 1 >= self.recipe.averaging_start * EPOCHS * training.steps
            if due and (self.recipe.averaging == "ema" or (self.recipe.averaging == "swa" and step == training.steps)):
                self.averaged.update_parameters(self.network)
        return losses, correct


@pytest.fixture(autouse=True)
def settled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Batch norm's statistics are what the steps made of them."""
    monkeypatch.setattr("compress.training.loop.steps_to_settle", lambda network: 0.0)


@pytest.fixture(scope="module")
def before(tiny: Dataset) -> Callable[[str], Course]:
    """The course of the loop before, made once for every case."""

    @functools.cache
    def trained(name: str) -> Course:
        loop, batches, course = LoopBefore(CASES[name], tiny), CASES[name].training(tiny), Course([], [], [])
        for epoch in range(EPOCHS):
            with torch.random.fork_rng(devices=[]):
                losses, correct = loop.epoch(batches, epoch)
            batches.history.append({})  # its next batches are those of the next epoch
            course.losses.append((losses / batches.steps).tolist())
            course.accuracies.append((correct / (batches.steps * BATCH)).tolist())
            momentum = [loop.optimizer.state[parameter]["momentum_buffer"] for parameter in loop.network.parameters()]
            averaged = loop.averaged if loop.recipe.averaging != "none" else None
            course.states.append(state(loop.network, averaged, momentum))
        return course

    return trained


@pytest.mark.parametrize("name", CASES)
def test_steps_are_those_of_the_loop_before_to_the_last_bit(
    name: str, tiny: Dataset, before: Callable[[str], Course]
) -> None:
    training = CASES[name].training(tiny)
    assert training.steps * EPOCHS == 20
    assert_same(course_of(training), before(name))


def test_every_case_takes_steps_of_its_own(before: Callable[[str], Course]) -> None:
    """Else the test above would hold for options that nothing reads."""
    assert len({tuple(before(name).losses[-1]) for name in CASES}) == len(CASES)


@pytest.mark.parametrize("name", ["mwbp, bf16", "ema", "stochastic depth"])
@pytest.mark.parametrize("recorded", [False, True], ids=["eager", "recorded"])
def test_resumed_steps_are_those_of_the_loop_before(
    name: str, recorded: bool, tiny: Dataset, before: Callable[[str], Course], tmp_path: Path
) -> None:
    def training() -> Training:
        made = CASES[name].training(tiny)
        return played(made)[0] if recorded else made

    def die_in_the_third_epoch(training: Training) -> None:
        if training.epochs_done == 3:
            raise KilledError

    with pytest.raises(KilledError):
        fit(training(), title="part", checkpoint=tmp_path, on_epoch=die_in_the_third_epoch)
    resumed, whole = course_of(training(), checkpoint=tmp_path), before(name)
    assert_same(resumed, Course(whole.states[2:], whole.losses, whole.accuracies))


@pytest.mark.parametrize("name", CASES)
def test_recorded_steps_are_those_of_the_loop_before(name: str, tiny: Dataset, before: Callable[[str], Course]) -> None:
    """So a recording leaves weights, statistics, momentum, averages, counts and random state as they were."""
    training, players = played(CASES[name].training(tiny))
    assert_same(course_of(training), before(name))
    assert sum(player.replays for player in players) == 20
    assert training.stepping.captured
    assert len(players) == (2 if training.averaging.ema else 1)  # steps that average are others


def test_the_losses_of_a_step_are_returned_by_a_recorded_one_too(tiny: Dataset) -> None:
    eager, (recorded, _) = CASES["mwbp"].training(tiny), played(CASES["mwbp"].training(tiny))
    for done, batch in enumerate(eager._batches()):
        assert torch.equal(eager.step(*batch, done=done), recorded.step(*batch, done=done))


@pytest.mark.parametrize("nesterov", [True, False])
def test_rates_on_the_device_are_those_of_the_schedule_rounded_once(nesterov: bool, tiny: Dataset) -> None:
    """As on a GPU: the optimiser reads tensors that are filled before a step and computed in it."""
    recipe, network, method, _ = CASES["mwbp"].parts(tiny)
    recipe, objective = replace(recipe, nesterov=nesterov), method.objective(network.spec)
    other = copy.deepcopy(network)
    update, expected = (update_of(objective, net, recipe) for net in (network, other))
    assert isinstance(update, Simultaneous)
    assert isinstance(expected, Simultaneous)
    update.rates = DeviceRates(update.optimizer, CPU)
    for group in update.optimizer.param_groups:  # before any step, too
        assert float(group["lr"]) == float(torch.tensor(group["highest_lr"]))
    images, labels = torch.randn(8, *tiny.input_shape), torch.arange(8)
    for factor in (0.1, 1 / 3, 0.7):
        for each, net in ((update, network), (expected, other)):
            each.set_rate(factor)
            if each is expected:
                for group in each.optimizer.param_groups:
                    group["lr"] = float(torch.tensor(group["lr"]))  # in float32
            each.step(objective.losses(net(images), labels))
        rates = [group["lr"] for group in update.optimizer.param_groups]
        assert all(isinstance(rate, Tensor) and rate.dtype == torch.float32 for rate in rates)
        assert [float(rate) for rate in rates] == [group["lr"] for group in expected.optimizer.param_groups]
        assert update.learning_rate == factor * recipe.learning_rate
        saved = copy.deepcopy(update.state_dict())
        update.load_state_dict(saved)  # which brings tensors of its own
    assert not differing(network.state_dict(), other.state_dict())


class Asked(TorchDispatchMode):
    """Notes operations for which a GPU would be waited for: a value or a shape that depends on one, a list copied."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.names: set[str] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if any(name in str(func) for name in ("_local_scalar_dense", "nonzero", "lift_fresh")):
            self.names.add(str(func))
        return func(*args, **kwargs or {})


@pytest.mark.parametrize("name", CASES)
def test_nothing_is_asked_of_the_device_from_batch_to_batch(name: str, tiny: Dataset) -> None:
    training = CASES[name].training(tiny)
    assert isinstance(training.update, Simultaneous)
    training.update.rates = DeviceRates(training.update.optimizer, CPU)
    step, batches = training.stepping.step, training._batches()
    asked = []
    for number in range(training.steps):
        with Asked() as during:
            step.prepare(number / training.steps)
            step(*next(batches), average=training.averaging.ema)
        asked.append(during.names)
    assert asked[1:] == [set()] * (training.steps - 1)
    assert asked[0] <= {"aten.lift_fresh.default"}  # constants, which are kept


def test_batches_are_the_same_if_several_are_made_at_once(tiny: Dataset) -> None:
    one, several = CASES["mwbp"].training(tiny), CASES["mwbp"].training(tiny)
    several.at_once = 2  # of 5
    for (images, labels), (others, same) in zip(one._batches(), several._batches(), strict=True):
        assert images.is_contiguous(memory_format=torch.channels_last)
        assert others.stride() == images.stride()
        assert torch.equal(images, others)
        assert torch.equal(labels, same)
