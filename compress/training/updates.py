"""Updates: a step of the weights from the losses of one forward pass, simultaneous or sequential.

Both updates use torch's SGD, take the same losses, and can be saved and restored.
"""

from __future__ import annotations

import abc
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from compress.networks import Network
from compress.recipes import Recipe
from compress.training.objectives import Objective

LAGGING = 2.0  # AuxNet: from this ratio of an exit's loss to the last one's on, the rate follows the ratio


class Update(abc.ABC):
    """Takes steps at a learning rate that a schedule sets.

    Attributes:
        learning_rate: learning rate of the current step, without the factors of exits and segments.
        optimizers: everything that has a state.
    """

    optimizers: Sequence[torch.optim.Optimizer]

    def __init__(self, objective: Objective, recipe: Recipe) -> None:
        self.objective, self.highest = objective, recipe.learning_rate
        self.learning_rate = recipe.learning_rate

    def set_rate(self, factor: float) -> None:
        """Set every rate to this factor of its highest."""
        self.learning_rate = factor * self.highest

    @abc.abstractmethod
    def step(self, losses: Tensor) -> None:
        """Backpropagate the losses `(exits,)` and move the weights."""

    def state_dict(self) -> dict[str, Any]:
        """The optimisers' state, as tensors and plain values."""
        return {"optimizers": [optimizer.state_dict() for optimizer in self.optimizers]}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        for optimizer, saved in zip(self.optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)


def update_of(
    objective: Objective, network: Network, recipe: Recipe, regularise: Callable[[Network], None] | None = None
) -> Update:
    """The update of an objective; `regularise` is for the simultaneous update only."""
    if objective.update == "sequential":
        assert regularise is None
        return Sequential(objective, network, recipe)
    if recipe.optimizer == "muon":
        from compress.training.muon import SimultaneousMuon  # here, as it derives from what is below

        return SimultaneousMuon(objective, network, recipe)
    return Simultaneous(objective, network, recipe, regularise)


class Simultaneous(Update):
    """All gradients at the same weights: one backward pass, one optimiser.

    `regularise` may add to the gradients of the network before the step.
    """

    def __init__(
        self,
        objective: Objective,
        network: Network,
        recipe: Recipe,
        regularise: Callable[[Network], None] | None = None,
    ) -> None:
        super().__init__(objective, recipe)
        self.network, self.regularise = network, regularise
        groups = objective.parameter_groups(
            network, learning_rate=recipe.learning_rate, weight_decay=recipe.weight_decay
        )
        for group in groups:
            group["highest_lr"] = group["lr"]
        self.optimizer = _sgd(groups, recipe)
        self.optimizers = [self.optimizer]
        device = next(network.parameters()).device
        self.rates = DeviceRates(self.optimizer, device) if device.type == "cuda" else None

    def set_rate(self, factor: float) -> None:
        super().set_rate(factor)
        if self.rates:
            self.rates.set(factor)
            return
        for group in self.optimizer.param_groups:
            group["lr"] = factor * group["highest_lr"]

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state)
        if self.rates:
            self.rates.bind()

    def step(self, losses: Tensor) -> None:
        """Backpropagate the weighted sum of the losses `(exits,)` and move the weights."""
        self.optimizer.zero_grad()
        self.objective.total(losses).backward()
        if self.rates:
            self.rates.compute()
        if self.regularise:
            self._scale_gradients(inverse=False)
            self.regularise(self.network)
            self._scale_gradients(inverse=True)
        self.optimizer.step()

    def momentum(self) -> dict[str, Tensor]:
        """The momentum buffers by their parameters' names; parameters without a step have none."""
        buffers = {
            name: self.optimizer.state[parameter].get("momentum_buffer")
            for name, parameter in self.network.named_parameters()
            if parameter in self.optimizer.state
        }
        return {name: buffer for name, buffer in buffers.items() if buffer is not None}

    def set_momentum(self, momentum: Mapping[str, Tensor]) -> None:
        """Set the momentum buffers, by their parameters' names; the optimiser uses these very tensors."""
        for name, parameter in self.network.named_parameters():
            if name in momentum:
                self.optimizer.state[parameter]["momentum_buffer"] = momentum[name]

    def _scale_gradients(self, *, inverse: bool) -> None:
        """Multiply every gradient by its group's learning rate relative to the highest, or divide by it.

        A head's gradient is too large by its loss's weight, and its rate too small by the same factor (see
        `Objective.parameter_groups`). With scaled gradients, a regulariser counts as much in a head as in the trunk.
        """
        for group in self.optimizer.param_groups:
            if group["highest_lr"] != self.highest:
                share = group["highest_lr"] / self.highest
                gradients = [parameter.grad for parameter in group["params"] if parameter.grad is not None]
                if gradients:  # none where a segment has no weights
                    torch._foreach_mul_(gradients, 1 / share if inverse else share)


