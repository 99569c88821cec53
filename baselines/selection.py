"""Selections: what a job removes to meet its budget, at once or in the steps of iterative pruning."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from baselines.budget import NEAREST, TOLERANCE, AlreadyMetError, Budget, Limit, Quartiles
from baselines.budget_search import check_held, meet, meet_latency
from baselines.channel_tracking import Axis
from baselines.coupling import Coupling
from baselines.job import Job, Reference
from baselines.kept_files import KeptFiles
from baselines.macs_vs_latency import lags, remedy
from baselines.masked_equivalence import BOUND
from baselines.pruning_candidates import Candidates, find_candidates
from baselines.removal_order import Removed, Size
from baselines.scoring_data import ScoringData
from baselines.technique import Technique
from compress.console import console
from compress.data import Split
from compress.documents import read_kept
from compress.errors import UsageError
from compress.hardware import describe
from compress.networks import Network
from compress.runs import write_json
from compress.schema import Struct
from compress.training.distributed import current_world
from compress.training.plan import augmentation_by


@dataclass(frozen=True, kw_only=True)
class PruningStep:
    """One step of a job's pruning; its budget refers to the unpruned network.

    Attributes:
        intermediate: whether steps follow, which make up for a miss.
    """

    budget: Budget
    technique: Technique
    intermediate: bool = False


@dataclass(frozen=True, kw_only=True)
class Unpruned:
    """The size of the network that a job starts from, which budgets and results refer to.

    Attributes:
        ways: channels in a unit of every group in scope, by the weight's axis that writes them; empty where the
            technique removes no channels.
        units: units of all those groups together.
    """

    size: Size
    ways: dict[Axis, int]
    units: float

    @classmethod
    def of(cls, network: Network, technique: Technique) -> Unpruned:
        """Count a network for a technique."""
        groups = Coupling(network).within(technique.scope, technique.keep).groups if technique.width else ()
        ways = {group.writers[0]: group.ways for group in groups}
        return cls(size=Size.of(network), ways=ways, units=_units(network, ways))

    def left(self, network: Network) -> float:
        """The units that a network pruned from this one has left."""
        return _units(network, self.ways)

    def achieved(self, network: Network) -> dict[str, Any]:
        """The size of a pruned network, as its record has it."""
        size = Size.of(network)
        ratio = {"ratio": 1 - self.left(network) / self.units} if self.ways else {}
        masked = {"equals_masked_whole_to": BOUND} if self.ways else {}  # checked whenever channels are removed
        return ratio | {"speedup": self.size.macs / size.macs, "macs": size.macs, "params": size.params} | masked

    def compared(self, budget: Budget, achieved: dict[str, Any]) -> str:
        """One line that sets what was achieved against the budget."""
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
class Selection:
    """A pruned network, what was achieved, and the MACs and seconds that selecting took."""

    network: Network
    achieved: dict[str, Any]
    macs: int
    seconds: float


def pruning_steps(job: Job, unpruned: Unpruned) -> list[PruningStep]:
    """The steps of a job: the last has its budget, those before keep equal ratios of what is left.

    Intermediate steps take the nearest network that there is.
    """
    count, (name, value) = job.technique.steps, job.budget.option
    nearest = dataclasses.replace(job.technique, nearest=True)
    last = PruningStep(budget=job.budget, technique=job.technique)
    if count == 1:
        return [last]
    if name == "ratio":
        budgets = [Budget(ratio=round(1 - (1 - value) ** (number / count), 4)) for number in range(1, count)]
    else:
        limit = Limit.of(job.budget, unpruned.size)
        before = limit.measure(unpruned.size)
        targets = [round(before * (limit.value / before) ** (number / count)) for number in range(1, count)]
        budgets = [Budget(**{limit.field: target}) for target in targets]
    return [*(PruningStep(budget=budget, technique=nearest, intermediate=True) for budget in budgets), last]


def scoring_data_of(job: Job, reference: Reference, parts: Split) -> ScoringData:
    """The images, objective and seed that a job scores with."""
    augmentation = augmentation_by(job.recipe, job.seed, augmentable=job.dataset.augmentable)
    return ScoringData.of(parts, reference.objective, job.recipe.label_smoothing, job.seed, augmentation)


def select(
    job: Job,
    step: PruningStep,
    network: Network,
    unpruned: Unpruned,
    scoring: ScoringData,
    kept: KeptFiles | None = None,
) -> Selection:
    """Prune a copy of a network for one step; under torchrun rank 0 selects for all processes.

    Batch norm's statistics are re-estimated for the smaller network, from training images.

    Args:
        kept: files in which measurements are kept that serve several budgets.

    Raises:
        UsageError: the method cannot score this network, or the budget cannot be met.
    """

    def selected() -> Selection:
        console.print(f"choosing what to remove: {step.technique.label}, {step.budget}")
        started = time.monotonic()
        candidates = find_candidates(step.technique.choosing, network, scoring, kept)
        removed, measured = choose_removal(job, step, candidates, network, unpruned, kept)
        smaller = candidates.without(removed)
        check_held(step.budget, unpruned.size, candidates.order.size(removed), Size.of(smaller))
        seconds = time.monotonic() - started + scoring.seconds
        scoring.reestimate(smaller)
        achieved = unpruned.achieved(smaller) | measured
        console.print(unpruned.compared(step.budget, achieved))
        if measured and lags(achieved["speedup"], achieved["latency_ratio"][0]):
            console.print(
                f"MACs {achieved['speedup']:.2f} times fewer, {1 / achieved['latency_ratio'][1]:.2f} times as fast: "
                f"{remedy(step.technique, network.spec)}"
            )
        return Selection(network=smaller.cpu(), achieved=achieved, macs=scoring.macs, seconds=seconds)

    selection = current_world().on_leader(selected)
    return dataclasses.replace(selection, network=selection.network.to(job.device))


def choose_removal(
    job: Job,
    step: PruningStep,
    candidates: Candidates,
    network: Network,
    unpruned: Unpruned,
    kept: KeptFiles | None = None,
) -> tuple[Removed, dict[str, Any]]:
    """The units to remove from a network for a step's budget, and the latency measured for that, as results have it.

    Nothing is removed where an earlier step already met the budget.

    Raises:
        UsageError: the budget cannot be met.
    """
    if step.budget.latency_ratio is not None:
        return _choose_by_latency(job, step, candidates, network, kept)
    order, budget = candidates.order, step.budget
    within = math.inf if step.intermediate else NEAREST if step.technique.nearest else TOLERANCE
    if budget.ratio is not None and order.size(order.none) != unpruned.size:  # earlier steps removed some units
        excess = unpruned.left(network) - int(unpruned.units * (1 - budget.ratio)) - 0.5
        if excess <= 0:
            return order.none, {}
        if excess > sum(order.units) - len(order.units):
            raise UsageError(f"--ratio {budget.ratio:g}: the channels that are left are too few: take fewer --steps")
        budget = Budget(ratio=excess / sum(order.units))
    try:
        removed = meet(budget, order, whole=unpruned.size, within=within)
    except AlreadyMetError:
        if job.technique.steps == 1 or abs(Limit.of(budget, unpruned.size).off(order.size(order.none))) > within:
            raise
        return order.none, {}
    return removed, {}


class KeptLatency(Struct, frozen=True, kw_only=True):
    """The units removed for a latency budget, and the latency ratio that was measured."""

    removed: Removed
    measured: Quartiles


def _choose_by_latency(
    job: Job, step: PruningStep, candidates: Candidates, network: Network, kept: KeptFiles | None
) -> tuple[Removed, dict[str, Any]]:
    """The units to remove for a latency budget, measured now or read from a file: measuring again would differ."""
    ratio, timed, order = step.budget.latency_ratio, job.timed, candidates.order
    assert ratio is not None
    assert timed is not None
    machine = {key: value for key, value in describe(job.device).items() if key in ("device", "cpu", "gpu")}
    asked = {"ratio": ratio, "technique": step.technique.to_json(), "seed": job.seed, "machine": machine}
    digest = hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()[:8]
    file = kept(f"latency-{digest}") if kept else None
    before = read_kept(file, KeptLatency, "it is measured again") if file else None
    if before and len(before[1].removed) == len(order.units):
        return before[1].removed, {"latency_ratio": list(before[1].measured)}

    def measured(removed: Removed) -> Quartiles:
        return timed(network, candidates.without(removed).to(job.device))

    removed, quartiles = meet_latency(ratio, order, measured, nearest=step.technique.nearest)
    if file:
        write_json(file, {"removed": removed, "measured": quartiles})
    return removed, {"latency_ratio": list(quartiles)}


def _units(network: Network, ways: Mapping[Axis, int]) -> float:
    """The units that the layers write along these axes."""
    return float(sum(network.get_parameter(name).shape[dim] / channels for (name, dim), channels in ways.items()))
