"""The choice that a technique has for one network: its steps, and the network without some of what they offer."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from msgspec import Struct

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
from compress.console import console
from compress.documents import read_kept
from compress.errors import UsageError
from compress.networks import Network, Spec, initialised
from compress.runs import InUseError, claimed, write_json


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
    scoped = coupling.within(technique.scope, technique.keep)
    if all(units == 1 for units in scoped.units):
        why = "".join(f"; {name} keeps its own: {reason}" for name, reason in [*coupling.left.items()][:1])
        wider = any(units > 1 for units in coupling.within("all", technique.keep).units)
        why += "; --scope all has some" if wider else ""
        raise UsageError(f"scope {technique.scope}: {network.spec.arch} has no such channels that could go{why}")
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


class Measured(Struct, frozen=True, kw_only=True):
    """A sensitivity as far as it was measured, and what that took."""

    macs: int
    seconds: float
    sensitivity: Sensitivity | None


def _sensitivity(
    technique: Technique,
    network: Network,
    least_first: list[list[int]],
    scoped: Scoped,
    evidence: Evidence,
    kept: Path | None,
) -> Sensitivity:
    """How the network bears its groups narrowed: as it was measured and kept before, the rest of it measured now."""

    def narrowed(network: Network, channels: list[Channel]) -> Network:
        return remove_channels(network, [Channel(scoped.numbers[one.group], one.index) for one in channels])

    name = "-".join(["sensitivity", technique.method, technique.scope, *technique.keep, f"s{evidence.seed}"])
    file = kept / f"{name}.json" if kept else None
    with _alone(kept):
        found = read_kept(file, Measured, "it is measured again") if file else None
        begun = found[1] if found else Measured(macs=0, seconds=0.0, sensitivity=None)
        # Whoever uses it is charged for it, as if it stood alone.
        evidence.macs += begun.macs
        evidence.seconds += begun.seconds
        before, started = evidence.macs - begun.macs, time.monotonic() - begun.seconds

        def keep(measured: Sensitivity) -> None:
            if file:
                spent = {"macs": evidence.macs - before, "seconds": time.monotonic() - started}
                write_json(file, spent | {"sensitivity": measured.to_json()})

        return measure(network, least_first, evidence, narrowed, begun=begun.sensitivity, keep=keep)


@contextlib.contextmanager
def _alone(kept: Path | None) -> Iterator[None]:
    """Hold a run's directory, if one is given; another process that does is waited for, which is said."""
    with contextlib.ExitStack() as claim:
        try:
            claim.enter_context(claimed(kept) if kept else contextlib.nullcontext())
        except InUseError as error:
            console.print(f"waiting for another process, which measures on {error.path.name}")
            claim.enter_context(claimed(error.path, patience=-1))
        yield
