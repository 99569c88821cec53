"""Muon for convolutions: their kernels move by orthogonalised matrices, everything else by SGD.

Muon (Jordan et al. 2024, kellerjordan.github.io/posts/muon) replaces the momentum of a weight matrix by the nearest
matrix with orthonormal rows or columns. torch's takes matrices alone: of a kernel `(out, in, k, k)` the matrix
`(out, k*k*in)`. It iterates in bf16 whatever the precision of the training. The update does not depend on the
gradient's size: of exits' weights in the loss only their ratios count, where a kernel has gradients from several.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from compress.errors import UsageError
from compress.networks import Network
from compress.recipes import Recipe
from compress.training.objectives import Objective
from compress.training.updates import Simultaneous

# Of the recipe's learning rate: 0.02 at 0.2, as Muon's author has it for language models. His network for CIFAR
# (airbench94_muon) takes larger steps, of kernels that are normalised anew after each.
SHARE = 0.1
MOMENTUM = 0.95


class SimultaneousMuon(Simultaneous):
    """All gradients at the same weights; kernels of convolutions behind the first by Muon, the rest by SGD.

    Grouped convolutions, whose kernels are no matrices, go by SGD. Weight decay shrinks a kernel per step as much as
    SGD with momentum would in the long run.

    Raises:
        UsageError: nothing that is trained is for Muon.
    """

    def __init__(self, objective: Objective, network: Network, recipe: Recipe) -> None:
        super().__init__(objective, network, recipe)
        convolutions = [module for module in network.modules() if isinstance(module, nn.Conv2d)]
        hidden = {id(module.weight) for module in convolutions[1:] if module.groups == 1}
        rate, groups = SHARE * recipe.learning_rate, []
        self.kernels: list[tuple[nn.Parameter, nn.Parameter]] = []  # with the matrix that shares its memory
        for group in self.optimizer.param_groups:
            own = [parameter for parameter in group["params"] if id(parameter) in hidden]
            group["params"] = [parameter for parameter in group["params"] if id(parameter) not in hidden]
            matrices = [nn.Parameter(_matrix(parameter.data)) for parameter in own]
            assert all(matrix.data_ptr() == each.data_ptr() for matrix, each in zip(matrices, own, strict=True))
            self.kernels += zip(own, matrices, strict=True)
            decay = group["highest_lr"] * group["weight_decay"] / (1 - recipe.momentum) / rate
            groups += [{"params": matrices, "weight_decay": decay}] if matrices else []
        if not groups:
            raise UsageError(f"optimizer muon: {network.spec.arch} has no convolution behind its first to be trained")
        self.muon = torch.optim.Muon(groups, lr=rate, momentum=MOMENTUM, nesterov=recipe.nesterov)
        self.optimizers, self.rate = [self.optimizer, self.muon], rate

    def set_rate(self, factor: float) -> None:
        super().set_rate(factor)
        for group in self.muon.param_groups:
            group["lr"] = factor * self.rate

    def step(self, losses: Tensor) -> None:
        for kernel, _ in self.kernels:
            kernel.grad = None
        super().step(losses)
        for kernel, matrix in self.kernels:
            matrix.grad = None if kernel.grad is None else _matrix(kernel.grad)
        self.muon.step()


def _matrix(kernel: Tensor) -> Tensor:
    """A kernel `(out, in, k, k)` as a matrix `(out, k*k*in)`: of its own memory if channels are last in it."""
    return kernel.permute(0, 2, 3, 1).flatten(1)
