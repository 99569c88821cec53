"""Objectives: the loss that a training minimises, and the weight decay of each part of the network.

Multi-way backpropagation (MW-BP, arXiv 1611.01773) as its authors run it, with K auxiliary exits, takes K+1 backward
passes and K+1 optimisers a step. With all gradients taken at the same weights, SGD with momentum (Nesterov's too) is
linear in the gradient, and the optimisers collapse into one SGD and one backward pass of

    sum_i (gamma_i / lambda_i) L_i,   with weight decay wd * c_j on trunk segment j,   c_j = sum_{i >= j} 1 / lambda_i,

where every head keeps the full gradient of its own loss, the full rate and the plain decay. Plain backpropagation (BP)
is the case of no auxiliary exit.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from compress.documents import fitted
from compress.errors import UsageError
from compress.hardware import Precision, resolve_precision
from compress.network_cost import cost, exit_costs, part_costs
from compress.networks import Network, Spec
from compress.objective_numbers import OPTIONAL, ObjectiveNumbers

RAMP = 0.2  # share of the training over which the exits' ensemble becomes a teacher: at first it knows nothing
PERIOD = 1 / 3  # share of the training over which auxiliary losses are annealed


@dataclass(frozen=True, kw_only=True)
class Objective(ObjectiveNumbers):
    """The loss and the weight decay of every part, as the numbers say; round-trips through JSON."""

    @property
    def loss_weights(self) -> tuple[float, ...]:
        """The weight of every exit's loss in the trunk: gamma / lambda, and of auxiliary ones their common factor."""
        *auxiliary, last = (gamma / divisor for gamma, divisor in zip(self.gammas, self.lambdas, strict=True))
        return (*(self.auxiliary_weight * weight for weight in auxiliary), last)

    def to_json(self) -> dict[str, Any]:
        """The fields as JSON-ready data."""
        usual = {field.name: field.default for field in dataclasses.fields(self)}
        return {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in dataclasses.asdict(self).items()
            if name not in OPTIONAL or value != usual[name]
        }

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Objective:
        """Read what `to_json` returned."""
        return fitted(data, cls, "objective")

    def fine_tuning(self) -> Objective:
        """The objective for fine-tuning: without teachers or annealing, and with nothing frozen."""
        return dataclasses.replace(self, teacher=0.0, ensemble_teacher=0.0, frozen_trunk=False, annealing="none")

    def in_equilibrium(self) -> Objective:
        """A copy in which every segment follows the mean, not the sum, of its exits' gradients."""
        exits = len(self.gammas)
        return dataclasses.replace(self, gradient_factors=tuple(1 / (exits - segment) for segment in range(exits)))

    def fitted(self, before: Spec, after: Spec) -> Objective:
        """Adapt the objective of a network to a network made from it by removing blocks or exits.

        Remaining exits, shallow to deep, keep their gammas. MW-BP's gammas of auxiliary exits become relative to the
        last of these again, and lambdas follow. Segments that ended at exits still do; others keep their share of the
        blocks.
        """
        old, new = [exit.block for exit in before.exits], [exit.block for exit in after.exits]
        if (old, len(before.blocks)) == (new, len(after.blocks)):
            return self
        if len(old) == len(new):
            share = len(after.blocks) / len(before.blocks)
            scaled = tuple(max(1, round(share * end)) for end in self.segments)
            return dataclasses.replace(self, segments=tuple(new) if self.segments == tuple(old) else scaled)
        auxiliary, plain = self.gammas[: len(new) - 1], all(divisor == 1 for divisor in self.lambdas)
        gammas = [*(gamma / (1 if plain else auxiliary[-1]) for gamma in auxiliary), self.gammas[-1]]
        fewer = weighted(after, gammas, uniform_decay=plain)
        if any(factor != 1 for factor in self.gradient_factors):
            fewer = fewer.in_equilibrium()
        names = ("update", "loss_ratio_rate", "frozen_trunk", "self_distillation", "teacher", "temperature", *OPTIONAL)
        kept = {name: getattr(self, name) for name in names}
        return dataclasses.replace(fewer, **kept)

    def losses(
        self,
        logits: Sequence[Tensor],
        labels: Tensor,
        label_smoothing: float = 0.0,
        taught: Tensor | None = None,
        class_weights: Tensor | None = None,
        progress: Tensor | None = None,
    ) -> Tensor:
        """The unweighted loss of every exit, `(exits,)`, in fp32 at least: cross-entropy and what is distilled.

        `taught` are the teacher's logits `(N, classes)`. `class_weights` `(classes,)` weigh the images in the
        cross-entropy alone, whose sum is divided by their number. Divided by the sum of their weights, which differs
        between batches and processes, rare classes would count least in the batches that have most of them.
        `progress`, 0-dim, is the share of the training that is done; None: all of it.
        """
        stacked = torch.stack(list(logits))  # (exits, N, classes)
        stacked = stacked.to(torch.promote_types(stacked.dtype, torch.float32))
        hard = torch.stack([_cross_entropy(exit, labels, label_smoothing, class_weights) for exit in stacked])
        # The last exit has no deeper one to learn from.
        shares = [self.self_distillation] * (len(stacked) - 1) + [0.0]
        losses = hard * _constants(tuple(1 - share - self.teacher for share in shares), hard.dtype, hard.device)
        if self.self_distillation and len(stacked) > 1:
            losses = losses + self._distilled(stacked, stacked[-1].detach()) * _constants(
                tuple(shares), hard.dtype, hard.device
            )
        if self.teacher:
            assert taught is not None
            losses = losses + self._distilled(stacked, taught.to(stacked.dtype)) * self.teacher
        if self.ensemble_teacher and len(stacked) > 1:  # one exit would be its own teacher
            heard = self.ensemble_teacher * (1.0 if progress is None else (progress / RAMP).clamp(max=1))
            losses = losses + (self._distilled(stacked, stacked.detach().mean(dim=0)) - hard) * heard
        return losses

    def trunk_share(self, progress: Tensor) -> Tensor | None:
        """The share of auxiliary losses' gradients that the trunk gets, 0-dim; None where it always gets all.

        Heads of their own always get all of theirs: while the trunk learns for the last exit alone, they follow it.

        Args:
            progress: share of the training that is done, 0-dim.
        """
        if self.annealing == "none":
            return None
        return ((1 - progress if self.annealing == "last-third" else progress) / PERIOD).clamp(max=1)

    def total(self, losses: Tensor) -> Tensor:
        """The weighted sum of the losses `(exits,)`."""
        return losses @ _constants(self.loss_weights, losses.dtype, losses.device)

    def parameter_groups(self, network: Network, *, learning_rate: float, weight_decay: float) -> list[dict[str, Any]]:
        """SGD's parameter groups: one per trunk segment, one per head.

        The total loss gives a head w times the gradient of its own loss. A learning rate divided by w and a decay
        multiplied by w undo exactly that, with any momentum, since the buffer holds w times as much. Likewise, a factor
        on a segment's gradient is a factor on its rate and the inverse factor on its decay.
        """
        heads = [
            {"params": list(head.parameters()), "lr": learning_rate / weight, "weight_decay": weight_decay * weight}
            for head, weight in zip(network.heads.values(), self.loss_weights, strict=True)
        ]
        if self.frozen_trunk:
            return heads[:-1]
        segments = [
            {
                "params": list(segment.parameters()),
                "lr": learning_rate * gradient,
                "weight_decay": weight_decay * decay / gradient,
            }
            for segment, decay, gradient in zip(
                network.segments(self.segments), self.decay_factors, self.gradient_factors, strict=True
            )
        ]
        return segments + heads

    def macs_an_image(self, network: Network, teacher: Network | None = None) -> int:
        """Training MACs per image: forward passes count once, backward passes twice; the teacher's are included."""
        forward = cost(network).macs + (cost(teacher).macs if teacher else 0)
        if self.update == "sequential":
            return forward + 2 * sum(exit.macs for exit in exit_costs(network))
        if self.frozen_trunk:
            parts = part_costs(network)
            return forward + 2 * sum(parts[f"heads.{exit.block}"].macs for exit in network.spec.exits[:-1])
        return forward + 2 * cost(network).macs

    def _distilled(self, stacked: Tensor, taught: Tensor) -> Tensor:
        """T^2 times the Kullback-Leibler divergence from a teacher to every exit, `(exits,)` (Hinton et al. 2015)."""
        target = (taught / self.temperature).log_softmax(dim=-1)
        own = (stacked / self.temperature).log_softmax(dim=-1)  # (exits, N, classes)
        divergence = functional.kl_div(own, target.expand_as(own), log_target=True, reduction="none")
        return self.temperature**2 * divergence.sum(dim=-1).mean(dim=-1)


