"""MW-BP as the authors describe it, with every optimiser of theirs: slow, literal, and written from METHOD.md alone.

One backward pass and one SGD an exit over the trunk, one SGD a head. All gradients of a step, weight decay's too, are
taken at the same weights ("simultaneous"). It shares no code with `compress.training.objectives`, which it checks.
"""

from torch import Tensor, nn
from torch.nn import functional
from torch.optim import SGD

from compress.networks import Network


def gammas(depths: list[int]) -> list[float]:
    """Weights of the losses, from the depths of the *auxiliary* exits: (d_i/d_last)^2, 0.01 at least; the final 1."""
    return [max(0.01, (depth / depths[-1]) ** 2) for depth in depths] + [1.0]


def lambdas(weights: list[float]) -> list[float]:
    """What divides exit i's rate: the sum of gamma_j over auxiliary exits j >= i; 1 for the final exit."""
    auxiliary = weights[:-1]
    return [sum(auxiliary[i:]) for i in range(len(auxiliary))] + [1.0]


class NaiveMwbp:
    """Trains a network in place with K+1 optimisers of the trunk (K auxiliary exits and the final one).

    Every trunk optimiser owns a copy of the segments it steps. Before its step the copy is set to the network's
    weights, so that no optimiser sees what another has done; the displacements are then added up.
    """

    def __init__(self, network: Network, *, rate: float, momentum: float, nesterov: bool, weight_decay: float) -> None:
        self.network = network
        blocks = [exit.block for exit in network.spec.exits]
        self.gammas = gammas([2 * block + 1 for block in blocks[:-1]])
        self.lambdas = lambdas(self.gammas)
        self.rate = rate
        self.trunks: list[list[nn.Parameter]] = []
        self.copies: list[list[nn.Parameter]] = []
        self.trunk_optimisers: list[SGD] = []
        self.heads: list[list[nn.Parameter]] = []
        self.head_optimisers: list[SGD] = []
        for block, divisor in zip(blocks, self.lambdas, strict=True):
            trunk = [*network.stem.parameters()]
            for number in range(block):
                trunk += network.blocks[number].parameters()
            copies = [nn.Parameter(parameter.detach().clone()) for parameter in trunk]
            head = list(network.heads[str(block)].parameters())
            self.trunks.append(trunk)
            self.copies.append(copies)
            self.heads.append(head)
            self.trunk_optimisers.append(
                SGD(copies, lr=rate / divisor, momentum=momentum, nesterov=nesterov, weight_decay=weight_decay)
            )
            self.head_optimisers.append(
                SGD(head, lr=rate, momentum=momentum, nesterov=nesterov, weight_decay=weight_decay)
            )

    def scale_rate(self, factor: float) -> None:
        """Set every optimiser's rate to `factor` of what it started with."""
        for optimiser, divisor in zip(self.trunk_optimisers, self.lambdas, strict=True):
            optimiser.param_groups[0]["lr"] = factor * self.rate / divisor
        for optimiser in self.head_optimisers:
            optimiser.param_groups[0]["lr"] = factor * self.rate

    def step(self, images: Tensor, labels: Tensor) -> list[float]:
        """One forward, a backward an exit, then all steps; returns the loss of every exit, shallow to deep."""
        losses = [functional.cross_entropy(logits, labels) for logits in self.network(images)]
        gradients = [self._gradients(i, loss) for i, loss in enumerate(losses)]
        before = [[parameter.detach().clone() for parameter in trunk] for trunk in self.trunks]
        for i, (of_trunk, of_head) in enumerate(gradients):
            self._step_head(i, of_head)
            self._step_trunk(i, before[i], of_trunk)
        return [loss.item() for loss in losses]

    def _gradients(self, i: int, loss: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        """Gradients of exit i's loss alone: the trunk's times gamma_i, and the head's as they are."""
        self.network.zero_grad(set_to_none=True)
        loss.backward(retain_graph=True)
        of_trunk = [_gradient(parameter) * self.gammas[i] for parameter in self.trunks[i]]
        of_head = [_gradient(parameter) for parameter in self.heads[i]]
        reached = {id(parameter) for parameter in [*self.trunks[i], *self.heads[i]]}
        beyond = [p for p in self.network.parameters() if id(p) not in reached and p.grad is not None]
        assert not beyond, "a loss has a gradient beyond its own exit"
        return of_trunk, of_head

    def _step_head(self, i: int, gradients: list[Tensor]) -> None:
        for parameter, gradient in zip(self.heads[i], gradients, strict=True):
            parameter.grad = gradient
        self.head_optimisers[i].step()

    def _step_trunk(self, i: int, before: list[Tensor], gradients: list[Tensor]) -> None:
        for copy, start, gradient in zip(self.copies[i], before, gradients, strict=True):
            copy.data.copy_(start)
            copy.grad = gradient
        self.trunk_optimisers[i].step()
        for parameter, copy, start in zip(self.trunks[i], self.copies[i], before, strict=True):
            parameter.data.add_(copy.data - start)


def _gradient(parameter: nn.Parameter) -> Tensor:
    assert parameter.grad is not None
    return parameter.grad.clone()
