"""The choice that a technique has for one network: its steps, and the network without some of what they offer."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from baselines.channels import (
    Channel,
    ascending,
    by_score,
    in_equal_shares,
    one_by_one,
    remove_channels,
    rounded,
    steps,
)
from baselines.controls import shallow_steps, shallower
from baselines.coupling import Coupling, Scoped
from baselines.depth import block_steps, blocks_of, cut_anew, cut_steps, harm, without_blocks
from baselines.evidence import Evidence
from baselines.importance import scores
from baselines.sensitivity import Sensitivity, allocate, measure
from baselines.steps import Removed, Steps
from baselines.technique import Technique
from compress.errors import UsageError
from compress.networks import Network, Spec, initialised
from compress.runs import read_json, write_json


@dataclass(frozen=True, kw_only=True)
class Choice:
    """What can be taken off a network, and the network without it.

    Attributes:
        without: a copy of the network, an ordinary one, without so many units of every knob.
        channels: where the units are channels: which ones go.
    """

    steps: Steps
    without: Callable[[Removed], Network]
    channels: Callable[[Removed], list[Channel]] | None = None


def choice(technique: Technique, network: Network, evidence: Evidence, kept: Path | None = None) -> Choice:
    """The choice by a technique's method; what scoring takes is charged to the evidence.

    `kept` is a directory in which what was measured once is kept for further budgets.

    Raises:
        UsageError: the method cannot score this network, or there is nothing that could go.
    """
    if technique.method == "blocks":
        return Choice(
            steps=block_steps(network, harm(network, evidence)),
            without=lambda removed: without_blocks(network, blocks_of(network.spec, removed)),
        )
    if technique.method == "depth-cut":
        last = len(network.spec.blocks)
        return Choice(
            steps=cut_steps(network), without=lambda removed: cut_anew(network, last - removed[0], evidence.seed)
        )
    return _of_channels(technique, network, evidence, kept)


def shallow_choice(spec: Spec, seed: int) -> Choice:
    """The plain shallower networks of a family, freshly initialised by the seed.

    Raises:
        UsageError: it has no such family.
    """
    family = [spec, *shallower(spec)]
    return Choice(steps=shallow_steps(spec), without=lambda removed: initialised(family[removed[0]], seed).eval())


def _of_channels(technique: Technique, network: Network, evidence: Evidence, kept: Path | None) -> Choice:
    coupling = Coupling(network)
    scoped = coupling.within(technique.scope)
    if all(units == 1 for units in scoped.units):
        wider = any(units > 1 for units in coupling.within("all").units)
        raise UsageError(
            f"scope {technique.scope}: {network.spec.arch} has no such channels that could go"
            + ("; --scope all has some" if wider else "")
        )
    every = scores(network, technique.method, evidence)
    scored = [every[number] for number in scoped.numbers]
    least_first = ascending(scored, scoped.groups)

    def channels(removed: Removed) -> list[Channel]:
        return [
            Channel(number, index)
            for number, units, count in zip(scoped.numbers, least_first, removed, strict=True)
            for index in units[:count]
        ]

    if technique.allocate:
        sensitivity = _sensitivity(technique, network, least_first, scoped, evidence, kept)
        moves = allocate(sensitivity, scoped.units, scoped.size)
        order = one_by_one([knob for ((knob, _),) in moves], scoped.units)
    elif technique.ranking == "uniform":
        order = in_equal_shares(scoped.units)
    else:
        order = by_score(scored, scoped.groups)
    if technique.round_to > 1:
        order = rounded(order, scoped.groups, technique.round_to)
    return Choice(
        steps=steps(order, scoped),
        without=lambda removed: remove_channels(network, channels(removed)),
        channels=channels,
    )


def _sensitivity(
    technique: Technique,
    network: Network,
    least_first: list[list[int]],
    scoped: Scoped,
    evidence: Evidence,
    kept: Path | None,
) -> Sensitivity:
    """How the network bears its groups narrowed: measured now, or as it was measured and kept before."""

    def narrowed(network: Network, channels: list[Channel]) -> Network:
        return remove_channels(network, [Channel(scoped.numbers[one.group], one.index) for one in channels])

    file = kept / f"sensitivity-{technique.method}-{technique.scope}-s{evidence.seed}.json" if kept else None
    document = read_json(file) if file else None
    if document and tuple(document["sensitivity"]["sizes"]) == scoped.units:
        # Whoever uses it is charged for it, as if it stood alone.
        evidence.macs += document["macs"]
        evidence.seconds += document["seconds"]
        return Sensitivity.from_json(document["sensitivity"])
    before, started = evidence.macs, time.monotonic()
    sensitivity = measure(network, least_first, evidence, narrowed)
    if file:
        spent = {"macs": evidence.macs - before, "seconds": time.monotonic() - started}
        write_json(file, spent | {"sensitivity": sensitivity.to_json()})
    return sensitivity
