"""Candidates: the channels or blocks that a technique may remove from a network, scored and in order."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass

from baselines.channels import Channels, ascending, by_score, in_equal_shares, one_by_one, remove_channels, rounded
from baselines.controls import shallow_order, shallower
from baselines.coupling import Coupling
from baselines.criteria import channel_scores
from baselines.depth_pruning import block_order, blocks_of, cut_anew, cut_order, harm, without_blocks
from baselines.kept_files import KeptFiles
from baselines.removal_order import RemovalOrder, Removed
from baselines.scoring_data import ScoringData
from baselines.sensitivity import allocate, measure
from baselines.technique import CONTROLS, Technique
from compress.errors import UsageError
from compress.networks import Network, initialised

LONGEST_NAME = 100  # letters of what --keep names in the name of a file; a digest stands for more


@dataclass(frozen=True, kw_only=True)
class Candidates:
    """What may be removed from a network.

    Attributes:
        without: builds a copy of the network without the removed units.
        channels: the channels that removed units stand for; None where the technique removes blocks.
    """

    order: RemovalOrder
    without: Callable[[Removed], Network]
    channels: Callable[[Removed], Channels] | None = None


def find_candidates(
    technique: Technique, network: Network, scoring: ScoringData, kept: KeptFiles | None = None
) -> Candidates:
    """Score what a technique may remove from a network; the MACs spent are added to `scoring`.

    Args:
        kept: files in which a sensitivity is kept for further budgets.

    Raises:
        UsageError: the method cannot score this network, nothing may be removed, or it has no shallower ones.
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
    if technique.method in CONTROLS:  # a plain shallower network, newly initialised
        family = [network.spec, *shallower(network.spec)]
        return Candidates(
            order=shallow_order(network.spec),
            without=lambda removed: initialised(family[removed[0]], scoring.seed).eval(),
        )
    return _channel_candidates(technique, network, scoring, kept)


def _channel_candidates(
    technique: Technique, network: Network, scoring: ScoringData, kept: KeptFiles | None
) -> Candidates:
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

    def channels(removed: Removed) -> Channels:
        return {
            number: units[:count] for number, units, count in zip(scoped.numbers, least_first, removed, strict=True)
        }

    def without(removed: Removed) -> Network:
        return remove_channels(network, channels(removed))

    if technique.allocate:
        keep = "-".join(technique.keep)
        if len(keep) > LONGEST_NAME:
            keep = hashlib.sha256(keep.encode()).hexdigest()[:8]
        name = "-".join(["sensitivity", technique.method, technique.scope, *([keep] * bool(keep)), f"s{scoring.seed}"])
        sensitivity = measure(scoped.units, without, scoring, kept(name) if kept else None)
        order = one_by_one(allocate(sensitivity, scoped.size), scoped.units, scoped.size)
    elif technique.ranking == "uniform":
        order = in_equal_shares(scoped.units, scoped.size)
    else:
        order = by_score(scores, scoped.groups, scoped.size)
    if technique.round_to > 1:
        order = rounded(order, scoped.groups, technique.round_to)
    return Candidates(order=order, without=without, channels=channels)
