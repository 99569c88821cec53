"""Candidates: the channels or blocks that a technique may remove from a network, scored and in order."""

from __future__ import annotations

import contextlib
import dataclasses
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from msgspec import Struct

from baselines.channels import Channel, ascending, by_score, in_equal_shares, one_by_one, remove_channels, rounded
from baselines.controls import shallow_order, shallower
from baselines.coupling import Coupling, Scoped
from baselines.criteria import channel_scores
from baselines.depth_pruning import block_order, blocks_of, cut_anew, cut_order, harm, without_blocks
from baselines.removal_order import RemovalOrder, Removed
from baselines.scoring_data import ScoringData
from baselines.sensitivity import Sensitivity, allocate, measure
from baselines.technique import Technique
from compress.console import console
from compress.documents import read_kept
from compress.errors import UsageError
from compress.networks import Network, Spec, initialised
from compress.runs import InUseError, claimed, write_json


@dataclass(frozen=True, kw_only=True)
class Candidates:
    """What may be removed from a network.

    Attributes:
        without: builds a copy of the network without the removed units.
        channels: the channels that removed units stand for; None where the technique removes blocks.
    """

    order: RemovalOrder
    without: Callable[[Removed], Network]
    channels: Callable[[Removed], list[Channel]] | None = None


def find_candidates(
    technique: Technique, network: Network, scoring: ScoringData, kept: Path | None = None
) -> Candidates:
    """Score what a technique may remove from a network; the MACs spent are added to `scoring`.

    Args:
        kept: directory in which a sensitivity is kept for further budgets.

    Raises:
        UsageError: the method cannot score this network, or nothing may be removed.
    """
    if technique.method == "blocks":
        return Candidates(
            order=block_order(network, harm(network, scoring)),
            without=lambda removed: without_blocks(network, blocks_of(network.spec, removed)),
        )
    if technique.method == "depth-cut":
        last = len(network.spec.blocks)
        return Candidates(
            order=cut_order(network), without=lambda removed: cut_anew(network, last - removed[0], scoring.seed)
        )
    return _channel_candidates(technique, network, scoring, kept)


def shallow_candidates(spec: Spec, seed: int) -> Candidates:
    """The plain shallower networks of a family, newly initialised from the seed.

    Raises:
        UsageError: the network belongs to no such family.
    """
    family = [spec, *shallower(spec)]
    return Candidates(order=shallow_order(spec), without=lambda removed: initialised(family[removed[0]], seed).eval())


def _channel_candidates(technique: Technique, network: Network, scoring: ScoringData, kept: Path | None) -> Candidates:
    coupling = Coupling(network)
    scoped = coupling.within(technique.scope, technique.keep)
    if all(units == 1 for units in scoped.units):
        why = "".join(f"; {name} keeps its own: {reason}" for name, reason in [*coupling.left.items()][:1])
        wider = any(units > 1 for units in coupling.within("all", technique.keep).units)
        why += "; --scope all has some" if wider else ""
        raise UsageError(f"scope {technique.scope}: {network.spec.arch} has no such channels that could go{why}")
    every = channel_scores(network, technique.method, scoring)
    scores = [every[number] for number in scoped.numbers]
    least_first = ascending(scores, scoped.groups)

    def channels(removed: Removed) -> list[Channel]:
        return [
            Channel(number, index)
            for number, units, count in zip(scoped.numbers, least_first, removed, strict=True)
            for index in units[:count]
        ]

    if technique.allocate:
        sensitivity = _sensitivity(technique, network, least_first, scoped, scoring, kept)
        moves = allocate(sensitivity, scoped.units, scoped.size)
        order = one_by_one([group for ((group, _),) in moves], scoped.units, scoped.size)
    elif technique.ranking == "uniform":
        order = in_equal_shares(scoped.units, scoped.size)
    else:
        order = by_score(scores, scoped.groups, scoped.size)
    if technique.round_to > 1:
        order = rounded(order, scoped.groups, technique.round_to)
    return Candidates(
        order=order, without=lambda removed: remove_channels(network, channels(removed)), channels=channels
    )


class KeptSensitivity(Struct, frozen=True, kw_only=True):
    """A sensitivity as far as it was measured, and the MACs and seconds that took."""

    macs: int
    seconds: float
    sensitivity: Sensitivity | None


def _sensitivity(
    technique: Technique,
    network: Network,
    least_first: list[list[int]],
    scoped: Scoped,
    scoring: ScoringData,
    kept: Path | None,
) -> Sensitivity:
    """The network's sensitivity to narrowing each group: read as far as it is kept, the rest measured now."""

    def prune(network: Network, channels: list[Channel]) -> Network:
        return remove_channels(network, [Channel(scoped.numbers[channel.group], channel.index) for channel in channels])

    name = "-".join(["sensitivity", technique.method, technique.scope, *technique.keep, f"s{scoring.seed}"])
    file = kept / f"{name}.json" if kept else None
    with _alone(kept):
        found = read_kept(file, KeptSensitivity, "it is measured again") if file else None
        begun = found[1] if found else KeptSensitivity(macs=0, seconds=0.0, sensitivity=None)
        # Every run that uses a kept measurement is charged for it.
        scoring.macs += begun.macs
        scoring.seconds += begun.seconds
        before, started = scoring.macs - begun.macs, time.monotonic() - begun.seconds

        def keep(measured: Sensitivity) -> None:
            if file:
                spent = {"macs": scoring.macs - before, "seconds": time.monotonic() - started}
                write_json(file, spent | {"sensitivity": dataclasses.asdict(measured)})

        return measure(network, least_first, scoring, prune, begun=begun.sensitivity, keep=keep)


@contextlib.contextmanager
def _alone(kept: Path | None) -> Iterator[None]:
    """Hold the lock of a run's directory, if one is given; wait, and say so, while another process holds it."""
    with contextlib.ExitStack() as claim:
        try:
            claim.enter_context(claimed(kept) if kept else contextlib.nullcontext())
        except InUseError as error:
            console.print(f"waiting for another process, which measures on {error.path.name}")
            claim.enter_context(claimed(error.path, patience=-1))
        yield