def bp(spec: Spec) -> Objective:
    """Backpropagation of every exit's loss with weight one and the plain decay: BP, or deep supervision."""
    return weighted(spec, [1.0] * len(spec.exits), uniform_decay=True)


def mwbp(spec: Spec, gammas: Sequence[float] | None = None) -> Objective:
    """Multi-way backpropagation; `gammas` of auxiliary exits default to the authors'.

    For auxiliary exit i at depth d_i: gamma_i = max(0.01, (d_i / d_last)^2), relative to the last auxiliary exit;
    lambda_i = sum of gamma over auxiliary exits from i on; for the final exit both are 1.
    """
    return weighted(spec, [*(depth_squared(spec) if gammas is None else gammas), 1.0])


def weighted(spec: Spec, gammas: Sequence[float], *, uniform_decay: bool = False) -> Objective:
    """The objective with these gammas, one per exit, and MW-BP's lambdas and decay; or plain decay and lambdas of 1."""
    lambdas = [1.0] * len(gammas) if uniform_decay else [*_sums_from(gammas[:-1]), 1.0]
    decay = [1.0] * len(gammas) if uniform_decay else _sums_from([1 / value for value in lambdas])
    return Objective(
        gammas=tuple(gammas),
        lambdas=tuple(lambdas),
        segments=tuple(exit.block for exit in spec.exits),
        decay_factors=tuple(decay),
        gradient_factors=(1.0,) * len(gammas),
    )


