"""Importances: how much each channel of a coupled group matters, in torch-pruning's scores.

Two of torch-pruning 1.6.1's are left out as unsound, and a test shows it of each: ``hessian``, whose
`GroupHessianImportance.accumulate_grad` keeps the last sample alone, and ``greg``, whose
`GrowingRegPruner.regularize` adds to a copy of batch norm's gradients and so never regularises batch norm.
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from baselines.coupling import Coupling, Group
from baselines.criteria import IMPORTANCES
from baselines.evidence import Evidence
from baselines.scored import scored_group
from compress.data import normalise
from compress.errors import UsageError, first_line
from compress.network_cost import cost
from compress.networks import Network

# What gradients are taken on: all training images, or so many of them.
IMAGES = 1024
BATCH = 256
# The score of a group's only channel, which stays in any case; fpgm, which compares channels, would have none.
ONLY = torch.ones(1)


def scores(network: Network, method: str, evidence: Evidence) -> list[Tensor]:
    """Every group's scores, fp32 `(channels,)` on the CPU, in the order of the coupling's groups; high is important.

    Channels are those of the layer that writes the group: `(ways, units)`, flattened.

    The network keeps its mode and gets no gradients, and no random number is drawn from the caller's generator.

    Raises:
        UsageError: a group has no scores, or some are not finite: torch-pruning would leave it whole without a word;
            or torch-pruning cannot score it.
    """
    importance = IMPORTANCES[method]
    trial, groups = copy.deepcopy(network), Coupling(network).groups
    if importance.primed:
        evidence.macs += prime(trial, evidence)
    criterion = importance.make()
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(evidence.seed)
        return [
            _scored(criterion, trial, group, method) if group.units > 1 else ONLY.expand(group.ways).clone()
            for group in groups
        ]


def prime(network: Network, evidence: Evidence) -> int:
    """Set the gradients of the objective's mean loss over training images, in eval mode; the MACs that took.

    At most `IMAGES` images, drawn by the evidence's seed, and not augmented. A teacher's share of the objective is
    left out.
    """
    objective, part = dataclasses.replace(evidence.objective, teacher=0.0), evidence.train
    generator = torch.Generator().manual_seed(evidence.seed)
    drawn = torch.randperm(len(part), generator=generator)[:IMAGES]
    indices = drawn.split(BATCH)
    network.eval().zero_grad()
    for chosen, images in zip(indices, part.batches(indices), strict=True):
        logits = network(normalise(images, evidence.normalisation))
        labels = part.labels[chosen.to(part.labels.device)]
        losses = objective.losses(logits, labels, evidence.label_smoothing)
        (objective.total(losses) * (len(chosen) / len(drawn))).backward()
    return 3 * cost(network).macs * len(drawn)


def _scored(criterion: Callable[[Any], Tensor | None], network: Network, group: Group, method: str) -> Tensor:
    """The scores of a group, checked."""
    channels = group.units * group.ways
    writer = group.writers[0][0].rpartition(".")[0]
    where = f"{method} cannot score the {channels} channels of the group of {writer}"
    scored = scored_group(network, group)
    try:
        scores = criterion(scored)
    except (RuntimeError, IndexError) as error:  # as fpgm on grouped convolutions
        raise UsageError(f"{where}: torch-pruning fails ({first_line(error)}){_instead(scored)}") from error
    if scores is None:
        raise UsageError(f"{where}: it has no layer that {method} looks at{_instead(scored)}")
    if scores.shape != (channels,):
        raise UsageError(f"{where}: torch-pruning gives scores of the shape {tuple(scores.shape)}{_instead(scored)}")
    if not torch.isfinite(scores).all():
        what = "weights or gradients" if IMPORTANCES[method].primed else "weights"
        raise UsageError(f"{where}: not all scores are finite, as its {what} are all zero, or not finite themselves")
    return scores.float().cpu()


def _instead(group: Any) -> str:
    """Which of the plainest criteria can score the group."""
    for method in ("l1", "random"):
        try:
            if IMPORTANCES[method].make()(group) is not None:
                return f"; {method} can: --method {method}"
        except (RuntimeError, IndexError):
            continue
    return ""
