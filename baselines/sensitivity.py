"""Sensitivity: the rise of the loss as each group alone is narrowed, and the removal order that follows."""

from __future__ import annotations

import dataclasses
import heapq
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from scipy.optimize import isotonic_regression

from baselines.channels import Channel
from baselines.removal_order import Move, Removed, Size
from baselines.scoring_data import ScoringData
from compress.console import console, duration
from compress.errors import UsageError
from compress.network_cost import cost
from compress.networks import Network
from compress.training.batchnorm import reestimate
from compress.training.evaluation import cross_entropies, predict

# Shares of a group's channels to measure with, the last of which leaves one channel. The loss rises gently at first and
# steeply at the end, so straight lines between these are near enough, and four networks a group (ResNet-110 has 57
# groups) take minutes, not hours.
KEPT_SHARES = (0.75, 0.5, 0.25, 0.0)
# Training images to re-estimate batch norm from: a quarter of the usual number, as this takes most of the time.
IMAGES = 500

Prune = Callable[[Network, list[Channel]], Network]


@dataclass(frozen=True, kw_only=True)
class Sensitivity:
    """Measured losses of narrowed networks, which serve every budget of the same network.

    Attributes:
        sizes: number of channels of every group.
        kept: widths at which every group was measured, wide to narrow; empty for groups of one channel.
        losses: loss (nats) at each of these widths, with all other groups whole; of the first groups, as far as they
            are measured.
        whole: loss of the unpruned network.

    Raises:
        UsageError: the lengths do not fit together.
    """

    sizes: tuple[int, ...]
    kept: tuple[tuple[int, ...], ...]
    losses: tuple[tuple[float, ...], ...]
    whole: float

    @property
    def complete(self) -> bool:
        """Whether all groups are measured."""
        return len(self.losses) == len(self.sizes)

    def __post_init__(self) -> None:
        widths = [len(kept) for kept in self.kept]
        narrower = all(0 < width < size for size, kept in zip(self.sizes, self.kept, strict=False) for width in kept)
        if len(widths) != len(self.sizes) or not narrower or [*map(len, self.losses)] != widths[: len(self.losses)]:
            raise UsageError("kept and losses are not those of the sizes")

    def rises(self, group: int) -> list[float]:
        """The expected rise of the loss (nats) without 0, 1, ... channels of a group, up to all but one.

        Interpolates linearly between measured rises, after isotonic regression; a loss below the unpruned network's
        counts as no rise.
        """
        measured = [0.0, *(max(0.0, loss - self.whole) for loss in self.losses[group])]
        removed = [0, *(self.sizes[group] - kept for kept in self.kept[group])]
        rising = isotonic_regression(measured).x
        return [float(rise) for rise in np.interp(range(self.sizes[group]), removed, rising)]


def measure(
    network: Network,
    orders: Sequence[Sequence[int]],
    scoring: ScoringData,
    prune: Prune,
    *,
    begun: Sensitivity | None = None,
    keep: Callable[[Sensitivity], None] = lambda _: None,
) -> Sensitivity:
    """Measure the sensitivity of every group of a network, narrowed alone, with batch norm re-estimated every time.

    The loss is the cross-entropy on the judging images, summed over exits with the objective's weights, without label
    smoothing and distillation.

    Args:
        orders: channels of every group in ascending importance.
        prune: returns a copy of the network without the given channels.
        begun: the last value that an interrupted measurement gave to `keep`; its groups are not measured again.
        keep: called after every group with what is measured so far.

    Raises:
        UsageError: a loss is not finite.
    """
    sizes = tuple(len(order) for order in orders)
    kept = tuple(_widths(size) for size in sizes)
    if begun is None or (begun.sizes, begun.kept) != (sizes, kept):
        started = time.monotonic()
        begun = Sensitivity(sizes=sizes, kept=kept, losses=(), whole=_loss(prune(network, []), scoring))
        count = sum(map(len, kept))
        takes = duration(count * (time.monotonic() - started))
        console.print(f"measuring sensitivity: {count} networks, one group narrowed in each, about {takes}")
        keep(begun)
    elif not begun.complete:
        console.print(f"measuring sensitivity: {len(begun.losses)} of {len(sizes)} groups were measured before")
    measured = begun
    for group in range(len(begun.losses), len(sizes)):
        narrowed = (
            prune(network, [Channel(group, index) for index in orders[group][:-width]]) for width in kept[group]
        )
        losses = tuple(_loss(smaller, scoring) for smaller in narrowed)
        measured = dataclasses.replace(measured, losses=(*measured.losses, losses))
        keep(measured)
    return measured


