"""Sensitivity: the rise of the loss as each group alone is narrowed, and the removal order that follows."""

from __future__ import annotations

import contextlib
import dataclasses
import heapq
import math
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch

from baselines.removal_order import Removed, Size
from baselines.scoring_data import ScoringData
from compress.console import console, duration
from compress.documents import read_kept
from compress.errors import UsageError
from compress.network_cost import cost
from compress.networks import Network
from compress.runs import InUseError, claimed, write_json
from compress.schema import Struct
from compress.training.evaluation import cross_entropies, predict

# Shares of a group's channels to measure with, the last of which leaves one channel. The loss rises gently at first and
# steeply at the end, so straight lines between these are near enough, and four networks a group (ResNet-110 has 57
# groups) take minutes, not hours.
KEPT_SHARES = (0.75, 0.5, 0.25, 0.0)
# Training images to re-estimate batch norm from: a quarter of the usual number, as this takes most of the time.
IMAGES = 500


class Sensitivity(Struct, frozen=True, kw_only=True):
    """Losses of a network with one group narrowed, which serve every budget of the same network.

    Attributes:
        units: number of units of every group.
        losses: loss (nats) at each of `widths_of` a group's units, with all other groups whole; of the first groups, as
            far as they are measured.
        whole: loss of the unpruned network.
        macs, seconds: what measuring has taken so far.
    """

    units: Removed
    losses: tuple[tuple[float, ...], ...]
    whole: float
    macs: int
    seconds: float

    def rises(self, group: int) -> list[float]:
        """The expected rise of the loss (nats) without 0, 1, ... units of a group, up to all but one.

        Interpolates linearly between measured rises, after isotonic regression; a loss below the unpruned network's
        counts as no rise.
        """
        from scipy.optimize import isotonic_regression  # here, as training does without it

        measured = [0.0, *(max(0.0, loss - self.whole) for loss in self.losses[group])]
        removed = [0, *(self.units[group] - width for width in widths_of(self.units[group]))]
        rising = isotonic_regression(measured).x
        return [float(rise) for rise in np.interp(range(self.units[group]), removed, rising)]


def measure(
    units: Removed, without: Callable[[Removed], Network], scoring: ScoringData, kept: Path | None = None
) -> Sensitivity:
    """Measure the sensitivity of every group of a network, narrowed alone, with batch norm re-estimated every time.

    The loss is the cross-entropy on the judging images, summed over exits with the objective's weights, without label
    smoothing and distillation. What measuring takes is added to `scoring`, also where it was read from the file.

    Args:
        units: number of units of every group.
        without: builds the network without the removed units.
        kept: a file in a run's directory, written after every group: groups in it are not measured again.

    Raises:
        UsageError: a loss is not finite.
    """
    before, started, none = scoring.macs, time.monotonic(), (0,) * len(units)
    with _alone(kept):
        found = read_kept(kept, Sensitivity, "it is measured again") if kept else None
        if found and found[1].units == units:
            measured = found[1]
            scoring.macs += measured.macs
            scoring.seconds += measured.seconds
            started -= measured.seconds
            if len(measured.losses) < len(units):
                console.print(
                    f"measuring sensitivity: {len(measured.losses)} of {len(units)} groups were measured before"
                )
        else:
            whole, count = _loss(without(none), scoring), sum(len(widths_of(own)) for own in units)
            spent = time.monotonic() - started
            measured = Sensitivity(units=units, losses=(), whole=whole, macs=scoring.macs - before, seconds=spent)
            console.print(
                f"measuring sensitivity: {count} networks, one group narrowed in each, about {duration(count * spent)}"
            )
        for group in range(len(measured.losses), len(units)):
            states = ((*none[:group], units[group] - width, *none[group + 1 :]) for width in widths_of(units[group]))
            losses = tuple(_loss(without(removed), scoring) for removed in states)
            measured = dataclasses.replace(
                measured,
                losses=(*measured.losses, losses),
                macs=scoring.macs - before,
                seconds=time.monotonic() - started,
            )
            if kept:
                write_json(kept, dataclasses.asdict(measured))
    return measured


def allocate(sensitivity: Sensitivity, size: Callable[[Removed], Size]) -> list[int]:
    """The groups that lose a unit one after the other, those with the least expected rise of the loss per MAC first.

    MACs saved are counted for the network at that point, and one unit of every group stays. Among units with no
    expected rise, the group that has lost the smallest share is next, since groups were measured alone and what several
    lose together is less sure.
    """
    units = sensitivity.units
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
    order: list[int] = []
    while waiting:
        group = waiting[0][-1]
        now = priority(group)
        if now > min(waiting[1:3], default=now):
            heapq.heapreplace(waiting, now)
            continue
        heapq.heappop(waiting)
        removed = _without(removed, group)
        macs = size(removed).macs
        order.append(group)
        if removed[group] < units[group] - 1:
            heapq.heappush(waiting, priority(group))
    return order


def widths_of(units: int) -> tuple[int, ...]:
    """The widths at which a group of this many units is measured, wide to narrow."""
    widths = {max(1, round(share * units)) for share in KEPT_SHARES}
    return tuple(sorted((width for width in widths if width < units), reverse=True))


def _loss(network: Network, scoring: ScoringData) -> float:
    """The loss on the judging images after batch norm is re-estimated in place; both add to the MACs spent."""
    part = scoring.judging
    scoring.macs += scoring.reestimate(network, images=IMAGES)
    scoring.macs += cost(network).macs * len(part)
    losses = cross_entropies(predict(network, part, scoring.normalisation), part.labels)
    loss = float(scoring.objective.total(torch.tensor(losses, dtype=torch.float64)))
    if not math.isfinite(loss):
        raise UsageError(f"the loss of {network.spec.arch} is {loss}: no group's sensitivity can be measured")
    return loss


def _without(removed: Removed, group: int) -> Removed:
    """The removed units with one more of a group."""
    return (*removed[:group], removed[group] + 1, *removed[group + 1 :])


@contextlib.contextmanager
def _alone(kept: Path | None) -> Iterator[None]:
    """Hold the lock of the run whose directory has this file; wait, and say so, while another process holds it."""
    with contextlib.ExitStack() as claim:
        try:
            claim.enter_context(claimed(kept.parent) if kept else contextlib.nullcontext())
        except InUseError as error:
            console.print(f"waiting for another process, which measures on {error.path.name}")
            claim.enter_context(claimed(error.path, patience=-1))
        yield
