"""Sparse training: what network slimming and DepGraph do before pruning."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from baselines.coupling import Coupling, prunable, torch_pruning_version
from baselines.technique import CRITERIA
from baselines.torch_pruning_groups import torch_pruning_group
from compress.data import Dataset, Split
from compress.errors import UsageError
from compress.hardware import resolve_device
from compress.networks import Network, code_digest, display_name
from compress.recipes import Recipe
from compress.runs import Run, load
from compress.training import (
    Hook,
    Plan,
    Prepared,
    check_same_data,
    command_line,
    execute,
    objective_of,
    precision_of,
    run_option,
)
from compress.training.distributed import current_world
from compress.training.planning import PLACE, Place

# Strengths of the penalties, as in torch-pruning's benchmark for ResNet-56 on CIFAR-10 (its
# benchmarks/scripts/prune/cifar/bn_pruner.sh and group_pruner.sh, the latter also in its published log).
STRENGTHS = {
    # Network slimming (Liu et al. 2017): an L1 penalty on batch norm's scales, besides weight decay. Its authors use
    # 1e-5 for ResNets, too.
    "bn-scale": 1e-5,
    # DepGraph (Fang et al. 2023): a weight decay for every channel, from the strength for a group's strongest to
    # `WEAKEST` times that for its weakest. It replaces the recipe's weight decay, as in the benchmark.
    "group-norm": 5e-4,
}
WEAKEST = 16


def sparse_trained(
    parent: Run,
    method: str,
    dataset: Dataset,
    recipe: Recipe,
    *,
    epochs: int | None = None,
    seed: int,
    place: Place = PLACE,
) -> Run:
    """Train a reference towards sparse channels, or continue or find that run; return it.

    It starts from the reference's weights and objective and follows the fine-tuning of the reference's recipe. For
    recipe `paper` that is torch-pruning's CIFAR benchmark: 100 epochs from a rate of 0.01, a tenth after 60 and 80.

    Args:
        method: bn-scale or group-norm, as in the pruning that follows.
        epochs: those of the fine-tuning that follows; None: as the recipe has for that.
        seed: random seed of data order and augmentation.

    Raises:
        UsageError: the data set, the recipe or the method does not fit the reference.
    """
    strength = STRENGTHS[method]
    check_same_data(parent, dataset, recipe)
    objective, fine_tuning = objective_of(parent).fine_tuning(), recipe.fine_tuning().changed(epochs=epochs)
    precision = precision_of(place.precision, objective, resolve_device(place.device))
    words = f"prune --arch {parent.record.arch} --ratio 0.5 --method {method} --from".split()
    words.append(run_option(parent, place.runs))
    line = command_line(words, dataset, recipe, seed, precision, epochs=fine_tuning.epochs)
    plan = Plan(
        name=f"{display_name(parent.spec)} sparse {method}",
        kind="train",
        method=f"sparse-{method}",
        objective=objective,
        spec=parent.spec,
        recipe=fine_tuning if method == "bn-scale" else dataclasses.replace(fine_tuning, weight_decay=0.0),
        dataset=dataset,
        seed=seed,
        precision=precision,
        device=resolve_device(place.device),
        runs=place.runs,
        command=f"{line}  # or any other budget: sparse training, at {strength:g}, is what comes first",
        parent=parent,
        code=code_digest(parent.spec),
        request={"regularisation": strength, "torch-pruning": torch_pruning_version()},
    )

    def prepare(_: Split) -> Prepared:
        check_processes(method)
        network = load(parent).to(plan.device)
        return Prepared(network=network, hook=Hook(regularise=regulariser(network, method, strength)))

    return execute(plan, prepare, resume=place.resume)


def check_processes(method: str) -> None:
    """Refuse several processes, in which synchronised batch norms replace those that the penalty is for."""
    if current_world().size > 1:
        raise UsageError(
            f"{method}: its sparse training runs in one process, the pruning after it in several, too: run this "
            "command without torchrun first"
        )


def regulariser(network: Network, method: str, strength: float) -> Callable[[Network], None]:
    """A function that adds the penalty's gradients to those of this network.

    Raises:
        UsageError: the penalty applies to no layer of the network, or does not support one of them.
    """
    if method == "bn-scale":
        if not _scales(network):
            raise UsageError(f"bn-scale: {network.spec.arch} has no batch norm, whose scales would become sparse")
        return lambda network: _add_signs(_scales(network), strength)
    if any(isinstance(module, nn.Conv2d) and 1 < module.groups < module.in_channels for module in network.modules()):
        raise UsageError(
            f"group-norm: its sparse training does not fit grouped convolutions, and {network.spec.arch} has some; "
            f"use {'bn-scale' if _scales(network) else 'l1, without sparse training'}"
        )
    importance = CRITERIA[method].make()
    with prunable(network.spec):
        groups = [torch_pruning_group(network, group) for group in Coupling(network).groups if group.units > 1]

    @torch.no_grad()
    def regularise(_: Network) -> None:
        for group in groups:
            _decay_weak(group, importance(group).sqrt(), strength)

    return regularise


def _decay_weak(group: Any, norms: Tensor, strength: float) -> None:
    """Add the gradient of a weight decay that grows from a group's strongest channel to its weakest."""
    span = norms.max() - norms.min()
    if not span > 0:
        return
    factors = WEAKEST ** ((norms.max() - norms) / span)
    for item in group:
        layer = item.dep.target.module
        if isinstance(layer, nn.LayerNorm) or layer.weight.grad is None:
            continue
        dim = int("_in_channels" in item.dep.handler.__name__)
        factor = layer.weight.new_zeros(layer.weight.shape[dim])
        factor[item.idxs] = factors[item.root_idxs]
        shape = [-1 if axis == dim else 1 for axis in range(layer.weight.dim())]
        layer.weight.grad.add_(layer.weight * factor.view(shape), alpha=strength)


def _scales(network: Network) -> list[nn.Parameter]:
    """The scales of all batch norms."""
    norms = [module for module in network.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
    return [norm.weight for norm in norms if norm.affine]


def _add_signs(scales: Sequence[nn.Parameter], strength: float) -> None:
    """Add the gradient of an L1 penalty."""
    for scale in scales:
        if scale.grad is not None:
            scale.grad.add_(scale.detach().sign(), alpha=strength)
