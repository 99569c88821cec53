"""Stages: the prunings of a job, one or several, and what each decides for the network that it finds."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from msgspec import Struct

from baselines.budget import (
    NEAREST,
    TOLERANCE,
    AlreadyMetError,
    Budget,
    Limit,
    Quartiles,
    check_held,
    meet,
    meet_latency,
)
from baselines.choice import Choice, choice
from baselines.coupling import Coupling
from baselines.evidence import Evidence
from baselines.job import Job
from baselines.lag import lags, remedy
from baselines.masked import BOUND
from baselines.steps import Removed, Size
from baselines.technique import Technique
from baselines.tracking import Axis
from compress.console import console
from compress.data import Split
from compress.documents import read_kept
from compress.errors import UsageError
from compress.hardware import describe
from compress.networks import Network
from compress.runs import write_json
from compress.training.batchnorm import reestimate
from compress.training.distributed import current_world


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One pruning of a job, to a budget of the network that the job starts from.

    Attributes:
        passing: whether others follow, which make up for what it misses, if it does not take too much.
    """

    budget: Budget
    technique: Technique
    passing: bool = False


@dataclass(frozen=True, kw_only=True)
class Whole:
    """What budgets are shares of: the network that a job starts from.

    Attributes:
        ways: of every group of channels in scope, by an axis of a weight that writes them, how many make a unit; none
            where the technique removes no channels.
    """

    size: Size
    ways: dict[Axis, int]
    units: float

    @classmethod
    def of(cls, network: Network, technique: Technique) -> Whole:
        """As counted for a technique."""
        groups = Coupling(network).within(technique.scope, technique.keep).groups if technique.width else ()
        ways = {group.writers[0]: group.ways for group in groups}
        return cls(size=Size.of(network), ways=ways, units=_units(network, ways))

    def left(self, network: Network) -> float:
        """How many of its units a network that was pruned from it still has."""
        return _units(network, self.ways)

    def achieved(self, network: Network) -> dict[str, Any]:
        """What a network has become, as its record says it."""
        size = Size.of(network)
        ratio = {"ratio": 1 - self.left(network) / self.units} if self.ways else {}
        masked = {"equals_masked_whole_to": BOUND} if self.ways else {}  # every pruning of channels was checked
        return ratio | {"speedup": self.size.macs / size.macs, "macs": size.macs, "params": size.params} | masked

    def compared(self, budget: Budget, achieved: dict[str, Any]) -> str:
        """What was asked for and what came of it, in a line."""
        name, value = budget.option
        if name == "ratio":
            return f"asked for a ratio of {value:g}, the nearest is {achieved['ratio']:.4g}"
        if name == "latency_ratio":
            low, middle, high = achieved[name]
            nearest = f"{middle:.3f} [{low:.3f}, {high:.3f}], {abs(middle / value - 1):.1%} off"
            return f"asked for a latency ratio of {value:g}, the nearest is {nearest}"
        limit, size = Limit.of(budget, self.size), Size(achieved["macs"], achieved["params"])
        asked, nearest = (limit.in_words(amount, self.size) for amount in (limit.value, limit.measure(size)))
        return f"asked for {asked}, the nearest is {nearest}, {abs(limit.off(size)):.1%} off"


@dataclass(frozen=True, kw_only=True)
class Decision:
    """A network made smaller, what was achieved, and what it took to choose."""

    network: Network
    achieved: dict[str, Any]
    macs: int
    seconds: float


def stages(job: Job, network: Network) -> list[Stage]:
    """The prunings of a job and its network, the last to its own budget, those before at equal ratios of what is left.

    Those before take the nearest network that can be had, as long as it is not smaller than the last is to be.
    """
    count, (name, value) = job.technique.steps, job.budget.option
    nearest = dataclasses.replace(job.technique, nearest=True)
    last = Stage(budget=job.budget, technique=job.technique)
    if count == 1:
        return [last]
    if name == "ratio":
        budgets = [Budget(ratio=round(1 - (1 - value) ** (number / count), 4)) for number in range(1, count)]
    else:
        before = Size.of(network)
        limit = Limit.of(job.budget, before)
        whole = limit.measure(before)
        targets = [round(whole * (limit.value / whole) ** (number / count)) for number in range(1, count)]
        budgets = [Budget(**{limit.field: target}) for target in targets]
    return [*(Stage(budget=budget, technique=nearest, passing=True) for budget in budgets), last]