def allocate(sensitivity: Sensitivity, units: Removed, size: Callable[[Removed], Size]) -> tuple[Move, ...]:
    """Remove channels one by one, those with the least expected rise of the loss per MAC saved first.

    MACs saved are counted for the network at that point, and one channel of every group stays. Among channels with no
    expected rise, the group that has lost the smallest share is next, since groups were measured alone and what several
    lose together is less sure.

    Raises:
        UsageError: the sensitivity was measured on a network of other group sizes.
    """
    if sensitivity.sizes != tuple(units):
        raise UsageError(
            f"the sensitivity is another network's, of {_difference(sensitivity.sizes, units)}: `measure` it again"
        )
    rises = [sensitivity.rises(group) for group in range(len(units))]
    removed = (0,) * len(units)
    macs = size(removed).macs

    def priority(group: int) -> tuple[float, float, int]:
        gone = removed[group]
        saved = macs - size(_without(removed, group)).macs
        rise = rises[group][gone + 1] - rises[group][gone]
        return rise / saved if saved > 0 else math.inf, gone / units[group], group

    # A channel saves fewer MACs the narrower its neighbours are, so priorities in the heap are never too high, and the
    # first group that stays first with its current priority is the best.
    waiting = [priority(group) for group in range(len(units)) if units[group] > 1]
    heapq.heapify(waiting)
    moves: list[Move] = []
    while waiting:
        group = waiting[0][-1]
        now = priority(group)
        if now > min(waiting[1:3], default=now):
            heapq.heapreplace(waiting, now)
            continue
        heapq.heappop(waiting)
        removed = _without(removed, group)
        macs = size(removed).macs
        moves.append(((group, 1),))
        if removed[group] < units[group] - 1:
            heapq.heappush(waiting, priority(group))
    return tuple(moves)


def _widths(size: int) -> tuple[int, ...]:
    """The widths at which a group of this many channels is measured, wide to narrow."""
    widths = {max(1, round(share * size)) for share in KEPT_SHARES}
    return tuple(sorted((width for width in widths if width < size), reverse=True))


def _loss(network: Network, scoring: ScoringData) -> float:
    """The loss on the judging images after batch norm is re-estimated in place; both add to the MACs spent."""
    part = scoring.judging
    scoring.macs += reestimate(network, scoring.train, scoring.normalisation, images=IMAGES)
    scoring.macs += cost(network).macs * len(part)
    losses = cross_entropies(predict(network, part, scoring.normalisation), part.labels)
    loss = float(scoring.objective.total(torch.tensor(losses, dtype=torch.float64)))
    if not math.isfinite(loss):
        raise UsageError(f"the loss of {network.spec.arch} is {loss}: no group's sensitivity can be measured")
    return loss


def _without(removed: Removed, group: int) -> Removed:
    """The removed units with one more of a group."""
    return (*removed[:group], removed[group] + 1, *removed[group + 1 :])


def _difference(measured: Removed, units: Removed) -> str:
    if len(measured) != len(units):
        return f"{len(measured)} groups of channels, not {len(units)}"
    pairs = enumerate(zip(measured, units, strict=True))
    return next(f"{was} channels in group {group}, not {now}" for group, (was, now) in pairs if was != now)
