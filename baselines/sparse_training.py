"""Sparse training: what network slimming and DepGraph do before pruning, by torch-pruning's regularisers."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch_pruning
from torch import Tensor, nn

from baselines.coupling import TORCH_PRUNING, blank, classifiers, prunable
from compress.data import Dataset, Split
from compress.errors import UsageError, nearest
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


class _GroupNormPruner(torch_pruning.pruner.GroupNormPruner):  # type: ignore[misc]  # it has no types
    """torch-pruning's pruner, corrected for groups whose channels have equal norms, as groups of one channel do."""

    def estimate_importance(self, group: Any) -> Tensor:
        """The squared norms; all NaN, which the regulariser skips, where its factors would be 0 / 0."""
        scores: Tensor = super().estimate_importance(group)
        norms = scores.sqrt()
        return scores if norms.max() > norms.min() else torch.full_like(scores, math.nan)


@dataclass(frozen=True, kw_only=True)
class Sparsity:
    """A penalty that trains channels towards zero.

    Attributes:
        pruner: torch-pruning's class whose `regularize` adds the penalty's gradients.
        importance: makes what it takes channels' norms by.
        regularisation: default strength.
        decayed: whether the recipe's weight decay is kept.
    """

    pruner: Callable[..., Any]
    importance: Callable[[], Any]
    regularisation: float
    decayed: bool


# Strengths of torch-pruning's benchmark for ResNet-56 on CIFAR-10 (its benchmarks/scripts/prune/cifar/bn_pruner.sh and
# group_pruner.sh, the latter also in its published log).
SPARSITIES: dict[str, Sparsity] = {
    # Network slimming (Liu et al. 2017): an L1 penalty on batch norm's scales, besides weight decay. Its authors use
    # 1e-5 for ResNets, too.
    "bn-scale": Sparsity(
        pruner=torch_pruning.pruner.BNScalePruner,
        importance=torch_pruning.importance.BNScaleImportance,
        regularisation=1e-5,
        decayed=True,
    ),
    # DepGraph (Fang et al. 2023): a weight decay for every channel, from the strength for a group's strongest to 16
    # times that for its weakest. It replaces the recipe's weight decay, as in the benchmark.
    "group-norm": Sparsity(
        pruner=_GroupNormPruner,
        importance=lambda: torch_pruning.importance.GroupMagnitudeImportance(p=2, normalizer="max"),
        regularisation=5e-4,
        decayed=False,
    ),
}


def sparse_trained(
    parent: Run,
    method: str,
    dataset: Dataset,
    recipe: Recipe,
    *,
    regularisation: float | None = None,
    seed: int | None = None,
    place: Place = PLACE,
) -> Run:
    """Train a reference towards sparse channels, or continue or find that run; return it.

    It starts from the reference's weights and objective and follows the fine-tuning of the reference's recipe. For
    recipe `paper` that is torch-pruning's CIFAR benchmark: 100 epochs from a rate of 0.01, a tenth after 60 and 80.

    Args:
        method: bn-scale or group-norm, as in the pruning that follows.
        regularisation: strength; None: the default of `SPARSITIES`.
        seed: random seed of data order and augmentation; None: the reference's.

    Raises:
        UsageError: an argument is unknown or does not fit the reference.
    """
    if method not in SPARSITIES:
        raise UsageError(f"sparse training for {method!r}: {nearest(method, SPARSITIES)}")
    sparsity = SPARSITIES[method]
    strength = sparsity.regularisation if regularisation is None else regularisation
    if not 0 <= strength < math.inf:
        raise UsageError(f"regularisation {strength:g}: a strength from 0 on, as in {sparsity.regularisation:g}")
    check_same_data(parent, dataset, recipe)
    objective, fine_tuning = objective_of(parent).fine_tuning(), recipe.fine_tuning()
    precision = precision_of(place.precision, objective, resolve_device(place.device))
    seed = parent.record.seed if seed is None else seed
    words = f"prune --arch {parent.record.arch} --ratio 0.5 --method {method} --from".split()
    words.append(run_option(parent, place.runs))
    line = command_line(words, dataset, recipe, seed, precision, epochs=fine_tuning.epochs)
    plan = Plan(
        name=f"{display_name(parent.spec)} sparse {method}",
        kind="train",
        method=f"sparse-{method}",
        objective=objective,
        spec=parent.spec,
        recipe=fine_tuning if sparsity.decayed else dataclasses.replace(fine_tuning, weight_decay=0.0),
        dataset=dataset,
        seed=seed,
        precision=precision,
        device=resolve_device(place.device),
        runs=place.runs,
        command=f"{line}  # or any other budget: sparse training, at {strength:g}, is what comes first",
        parent=parent,
        code=code_digest(parent.spec),
        request={"regularisation": strength, "torch-pruning": TORCH_PRUNING},
    )

    def prepare(_: Split) -> Prepared:
        check_processes(method)
        network = load(parent).to(plan.device)
        return Prepared(network=network, hook=Hook(regularise=regulariser(network, sparsity, strength)))

    return execute(plan, prepare, resume=place.resume)


def check_processes(method: str) -> None:
    """Refuse several processes, in which synchronised batch norms, unknown to torch-pruning, replace the usual ones."""
    if current_world().size > 1:
        raise UsageError(
            f"{method}: its sparse training runs in one process, the pruning after it in several, too: run this "
            "command without torchrun first"
        )


def regulariser(network: Network, sparsity: Sparsity, strength: float) -> Callable[[Network], None]:
    """A function that adds the penalty's gradients to those of this network, which is left in eval mode.

    Raises:
        UsageError: the penalty applies to no layer of the network, or does not support one of them.
    """
    scaled = any(isinstance(module, nn.BatchNorm2d) and module.affine for module in network.modules())
    if sparsity.pruner is torch_pruning.pruner.BNScalePruner:
        if not scaled:
            raise UsageError(f"bn-scale: {network.spec.arch} has no batch norm, whose scales would become sparse")
    elif any(isinstance(module, nn.Conv2d) and 1 < module.groups < module.in_channels for module in network.modules()):
        raise UsageError(
            f"group-norm: torch-pruning's sparse training does not fit grouped convolutions, and {network.spec.arch} "
            f"has some; use {'bn-scale' if scaled else 'l1, without sparse training'}"
        )
    with prunable(network.spec):
        pruner = sparsity.pruner(
            network,
            (blank(network),),
            importance=sparsity.importance(),
            reg=strength,
            ignored_layers=classifiers(network),
            in_channel_groups={},  # these three: the defaults are shared by all pruners, which write into them
            out_channel_groups={},
            num_heads={},
        )

    def regularise(network: Network) -> None:
        with prunable(network.spec):
            pruner.regularize(network)

    return regularise
