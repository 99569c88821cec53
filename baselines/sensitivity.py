"""Sensitivity: how much the loss rises as one group alone is narrowed, and the widths that follow for any budget."""

from __future__ import annotations

import dataclasses
import heapq
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from scipy.optimize import isotonic_regression

from baselines.channels import Channel
from baselines.evidence import Evidence
from baselines.steps import Move, Removed, Size
from compress.console import console, duration
from compress.documents import fitted
from compress.errors import UsageError
from compress.network_cost import cost
from compress.networks import Network
from compress.training.batchnorm import reestimate
from compress.training.evaluation import cross_entropies, predict

# Of a group's channels, and last a single one: rises are gentle at first and steep at the end, so that a straight line
# between neighbours is near enough, and four networks a group (ResNet-110 has 57 groups) take minutes, not hours.
KEPT_SHARES = (0.75, 0.5, 0.25, 0.0)
# Training images to re-estimate batch norm from: a quarter of what is usual, as that is most of the time.
IMAGES = 500

Prune = Callable[[Network, list[Channel]], Network]


@dataclass(frozen=True, kw_only=True)
class Sensitivity:
    """What was measured, in numbers; it round-trips through JSON and serves every later budget of the same network.

    Attributes:
        sizes: of every group, how many channels it has.
        kept: of every group, the widths that it was measured at, wide to narrow; none where it has one channel.
        losses: the network's loss (nats) at each of them, all other groups left whole.
        whole: its loss unpruned.
    """

    sizes: tuple[int, ...]
    kept: tuple[tuple[int, ...], ...]
    losses: tuple[tuple[float, ...], ...]
    whole: float

    @property
    def complete(self) -> bool:
        """Whether all groups were measured: those that were are the first ones."""
        return len(self.losses) == len(self.sizes)

    def __post_init__(self) -> None:
        """Refuse what cannot be: losses may be of the first groups alone."""
        widths = [len(kept) for kept in self.kept]
        narrower = all(0 < width < size for size, kept in zip(self.sizes, self.kept, strict=False) for width in kept)
        if len(widths) != len(self.sizes) or not narrower or [*map(len, self.losses)] != widths[: len(self.losses)]:
            raise UsageError("kept and losses are not those of the sizes")

    def to_json(self) -> dict[str, Any]:
        """The fields as JSON has them."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Sensitivity:
        """What `to_json` wrote, read again."""
        return fitted(data, cls, "sensitivity")

    def rises(self, group: int) -> list[float]:
        """The rise of the loss (nats) expected without 0, 1, ... of a group's channels, all but the last one.

        Straight lines between what was measured, after the closest curve that never falls (isotonic regression): a
        loss that falls below the unpruned network's is noise, and counts as no rise.
        """
        measured = [0.0, *(max(0.0, loss - self.whole) for loss in self.losses[group])]
        removed = [0, *(self.sizes[group] - kept for kept in self.kept[group])]
        rising = isotonic_regression(measured).x
        return [float(rise) for rise in np.interp(range(self.sizes[group]), removed, rising)]


def measure(
    network: Network,
    orders: Sequence[Sequence[int]],
    evidence: Evidence,
    prune: Prune,
    *,
    begun: Sensitivity | None = None,
    keep: Callable[[Sensitivity], None] = lambda _: None,
) -> Sensitivity:
    """The sensitivity of every group of a network, each pruned alone, with batch norm re-estimated every time.

    The loss is the exits' mean cross-entropies on the images to judge on, weighted as the objective weighs them; label
    smoothing and what is distilled are left out.

    Args:
        orders: of every group, its channels in ascending importance: the first ones go.
        prune: gives a copy of the network without those channels, a plain copy where there are none.
        begun: what `keep` was given last, by a measurement that was interrupted: the groups in it stand.
        keep: is given what has been measured, after every group.

    Raises:
        UsageError: a loss is not finite.
    """
    sizes = tuple(len(order) for order in orders)
    kept = tuple(_widths(size) for size in sizes)
    if begun is None or (begun.sizes, begun.kept) != (sizes, kept):
        started = time.monotonic()
        begun = Sensitivity(sizes=sizes, kept=kept, losses=(), whole=_loss(prune(network, []), evidence))
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
        losses = tuple(_loss(smaller, evidence) for smaller in narrowed)
        measured = dataclasses.replace(measured, losses=(*measured.losses, losses))
        keep(measured)
    return measured


def allocate(sensitivity: Sensitivity, units: Removed, size: Callable[[Removed], Size]) -> tuple[Move, ...]:
    """One channel after the other, least expected rise of the loss per MAC saved first; one of each group stays.

    The MACs saved are the true ones at that point. Where several channels are expected to cost nothing, the group that
    has lost the smallest share gives one, since groups were measured alone and joint losses are less sure.

    Raises:
        UsageError: the sensitivity was measured on a network of other group sizes.
    """
    if sensitivity.sizes != tuple(units):
        raise UsageError(
            f"the sensitivity is another network's, of {_difference(sensitivity.sizes, units)}: `measure` it again"
        )
    rises = [sensitivity.rises(group) for group in range(len(units))]
    removed, macs = (0,) * len(units), size((0,) * len(units)).macs

    def priority(group: int) -> tuple[float, float, int]:
        gone = removed[group]
        saved = macs - size(_without(removed, group)).macs
        rise = rises[group][gone + 1] - rises[group][gone]
        return rise / saved if saved > 0 else math.inf, gone / units[group], group

    # A channel saves the less the narrower its neighbours have become, so what stands in the heap is never too high,
    # and the first one that keeps its place when looked at again is the best of all.
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
    """The widths to measure a group of this many channels at, wide to narrow, each smaller than the group."""
    widths = {max(1, round(share * size)) for share in KEPT_SHARES}
    return tuple(sorted((width for width in widths if width < size), reverse=True))


def _loss(network: Network, evidence: Evidence) -> float:
    """The loss on the images to judge on, batch norm re-estimated in place first; the evidence is charged for both."""
    part = evidence.judging
    evidence.macs += reestimate(network, evidence.train, evidence.normalisation, images=IMAGES)
    evidence.macs += cost(network).macs * len(part)
    losses = cross_entropies(predict(network, part, evidence.normalisation), part.labels)
    loss = float(evidence.objective.total(torch.tensor(losses, dtype=torch.float64)))
    if not math.isfinite(loss):
        raise UsageError(f"the loss of {network.spec.arch} is {loss}: no group's sensitivity can be measured")
    return loss


def _without(removed: Removed, group: int) -> Removed:
    """The same without one more channel of a group."""
    return (*removed[:group], removed[group] + 1, *removed[group + 1 :])


def _difference(measured: Removed, units: Removed) -> str:
    if len(measured) != len(units):
        return f"{len(measured)} groups of channels, not {len(units)}"
    pairs = enumerate(zip(measured, units, strict=True))
    return next(f"{was} channels in group {group}, not {now}" for group, (was, now) in pairs if was != now)