class DeviceRates:
    """The learning rates of an optimiser's groups in a float32 tensor on a GPU, where fused SGD reads them.

    A CUDA graph keeps every number that it was captured with, but reads its tensors anew.
    """

    def __init__(self, optimizer: torch.optim.SGD, device: torch.device) -> None:
        self.optimizer = optimizer
        highest = [group["highest_lr"] for group in optimizer.param_groups]
        self.highest = torch.tensor(highest, dtype=torch.float64, device=device)
        self.factor = torch.ones((), dtype=torch.float64, device=device)
        self.rates = self.highest.float()
        self.bind()

    def bind(self) -> None:
        """Let the optimiser read them; a restored one has the rates of its checkpoint, on the CPU."""
        for group, rate in zip(self.optimizer.param_groups, self.rates.unbind(), strict=True):
            group["lr"] = rate

    def set(self, factor: float) -> None:
        """Set the factor of every rate, before a step."""
        self.factor.fill_(factor)

    def compute(self) -> None:
        """Compute the rates, in the step: the product in float64, rounded once."""
        torch.mul(self.highest, self.factor, out=self.rates)


class Sequential(Update):
    """The authors' order: exit after exit, shallow to deep, each with its own optimiser and momentum.

    All losses come from one forward pass. After the backward pass of an exit, its head and the trunk up to it take a
    step, so backward passes of later exits use old activations but new weights. Autograd forbids this for parameters
    changed in place; so the optimisers hold parameters that share the network's storage but not its version counters.
    Detaching the features instead would be greedy training.

    It takes a backward pass per exit, and a momentum buffer per exit for every shallow weight. Under autocast the
    backward passes would see old casts of the weights, so it requires fp32 (or fp64).
    """

    def __init__(self, objective: Objective, network: Network, recipe: Recipe) -> None:
        super().__init__(objective, recipe)
        exits = network.spec.exits
        trunk = [network.stem, *network.blocks]  # up to exit i: the stem and as many blocks
        self.trunks = [_trained(*trunk[: 1 + exit.block]) for exit in exits]
        self.heads = [_trained(network.heads[str(exit.block)]) for exit in exits]
        self.trunk_optimizers = [_sharing_sgd(trunk, recipe) for trunk in self.trunks]
        self.head_optimizers = [_sharing_sgd(head, recipe) for head in self.heads]
        self.optimizers = [*self.trunk_optimizers, *self.head_optimizers]

    def step(self, losses: Tensor) -> None:
        """For every exit: backpropagate its loss alone, then update its head and the trunk up to it."""
        values = losses.tolist() if self.objective.loss_ratio_rate else []  # a GPU is waited for
        for exit, loss in enumerate(losses.unbind()):
            trunk, head = self.trunks[exit], self.heads[exit]
            gradients = torch.autograd.grad(loss, [*trunk, *head], retain_graph=exit < len(losses) - 1)
            of_trunk, of_head = gradients[: len(trunk)], gradients[len(trunk) :]
            weighted = torch._foreach_mul(of_trunk, self.objective.gammas[exit])
            _step(self.head_optimizers[exit], of_head, self.learning_rate)
            _step(self.trunk_optimizers[exit], weighted, self._trunk_rate(exit, values))

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
    """An optimiser that shares the parameters' storage, and whose steps autograd does not see."""
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
