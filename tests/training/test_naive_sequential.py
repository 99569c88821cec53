"""The hand-written sequential update: equal to autograd, and unlike the simultaneous update and likely mistakes."""

import copy
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from compress.networks import Network, spec_of
from tests.training.naive_mwbp import NaiveMwbp
from tests.training.naive_sequential import Backward, NaiveSequential, cross_entropy_gradient, forward
from tests.training.parity import batches, disagreement

OPTIONS: dict[str, Any] = {"rate": 0.05, "momentum": 0.9, "nesterov": True, "weight_decay": 5e-3}
STEPS = 5
EXACT = 1e-12
VISIBLE = 1e-6


def double(arch: str, exits: int | str | Sequence[int | str], head: str = "bn-relu-gap-fc") -> Network:
    """A float64 network, a quarter as wide, with the head at every exit; its batch norms not at their neutral start."""
    torch.manual_seed(1)
    spec = spec_of(arch, exits=exits, input_shape=(1, 8, 8), classes=10)
    narrow = replace(
        spec,
        stem=replace(spec.stem, out=spec.stem.out // 4),
        blocks=tuple(replace(block, width=block.width // 4, out=block.out // 4) for block in spec.blocks),
        exits=tuple(replace(exit, head=head) for exit in spec.exits),
    )
    network = Network(narrow).double()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, std=0.1)
    return network


def train(trainer: NaiveSequential | NaiveMwbp) -> Network:
    """Five steps, the last two at a tenth of the rate."""
    for number, (images, labels) in enumerate(batches(STEPS)):
        trainer.scale_rate(1 if number < 3 else 0.1)
        trainer.step(images, labels)
    return trainer.network


@pytest.mark.parametrize("changed", [False, True], ids=["same weights", "weights changed since the forward"])
@pytest.mark.parametrize("head", ["bn-relu-gap-fc", "gap-fc"])
def test_every_exits_backward_is_autograds(head: str, changed: bool) -> None:
    """Autograd too reads the current weights and the saved activations, where weights change behind its back (`data`).

    That is how the authors' PyTorch came to do so, and what `Tensor.add_` is refused for today.
    """
    ours = double("resnet14", "1,4,end", head)
    theirs = copy.deepcopy(ours)
    images, labels = batches(STEPS)[0]
    with torch.no_grad():
        logits, backwards = forward(ours, images)
    losses = [functional.cross_entropy(of_exit, labels) for of_exit in theirs(images)]
    assert disagreement(ours, theirs) < EXACT  # running statistics, and how many batches there were
    for mine, parameter in zip(ours.parameters(), theirs.parameters(), strict=True):
        shift = 0.1 * torch.randn_like(mine) if changed else torch.zeros_like(mine)
        mine.data += shift
        parameter.data += shift
    for of_exit, backward, loss in zip(logits, backwards, losses, strict=True):
        ours.zero_grad()
        theirs.zero_grad()
        with torch.no_grad():
            backward(cross_entropy_gradient(of_exit, labels))
        loss.backward(retain_graph=True)
        for (name, mine), parameter in zip(ours.named_parameters(), theirs.parameters(), strict=True):
            assert (mine.grad is None) == (parameter.grad is None), name
            if mine.grad is not None and parameter.grad is not None:
                torch.testing.assert_close(mine.grad, parameter.grad, rtol=EXACT, atol=EXACT)


class StaleWeights(NaiveSequential):
    """The mistake of taking every exit's gradients at the weights of the forward pass."""

    def step(self, images: Tensor, labels: Tensor) -> list[float]:
        self.before = copy.deepcopy(list(self.network.parameters()))
        return super().step(images, labels)

    def _backward(self, backward: Backward, gradient: Tensor) -> None:
        now = copy.deepcopy(list(self.network.parameters()))
        self._load(self.before)
        super()._backward(backward, gradient)
        self._load(now)

    def _load(self, weights: list[nn.Parameter]) -> None:
        for parameter, weight in zip(self.network.parameters(), weights, strict=True):
            parameter.data.copy_(weight.data)


class SharedMomentum(NaiveSequential):
    """The mistake of one momentum buffer a parameter, whichever exit steps it."""

    def __init__(self, network: Network, **options: Any) -> None:
        super().__init__(network, **options)
        shared: defaultdict[Tensor, Any] = defaultdict(dict)
        for optimiser in self.trunk_optimisers:
            optimiser.state = shared


class ScaledDecay(NaiveSequential):
    """The mistake of weighting the loss, or the decayed gradient, by gamma: weight decay is then scaled with it."""

    def __init__(self, network: Network, **options: Any) -> None:
        super().__init__(network, **options)
        for optimiser, gamma in zip(self.trunk_optimisers, self.gammas, strict=True):
            optimiser.param_groups[0]["weight_decay"] *= gamma


@pytest.mark.parametrize("head", ["bn-relu-gap-fc", "gap-fc"])
def test_only_the_stale_weights_part_it_from_the_simultaneous_update(head: str) -> None:
    """Without weight decay, which also meets the weights as they stand."""
    options = OPTIONS | {"weight_decay": 0.0}
    network = double("resnet14", "1,4,end", head)
    simultaneous = train(NaiveMwbp(copy.deepcopy(network), **options))
    assert disagreement(train(StaleWeights(copy.deepcopy(network), **options)), simultaneous) < EXACT
    assert disagreement(train(NaiveSequential(network, **options)), simultaneous) > VISIBLE


@pytest.mark.parametrize("mistake", [StaleWeights, SharedMomentum, ScaledDecay])
def test_a_mistake_is_seen(mistake: type[NaiveSequential]) -> None:
    network = double("resnet14", "1,4,end")
    wrong = train(mistake(copy.deepcopy(network), **OPTIONS))
    assert disagreement(train(NaiveSequential(network, **OPTIONS)), wrong) > VISIBLE
