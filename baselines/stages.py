"""Stages: the prunings of a job, one or several, and what each decides for the network that it finds."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from msgspec import Struct

from baselines.budget import TOLERANCE, AlreadyMetError, Budget, Limit, Quartiles, check_held, meet, meet_latency
from baselines.choice import Choice, choice
from baselines.coupling import Coupling
from baselines.evidence import Evidence
from baselines.job import Job
from baselines.masked import BOUND
from baselines.steps import Removed, Size
from baselines.technique import Technique
from compress.data import Split
from compress.errors import UsageError
from compress.hardware import describe
from compress.networks import Network
from compress.runs import write_json
from compress.training.batchnorm import reestimate
from compress.training.distributed import current_world
from compress.training.kept import read_kept
from compress.training.progress import console


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One pruning of a job, to a budget of the network that the job starts from."""

    budget: Budget
    technique: Technique


@dataclass(frozen=True, kw_only=True)
class Whole:
    """What budgets are shares of: the size of the network that a job starts from, and its channels in scope, if any."""

    size: Size
    units: int | None

    @classmethod
    def of(cls, network: Network, technique: Technique) -> Whole:
        """As counted for a technique."""
        return cls(size=Size.of(network), units=_units(network, technique))

    def achieved(self, network: Network, technique: Technique) -> dict[str, Any]:
        """What a network has become, as its record says it."""
        size, units = Size.of(network), _units(network, technique)
        ratio = {"ratio": 1 - units / self.units} if units and self.units else {}
        masked = {"equals_masked_whole_to": BOUND} if technique.width else {}  # every pruning was checked
        return ratio | {"speedup": self.size.macs / size.macs, "macs": size.macs, "params": size.params} | masked


@dataclass(frozen=True, kw_only=True)
class Decision:
    """A network made smaller, what was achieved, and what it took to choose."""

    network: Network
    achieved: dict[str, Any]
    macs: int
    seconds: float


def stages(job: Job, network: Network) -> list[Stage]:
    """The prunings of a job and its network, the last to its own budget, those before at equal ratios of what is left.

    Those before take the nearest network that can be had.
    """
    count, (name, value) = job.technique.steps, job.budget.option
    passing = dataclasses.replace(job.technique, nearest=True)
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
    return [*(Stage(budget=budget, technique=passing) for budget in budgets), last]


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
        achieved = whole.achieved(smaller, technique) | measured
        return Decision(network=smaller.cpu(), achieved=achieved, macs=evidence.macs, seconds=seconds)

    decision = current_world().on_leader(decided)
    return dataclasses.replace(decision, network=decision.network.to(job.where))


def met(
    job: Job, stage: Stage, options: Choice, network: Network, whole: Whole, kept: Path | None = None
) -> tuple[Removed, dict[str, Any]]:
    """What to remove from a network for a stage's budget, and what was measured for that.

    Where a step before went far enough already, it is nothing.

    Raises:
        UsageError: the budget cannot be met.
    """
    budget, nearest = stage.budget, stage.technique.nearest
    if budget.latency_ratio is not None:
        return _timed(job, stage, options, network, kept)
    units, none = sum(options.steps.units), (0,) * len(options.steps.units)
    if budget.ratio is not None and whole.units not in (None, units):  # some are gone already
        assert whole.units is not None
        left = int(whole.units * (1 - budget.ratio)) + 0.5
        if left >= units:
            return none, {}
        budget = Budget(ratio=1 - left / units)
    try:
        return meet(budget, options.steps, whole=whole.size, nearest=nearest), {}
    except AlreadyMetError:
        met_enough = nearest or abs(Limit.of(budget, whole.size).off(options.steps.size(none))) <= TOLERANCE
        if job.technique.steps == 1 or not met_enough:
            raise
        return none, {}


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
    if timed is None:
        raise UsageError("--latency-ratio: nothing was given to measure latency with")
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


def _units(network: Network, technique: Technique) -> int | None:
    return sum(Coupling(network).within(technique.scope, technique.keep).units) if technique.width else None
