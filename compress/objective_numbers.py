"""The numbers of an objective, as a record holds them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from compress.schema import Meta

Share = Annotated[float, Meta(ge=0, le=1)]
# Options of exit training, which JSON has only where they are used: ids are digests of it.
OPTIONAL = ("ensemble_teacher", "annealing", "auxiliary_weight")


@dataclass(frozen=True, kw_only=True)
class ObjectiveNumbers:
    """All numbers that determine gradients from logits; `compress.training.Objective` computes with them.

    Attributes:
        gammas, lambdas: for every exit, shallow to deep: factor on the gradient of its loss in the trunk, and divisor
            of its learning rate there.
        segments: last block of every trunk segment, ascending to the network's last block; usually the exits' blocks.
        decay_factors: factor on every segment's weight decay in the simultaneous update.
        gradient_factors: factor on every segment's gradient, weight decay excluded.
        update: simultaneous (one backward pass) or sequential (the authors' order).
        loss_ratio_rate: sequential update only: AuxNet's lower rate for exits whose loss is far above the last exit's.
        frozen_trunk: train the heads of auxiliary exits alone.
        self_distillation, teacher: shares of each loss that distil the last exit (into earlier exits) and another
            network (into all exits), at `temperature`.
        ensemble_teacher: share of each loss that distils the mean of all exits' logits, ramped in over the first fifth
            of the training.
        annealing: when the trunk hears less of auxiliary losses: none, last-third (from all to nothing over the last
            third of the training) or first-third (from nothing to all over the first).
        auxiliary_weight: factor on the losses of auxiliary exits in the trunk, for all of the training.
    """

    gammas: tuple[float, ...]
    lambdas: tuple[float, ...]
    segments: tuple[int, ...]
    decay_factors: tuple[float, ...]
    gradient_factors: tuple[float, ...]
    update: Literal["simultaneous", "sequential"] = "simultaneous"
    loss_ratio_rate: bool = False
    frozen_trunk: bool = False
    self_distillation: Share = 0.0
    teacher: Share = 0.0
    temperature: float = 4.0
    ensemble_teacher: Share = 0.0
    annealing: Literal["none", "last-third", "first-third"] = "none"
    auxiliary_weight: Annotated[float, Meta(gt=0, le=1)] = 1.0