MINIMUM_GAMMA = 0.01


def depth_squared(spec: Spec) -> list[float]:
    """The authors' gammas of auxiliary exits: the squared share of the last auxiliary exit's depth, 0.01 at least."""
    auxiliary = spec.depths[:-1]
    return [max(MINIMUM_GAMMA, (depth / auxiliary[-1]) ** 2) for depth in auxiliary]


@cache
def _constants(values: tuple[float, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
    """Numbers as a tensor on the device, copied there once and kept, as a CUDA graph can copy nothing from the host."""
    with torch.inference_mode(mode=False):
        return torch.tensor(values, dtype=dtype, device=device)


def _cross_entropy(logits: Tensor, labels: Tensor, label_smoothing: float, class_weights: Tensor | None) -> Tensor:
    """The mean over the images, each weighted by its class."""
    if class_weights is None:
        return functional.cross_entropy(logits, labels, label_smoothing=label_smoothing)
    each = functional.cross_entropy(logits, labels, label_smoothing=label_smoothing, reduction="none")
    return (each * class_weights[labels]).mean()


def _sums_from(values: Sequence[float]) -> list[float]:
    """For every position the sum of the values from there to the end."""
    return list(accumulate(reversed(values)))[::-1]


def precision_of(precision: str, objective: Objective, device: torch.device) -> Precision:
    """The precision to train in, see `resolve_precision`; the sequential update requires fp32.

    Raises:
        UsageError: no such precision, or not for this objective.
    """
    if objective.update != "sequential":
        return resolve_precision(precision, device)
    if precision not in ("auto", "fp32"):
        raise UsageError(
            f"precision {precision}: the sequential update needs fp32, since backward passes would see old bf16 "
            "copies of the weights; leave out --precision, or use --update simultaneous"
        )
    return "fp32"
