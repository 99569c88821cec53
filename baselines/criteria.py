"""Criteria: scores of how much each channel of a coupled group matters, by torch-pruning."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from baselines.coupling import Coupling, Group
from baselines.scoring_data import ScoringData
from baselines.technique import CRITERIA
from baselines.torch_pruning_groups import torch_pruning_group
from compress.data import normalise
from compress.errors import UsageError, first_line
from compress.network_cost import cost
from compress.networks import Network

# Greatest number of training images that gradients are taken on, and images in a batch.
IMAGES = 1024
BATCH = 256
# The score of a group's only channel, which stays in any case; fpgm, which compares channels, would have none.
ONLY = torch.ones(1)


def channel_scores(network: Network, method: str, scoring: ScoringData) -> list[Tensor]:
    """Score every group of the coupling, in its order: fp32 `(channels,)` on the CPU, high for important channels.

    Channels are those of the layer that writes the group: `(ways, units)`, flattened. The network keeps its mode and
    gets no gradients, and the caller's random generator is left as it is.

    Raises:
        UsageError: torch-pruning cannot score a group, or gives it no scores or infinite ones; by itself it would leave
            such a group whole without a word.
    """
    criterion = CRITERIA[method]
    trial, groups = copy.deepcopy(network), Coupling(network).groups
    if criterion.needs_gradients:
        scoring.macs += take_gradients(trial, scoring)
    importance = criterion.make()
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(scoring.seed)
        return [
            _group_scores(importance, trial, group, method) if group.units > 1 else ONLY.expand(group.ways).clone()
            for group in groups
        ]


def take_gradients(network: Network, scoring: ScoringData) -> int:
    """Set the gradients of the objective's mean loss over training images, in eval mode; return the MACs spent.

    At most `IMAGES` images are drawn by the seed, and not augmented. A teacher's share of the objective is left out.
    """
    objective, part = dataclasses.replace(scoring.objective, teacher=0.0), scoring.train
    generator = torch.Generator().manual_seed(scoring.seed)
    drawn = torch.randperm(len(part), generator=generator)[:IMAGES]
    indices = drawn.split(BATCH)
    network.eval().zero_grad()
    for chosen, images in zip(indices, part.batches(indices), strict=True):
        logits = network(normalise(images, scoring.normalisation))
        labels = part.labels[chosen.to(part.labels.device)]
        losses = objective.losses(logits, labels, scoring.label_smoothing)
        (objective.total(losses) * (len(chosen) / len(drawn))).backward()
    return 3 * cost(network).macs * len(drawn)


def _group_scores(importance: Callable[[Any], Tensor | None], network: Network, group: Group, method: str) -> Tensor:
    """The scores of one group, checked."""
    channels = group.units * group.ways
    writer = group.writers[0][0].rpartition(".")[0]
    where = f"{method} cannot score the {channels} channels of the group of {writer}"
    instead = "" if method == "l1" else "; l1 can: --method l1"
    try:
        scores = importance(torch_pruning_group(network, group))
    except (RuntimeError, IndexError) as error:  # as fpgm on grouped convolutions
        raise UsageError(f"{where}: torch-pruning fails ({first_line(error)}){instead}") from error
    if scores is None:
        raise UsageError(f"{where}: it has no layer that {method} looks at{instead}")
    if scores.shape != (channels,):
        raise UsageError(f"{where}: torch-pruning gives scores of the shape {tuple(scores.shape)}{instead}")
    if not torch.isfinite(scores).all():
        what = "weights or gradients" if CRITERIA[method].needs_gradients else "weights"
        raise UsageError(f"{where}: not all scores are finite, as its {what} are all zero, or not finite themselves")
    return scores.float().cpu()
