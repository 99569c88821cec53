"""The sequential update against a hand-written version in float64; saving and restoring of both updates."""

import copy
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, cast

import pytest
import torch
from torch import nn

from compress import Architecture
from compress.networks import Network, spec_of
from compress.recipes import Recipe, recipe_named
from compress.training.methods import Method
from compress.training.objectives import mwbp
from compress.training.updates import update_of
from tests.training.naive_sequential import NaiveSequential
from tests.training.parity import batches, disagreement

RATE, MOMENTUM, DECAY = 0.05, 0.9, 5e-3
STEPS, DROP_AT, DROP = 8, 4, 0.1
RECIPE = replace(recipe_named("quick"), learning_rate=RATE, momentum=MOMENTUM, weight_decay=DECAY)


def double(arch: str, exits: int | str | Sequence[int | str], head: str | None = None) -> Network:
    """A float64 network, a quarter as wide, whose batch norms are not at their neutral start."""
    torch.manual_seed(1)
    network = Network(
        spec_of(Architecture(arch, widths="4,8,16", head=head), exits=exits, input_shape=(1, 8, 8), classes=10)
    )
    for module in network.double().modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, std=0.1)
    return network


def train(network: Network, method: Method, recipe: Recipe = RECIPE) -> None:
    objective = method.objective(network.spec)
    update = update_of(objective, network, recipe)
    for step, (images, labels) in enumerate(batches(STEPS)):
        update.set_rate(DROP if step >= DROP_AT else 1.0)
        update.step(objective.losses(network(images), labels))


def train_naively(network: Network, *, nesterov: bool = True, loss_ratio_rate: bool = False) -> None:
    naive = NaiveSequential(
        network,
        rate=RATE,
        momentum=MOMENTUM,
        nesterov=nesterov,
        weight_decay=DECAY,
        loss_ratio_rate=loss_ratio_rate,
    )
    for step, (images, labels) in enumerate(batches(STEPS)):
        if step == DROP_AT:
            naive.scale_rate(DROP)
        naive.step(images, labels)


@pytest.mark.parametrize(
    ("arch", "exits", "head", "nesterov"),
    [
        pytest.param("resnet20", "1,2,7,end", None, True, id="uneven exits"),
        pytest.param("resnet14", 4, "gap-fc", True, id="linear heads"),
        pytest.param("resnet14", 4, "relu-gap-fc", False, id="plain momentum"),
        pytest.param("resnet14", 1, None, True, id="no auxiliary exit"),
    ],
)
def test_sequential_is_the_update_that_is_written_by_hand(
    arch: str, exits: int | str, head: str | None, nesterov: bool
) -> None:
    network = double(arch, exits, head)
    by_hand = copy.deepcopy(network)
    train(network, Method(update="sequential"), replace(RECIPE, nesterov=nesterov))
    train_naively(by_hand, nesterov=nesterov)
    assert disagreement(network, by_hand) < 1e-12


def test_auxnets_rate_follows_the_ratio_of_losses() -> None:
    network = double("resnet14", "1,4,end", "gap-fc")
    nn.init.normal_(network.heads["1"].get_parameter("2.weight"), std=20)  # so that this exit lags behind
    plain, by_hand = copy.deepcopy(network), copy.deepcopy(network)
    train(network, Method(name="auxnet"))
    train_naively(by_hand, loss_ratio_rate=True)
    assert disagreement(network, by_hand) < 1e-12
    train(plain, Method(update="sequential"))
    assert disagreement(network, plain) > 1e-4


def test_sequential_and_simultaneous_differ_by_the_order_alone() -> None:
    """In one step from the same weights their difference shrinks with the square of the rate: the order's share."""
    differences = []
    for rate in (0.02, 0.01):
        pair = [double("resnet14", 4), double("resnet14", 4)]
        for network, update_kind in zip(pair, ("sequential", "simultaneous"), strict=True):
            objective = replace(mwbp(network.spec), update=cast(Any, update_kind))
            images, labels = batches(STEPS)[0]
            update = update_of(objective, network, replace(RECIPE, learning_rate=rate))
            update.step(objective.losses(network(images), labels))
        differences.append(disagreement(*pair))
    assert differences[0] > 1e-6
    assert differences[0] / differences[1] == pytest.approx(4, rel=0.1)


@pytest.mark.parametrize("update", ["sequential", "simultaneous"])
def test_an_update_goes_on_from_its_saved_state(update: str) -> None:
    whole = double("resnet14", 3)
    parts = copy.deepcopy(whole)
    method = Method(update="sequential" if update == "sequential" else "simultaneous")
    train(whole, method)
    objective = method.objective(parts.spec)
    kept = update_of(objective, parts, RECIPE)
    for step, (images, labels) in enumerate(batches(STEPS)):
        if step in (3, DROP_AT):  # as a new process would: weights and momentum loaded into new objects
            weights, state = copy.deepcopy(parts.state_dict()), copy.deepcopy(kept.state_dict())
            parts = double("resnet14", 3)
            kept = update_of(objective, parts, RECIPE)
            parts.load_state_dict(weights)
            kept.load_state_dict(state)
        kept.set_rate(DROP if step >= DROP_AT else 1.0)
        kept.step(objective.losses(parts(images), labels))
    assert disagreement(whole, parts) == 0


def test_in_fp32_and_channels_last_it_is_the_same_update_up_to_rounding() -> None:
    """As it is trained: the optimisers must take gradients of any layout in memory."""
    network = double("resnet14", 3)
    by_hand = copy.deepcopy(network)
    single = network.float().to(memory_format=torch.channels_last)
    objective = Method(update="sequential").objective(single.spec)
    update = update_of(objective, single, replace(RECIPE, learning_rate=1e-3))
    naive = NaiveSequential(by_hand, rate=1e-3, momentum=MOMENTUM, nesterov=True, weight_decay=DECAY)
    start = copy.deepcopy(by_hand)
    for images, labels in batches(STEPS)[:2]:
        update.step(objective.losses(single(images.float().to(memory_format=torch.channels_last)), labels))
        naive.step(images, labels)
    assert disagreement(single.double(), by_hand) < 1e-4 < 1e-2 * disagreement(start, by_hand)
