"""Updates: how the losses of one forward pass become a step of the weights.

Both kinds hold torch's SGD optimisers, take the same losses, and can be saved and restored.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from compress.networks import Network
from compress.recipes import Recipe
from compress.training.objectives import Objective

LAGGING = 2.0  # AuxNet: from this ratio of an exit's loss to the last one's on, the rate follows the ratio


class Update(Protocol):
    """One step at a time, at a learning rate that a schedule sets."""

    learning_rate: float
    """The highest one of this step, before any exit's or segment's own factor."""

    def set_rate(self, factor: float) -> None:
        """Set every rate to this factor of its highest."""

    def step(self, losses: Tensor) -> None:
        """Backpropagate the losses `(exits,)` and move the weights."""

    def state_dict(self) -> dict[str, Any]:
        """All momentum, as tensors and plain values."""

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go back to what `state_dict` gave."""


def update_of(
    objective: Objective, network: Network, recipe: Recipe, regularise: Callable[[Network], None] | None = None
) -> Update:
    """The update that an objective asks for; `regularise` goes with the simultaneous one alone."""
    if objective.update == "sequential":
        assert regularise is None
        return Sequential(objective, network, recipe)
    return Simultaneous(objective, network, recipe, regularise)


class Simultaneous:
    """All gradients at the same weights: one backward pass, one optimiser.

    `regularise` may add to the gradients of the network before they move it.
    """

    def __init__(
        self,
        objective: Objective,
        network: Network,
        recipe: Recipe,
        regularise: Callable[[Network], None] | None = None,
    ) -> None:
        self.network, self.regularise = network, regularise
        self.objective, self.highest = objective, recipe.learning_rate
        self.learning_rate = recipe.learning_rate
        groups = objective.parameter_groups(
            network, learning_rate=recipe.learning_rate, weight_decay=recipe.weight_decay
        )
        for group in groups:
            group["highest_lr"] = group["lr"]
        self.optimizer = _sgd(groups, recipe)

    def set_rate(self, factor: float) -> None:
        """Set every rate to this factor of its highest."""
        self.learning_rate = factor * self.highest
        for group in self.optimizer.param_groups:
            group["lr"] = factor * group["highest_lr"]

    def step(self, losses: Tensor) -> None:
        """Backpropagate the weighted sum of the losses `(exits,)` and move the weights."""
        self.optimizer.zero_grad()
        self.objective.total(losses).backward()
        if self.regularise:
            self._scale_gradients(inverse=False)
            self.regularise(self.network)
            self._scale_gradients(inverse=True)
        self.optimizer.step()

    def momentum(self) -> dict[str, Tensor]:
        """The momentum buffers by their parameters' names; a parameter that was never moved has none."""
        buffers = {
            name: self.optimizer.state[parameter].get("momentum_buffer")
            for name, parameter in self.network.named_parameters()
            if parameter in self.optimizer.state
        }
        return {name: buffer for name, buffer in buffers.items() if buffer is not None}

    def set_momentum(self, momentum: Mapping[str, Tensor]) -> None:
        """Go on with these buffers, by their parameters' names, which become the optimiser's own."""
        for name, parameter in self.network.named_parameters():
            if name in momentum:
                self.optimizer.state[parameter]["momentum_buffer"] = momentum[name]

    def state_dict(self) -> dict[str, Any]:
        """The optimiser's state."""
        return self.optimizer.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go back to what `state_dict` gave."""
        self.optimizer.load_state_dict(state)

    def _scale_gradients(self, *, inverse: bool) -> None:
        """Multiply gradients by their group's share of the rate, and back.

        A head's gradient is its loss's weight too large and its rate as much too small (see
        `Objective.parameter_groups`): scaled alike, what is added counts as much in a head as in the trunk.
        """
        for group in self.optimizer.param_groups:
            if group["highest_lr"] != self.highest:
                share = group["highest_lr"] / self.highest
                gradients = [parameter.grad for parameter in group["params"] if parameter.grad is not None]
                torch._foreach_mul_(gradients, 1 / share if inverse else share)


class Sequential:
    """The authors' order: exit after exit, shallow to deep, each with an optimiser and a momentum of its own.

    All losses come from one forward pass. After exit i's backward pass its head and the trunk up to it are moved at
    once, so the backward passes of later exits see activations of the old weights, but the new weights themselves.
    Autograd refuses that for parameters changed in place; so the optimisers hold parameters of their own that share
    the network's storage and not its version counters. To detach the features instead would be greedy training.

    It takes a backward pass an exit and as many momentum buffers a shallow weight. Under autocast the backward passes
    would see old casts of the weights, so it is itself in fp32 (or fp64) alone.
    """

    def __init__(self, objective: Objective, network: Network, recipe: Recipe) -> None:
        self.objective, self.highest = objective, recipe.learning_rate
        self.learning_rate = recipe.learning_rate
        exits = network.spec.exits
        trunk = [network.stem, *network.blocks]  # up to exit i: the stem and as many blocks
        self.trunks = [_trained(*trunk[: 1 + exit.block]) for exit in exits]
        self.heads = [_trained(network.heads[str(exit.block)]) for exit in exits]
        self.trunk_optimizers = [_sharing_sgd(trunk, recipe) for trunk in self.trunks]
        self.head_optimizers = [_sharing_sgd(head, recipe) for head in self.heads]

    def set_rate(self, factor: float) -> None:
        """Set every rate to this factor of its highest."""
        self.learning_rate = factor * self.highest

    def step(self, losses: Tensor) -> None:
        """For every exit: backpropagate its loss alone, move its head, move the trunk up to it."""
        values = losses.tolist()
        for exit, loss in enumerate(losses.unbind()):
            trunk, head = self.trunks[exit], self.heads[exit]
            gradients = torch.autograd.grad(loss, [*trunk, *head], retain_graph=exit < len(values) - 1)
            of_trunk, of_head = gradients[: len(trunk)], gradients[len(trunk) :]
            weighted = torch._foreach_mul(of_trunk, self.objective.gammas[exit])
            _step(self.head_optimizers[exit], of_head, self.learning_rate)
            _step(self.trunk_optimizers[exit], weighted, self._trunk_rate(exit, values))

    def state_dict(self) -> dict[str, Any]:
        """The state of every optimiser."""
        return {
            "trunks": [optimizer.state_dict() for optimizer in self.trunk_optimizers],
            "heads": [optimizer.state_dict() for optimizer in self.head_optimizers],
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go back to what `state_dict` gave."""
        for optimizers, states in ((self.trunk_optimizers, state["trunks"]), (self.head_optimizers, state["heads"])):
            for optimizer, one in zip(optimizers, states, strict=True):
                optimizer.load_state_dict(one)

    def _trunk_rate(self, exit: int, losses: list[float]) -> float:
        if self.objective.loss_ratio_rate and losses[exit] > LAGGING * losses[-1]:
            return self.learning_rate * losses[-1] / losses[exit]
        return self.learning_rate / self.objective.lambdas[exit]


def _trained(*parts: nn.Module) -> list[nn.Parameter]:
    return [parameter for part in parts for parameter in part.parameters() if parameter.requires_grad]


def _sgd(parameters: Any, recipe: Recipe, *, fused: bool = True) -> torch.optim.SGD:
    return torch.optim.SGD(
        parameters,
        lr=recipe.learning_rate,
        momentum=recipe.momentum,
        nesterov=recipe.nesterov,
        weight_decay=recipe.weight_decay,
        fused=fused,
    )


def _sharing_sgd(parameters: list[nn.Parameter], recipe: Recipe) -> torch.optim.SGD:
    """An optimiser of the same storage whose steps autograd does not see."""
    # A group, since there may be none: SqueezeNet's head has no weights. Not fused: that kernel takes gradients to lie
    # in memory as their parameters do, which `backward` alone promises.
    return _sgd([{"params": [nn.Parameter(parameter.data) for parameter in parameters]}], recipe, fused=False)


def _step(optimizer: torch.optim.SGD, gradients: Any, rate: float) -> None:
    [group] = optimizer.param_groups
    group["lr"] = rate
    for parameter, gradient in zip(group["params"], gradients, strict=True):
        parameter.grad = gradient
    optimizer.step()
    optimizer.zero_grad()
