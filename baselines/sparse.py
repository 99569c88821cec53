"""Sparse training: what network slimming and DepGraph do before they prune, by torch-pruning's own regularisers."""

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
    """torch-pruning's, but for groups whose channels are all alike, as the only one of a group is."""

    def estimate_importance(self, group: Any) -> Tensor:
        """The scores, squared norms; all NaN, which the regulariser passes over, where its factors would be 0 / 0."""
        scores: Tensor = super().estimate_importance(group)
        norms = scores.sqrt()
        return scores if norms.max() > norms.min() else torch.full_like(scores, math.nan)


@dataclass(frozen=True, kw_only=True)
class Sparsity:
    """A way to train channels towards zero.

    Attributes:
        pruner: torch-pruning's, whose `regularize` adds to the gradients.
        importance: what it takes the norms of channels by.
        regularisation: the usual strength.
        decayed: whether the recipe's weight decay stays.
    """

    pruner: Callable[..., Any]
    importance: Callable[[], Any]
    regularisation: float
    decayed: bool


# The strengths are those of torch-pruning's benchmark for ResNet-56 on CIFAR-10 (its benchmarks/scripts/prune/cifar/
# bn_pruner.sh and group_pruner.sh, the latter also in the log that it publishes).
SPARSITIES: dict[str, Sparsity] = {
    # Network slimming (Liu et al. 2017): an L1 penalty on the scales of batch norm; 1e-5 is theirs for ResNets, too,
    # and they decay weights besides.
    "bn-scale": Sparsity(
        pruner=torch_pruning.pruner.BNScalePruner,
        importance=torch_pruning.importance.BNScaleImportance,
        regularisation=1e-5,
        decayed=True,
    ),
    # DepGraph (Fang et al. 2023): a weight decay of its own for every coupled channel, from the given one for a group's
    # strongest to 16 times as much for its weakest, instead of the recipe's, as in the benchmark.
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
    """The finished run of a reference trained on, towards sparse channels: trained now, continued, or found finished.

    It starts from the reference's weights and goes on by its objective, for the epochs, at the rate and milestones of
    the recipe's fine-tuning. For recipe `paper` these are those of torch-pruning's CIFAR benchmark: 100 epochs from
    0.01, a tenth at 60 and 80. Its cost includes the reference's, so what is pruned from it bears both.

    Args:
        parent: the reference.
        method: bn-scale or group-norm, as the pruning that is to follow.
        recipe: the whole one, of which the fine-tuning is taken.
        regularisation: strength; None: the benchmark's, see `SPARSITIES`.
        seed: random seed of data order and augmentation; None: the reference's.
        place: where and how the run is computed, and where it is kept.

    Raises:
        UsageError: an argument is unknown or does not fit the reference.
    """
    if method not in SPARSITIES:
        raise UsageError(f"sparse training for {method!r}: {nearest(method, SPARSITIES)}")
    sparsity, device = SPARSITIES[method], resolve_device(place.device)
    strength = sparsity.regularisation if regularisation is None else regularisation
    if not 0 <= strength < math.inf:
        raise UsageError(f"regularisation {strength:g}: a strength from 0 on, as in {sparsity.regularisation:g}")
    check_same_data(parent, dataset, recipe)
    fine_tuning = recipe.fine_tuning()
    objective = objective_of(parent).fine_tuning()
    used = precision_of(place.precision, objective, device)
    seed = parent.record.seed if seed is None else seed
    command = ["prune", "--arch", parent.record.arch, "--ratio", "0.5", "--method", method]
    command += ["--from", run_option(parent, place.runs)]
    line = command_line(command, dataset, recipe, seed, used, epochs=fine_tuning.epochs)
    plan = Plan(
        name=f"{display_name(parent.spec)} sparse {method}",
        kind="train",
        method=f"sparse-{method}",
        objective=objective,
        spec=parent.spec,
        recipe=fine_tuning if sparsity.decayed else dataclasses.replace(fine_tuning, weight_decay=0.0),
        dataset=dataset,
        seed=seed,
        precision=used,
        device=device,
        runs=place.runs,
        command=f"{line}  # or any other budget: sparse training, at {strength:g}, is what comes first",
        parent=parent,
        code=code_digest(parent.spec),
        request={"regularisation": strength, "torch-pruning": TORCH_PRUNING},
    )

    def prepare(_: Split) -> Prepared:
        check_processes(method)
        return _prepared(load(parent).to(plan.device), sparsity, strength)

    return execute(plan, prepare, resume=place.resume)


def check_processes(method: str) -> None:
    """Refuse several processes, where other layers stand for the batch norms that torch-pruning knows."""
    if current_world().size > 1:
        raise UsageError(
            f"{method}: its sparse training runs in one process, the pruning after it in several, too: run this "
            "command without torchrun first"
        )


def _prepared(network: Network, sparsity: Sparsity, strength: float) -> Prepared:
    return Prepared(network=network, hook=Hook(regularise=regulariser(network, sparsity, strength)))


def regulariser(network: Network, sparsity: Sparsity, strength: float) -> Callable[[Network], None]:
    """What adds the penalty's gradient to those of this network, which it leaves in eval mode.

    Raises:
        UsageError: the net has no layer that the penalty is for, or one that torch-pruning's does not fit.
    """
    scaled = any(isinstance(module, nn.BatchNorm2d) and module.affine for module in network.modules())
    if sparsity.pruner is torch_pruning.pruner.BNScalePruner:
        if not scaled:
            raise UsageError(f"bn-scale: {network.spec.arch} has no batch norm, whose scales it is that become sparse")
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