def decide(job: Job, stage: Stage, network: Network, whole: Whole, parts: Split, kept: Path | None = None) -> Decision:
    """What a stage makes of a network, which is left as it is; under torchrun rank 0 decides for all.

    Batch norm's statistics are those of the smaller network, from training images. `kept` is a directory for what is
    measured once for several budgets.

    Raises:
        UsageError: the method cannot score this network, or the budget cannot be met.
    """

    def decided() -> Decision:
        console.print(f"choosing what to remove: {stage.technique.label}, {stage.budget}")
        started, evidence = time.monotonic(), evidence_of(job, parts)
        technique = stage.technique.choosing
        options = choice(technique, network, evidence, kept)
        removed, measured = met(job, stage, options, network, whole, kept)
        smaller = options.without(removed)
        check_held(stage.budget, whole.size, options.steps.size(removed), Size.of(smaller))
        seconds = time.monotonic() - started + evidence.seconds
        reestimate(smaller, parts.train, parts.normalisation)
        achieved = whole.achieved(smaller) | measured
        console.print(whole.compared(stage.budget, achieved))
        if measured and lags(achieved["speedup"], achieved["latency_ratio"][0]):
            console.print(
                f"MACs {achieved['speedup']:.2f} times fewer, {1 / achieved['latency_ratio'][1]:.2f} times as fast: "
                f"{remedy(stage.technique, network.spec)}"
            )
        return Decision(network=smaller.cpu(), achieved=achieved, macs=evidence.macs, seconds=seconds)

    decision = current_world().on_leader(decided)
    return dataclasses.replace(decision, network=decision.network.to(job.where))


def met(
    job: Job, stage: Stage, options: Choice, network: Network, whole: Whole, kept: Path | None = None
) -> tuple[Removed, dict[str, Any]]:
    """What to remove from a network for a stage's budget, and what was measured for that.

    Where a step before went far enough already, it is nothing.

    Raises:
        UsageError: the budget cannot be met, or a step in between would pass the last one's.
    """
    if stage.budget.latency_ratio is not None:
        return _timed(job, stage, options, network, kept)
    none, steps = (0,) * len(options.steps.units), options.steps
    within = math.inf if stage.passing else NEAREST if stage.technique.nearest else TOLERANCE
    budget = stage.budget
    if budget.ratio is not None and steps.size(none) != whole.size:  # some are gone already
        excess = whole.left(network) - int(whole.units * (1 - budget.ratio)) - 0.5
        if excess <= 0:
            return none, {}
        if excess > sum(steps.units) - len(steps.units):
            raise UsageError(f"--ratio {budget.ratio:g}: the channels that are left are too few: take fewer --steps")
        budget = Budget(ratio=excess / sum(steps.units))
    try:
        removed = meet(budget, steps, whole=whole.size, within=within)
    except AlreadyMetError:
        if job.technique.steps == 1 or abs(Limit.of(budget, whole.size).off(steps.size(none))) > within:
            raise
        return none, {}
    if stage.passing and budget.ratio is None:
        _check_not_beyond(job, steps.size(removed), whole)
    return removed, {}


def _check_not_beyond(job: Job, size: Size, whole: Whole) -> None:
    """Refuse a step in between that takes more than all steps together are to take."""
    limit = Limit.of(job.budget, whole.size)
    if limit.off(size) < -(NEAREST if job.technique.nearest else TOLERANCE):
        asked, left = (limit.in_words(amount, whole.size) for amount in (limit.value, limit.measure(size)))
        raise UsageError(f"a step in between would leave {left}, less than the {asked} asked for: take fewer --steps")


class Timed(Struct, frozen=True, kw_only=True):
    """What was removed for a latency, and the ratio that was measured."""

    removed: Removed
    measured: Quartiles


def _timed(
    job: Job, stage: Stage, options: Choice, network: Network, kept: Path | None
) -> tuple[Removed, dict[str, Any]]:
    """What to remove for a latency, measured now, or as it was measured and kept before: a second time differs."""
    ratio, timed = stage.budget.latency_ratio, job.timed
    assert ratio is not None
    assert timed is not None
    machine = {key: value for key, value in describe(job.where).items() if key in ("device", "cpu", "gpu")}
    asked = {"ratio": ratio, "technique": stage.technique.to_json(), "seed": job.seed, "machine": machine}
    digest = hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()[:8]
    file = kept / f"latency-{digest}.json" if kept else None
    before = read_kept(file, Timed, "it is measured again") if file else None
    if before and len(before[1].removed) == len(options.steps.units):
        return before[1].removed, {"latency_ratio": list(before[1].measured)}

    def measured(removed: Removed) -> Quartiles:
        return timed(network, options.without(removed).to(job.where))

    removed, quartiles = meet_latency(ratio, options.steps, measured, nearest=stage.technique.nearest)
    if file:
        write_json(file, {"removed": removed, "measured": quartiles})
    return removed, {"latency_ratio": list(quartiles)}


def evidence_of(job: Job, parts: Split) -> Evidence:
    """What the job's choices may look at."""
    return Evidence.of(parts, job.objective, job.recipe.label_smoothing, job.seed)


def _units(network: Network, ways: Mapping[Axis, int]) -> float:
    """How many units the layers write along these axes."""
    return float(sum(network.get_parameter(name).shape[dim] / channels for (name, dim), channels in ways.items()))
