"""Effort: what a job puts through its networks, in images of training; one that is only looked at counts a third."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from baselines.budget import Budget, meet
from baselines.channels import Channel, in_equal_shares, remove_channels
from baselines.controls import scratch_epochs
from baselines.coupling import Coupling
from baselines.criteria import IMAGES as PRIMING_IMAGES
from baselines.scoring_data import SEEN, SEEN_SHARE
from baselines.sensitivity import IMAGES as SENSITIVITY_IMAGES
from baselines.sensitivity import KEPT_SHARES
from baselines.technique import CONTROLS, CRITERIA, SHAPED, SPARSE, TAUGHT, Technique
from compress.data import Dataset
from compress.networks import Network
from compress.recipes import Recipe
from compress.training.batchnorm import REESTIMATION_IMAGES

LOOKED_AT = 1 / 3  # a forward pass, of the three that a step costs


@dataclass(frozen=True, kw_only=True)
class Images:
    """How many there are: `train` to train on, `validation` after every epoch, `test` and all held out at the end."""

    train: float
    validation: float
    end: float

    @property
    def judging(self) -> float:
        """What choices are judged on."""
        return self.validation or min(SEEN_SHARE * self.train, SEEN)

    @classmethod
    def of(cls, dataset: Dataset, recipe: Recipe) -> Images:
        """Of a data set as a recipe splits it."""
        every = len(dataset.train)
        held = recipe.calibration * every
        validation = len(dataset.validation) if dataset.validation else recipe.validation * every
        train = every - held - (0 if dataset.validation else validation)
        return cls(train=train, validation=validation, end=validation + held + len(dataset.test))

    def training(self, epochs: float) -> float:
        """What a training of so many epochs takes, evaluated after each and at its end."""
        return epochs * (self.train + LOOKED_AT * self.validation) + LOOKED_AT * self.end


@dataclass(frozen=True, kw_only=True)
class Effort:
    """Images of training, or what takes as long.

    Attributes:
        whole, smaller: through the network that is made smaller, and through what it becomes.
        once: through the whole one, but for all jobs together that share what it gives: by what that is.
    """

    whole: float = 0.0
    smaller: float = 0.0
    once: dict[str, float] = field(default_factory=dict)


def effort(
    technique: Technique,
    images: Images,
    whole: Network,
    recipe: Recipe,
    *,
    speedup: float,
    fine_tuning: int | None = None,
    scratch: int | None = None,
) -> Effort:
    """What a job takes, its reference's training not counted.

    Args:
        whole: the network that is made smaller.
        speedup: MACs before / after.
        fine_tuning, scratch: epochs, instead of the recipe's; those of scratch-b follow from its and the speed-up.
    """
    tuned, scratch = fine_tuning or recipe.fine_tune_epochs, scratch or recipe.epochs
    if technique.method in CONTROLS and technique.method not in SHAPED:
        taught = LOOKED_AT * scratch * images.train if technique.method == TAUGHT else 0
        return Effort(whole=taught, smaller=images.training(scratch))
    choosing, once = _choosing(technique.choosing, images, whole)
    reestimated = LOOKED_AT * min(REESTIMATION_IMAGES, images.train)
    if technique.method in SHAPED:
        epochs = scratch_epochs(technique.method, recipe.changed(epochs=scratch), speedup, 1)
        return Effort(whole=choosing, smaller=reestimated + images.training(epochs), once=once)
    if technique.method in SPARSE:
        once[technique.method] = images.training(recipe.fine_tune_epochs)
    before, steps = LOOKED_AT * images.validation, technique.steps
    if technique.gradual:  # equal prunings at equal distances over the first half
        share, every = (steps + 1) / (4 * steps), images.training(tuned)
    else:  # of a chain of networks from nearly whole to small
        share, every = (steps - 1) / (2 * steps), steps * (images.training(tuned) + reestimated + before)
    wholly = share * every + steps * (choosing + before)
    return Effort(whole=wholly, smaller=(1 - share) * every, once=once)


def _choosing(technique: Technique, images: Images, whole: Network) -> tuple[float, dict[str, float]]:
    """What choosing takes every time, and once for all budgets."""
    if technique.method == "blocks":  # each left out in turn, and what comes before it not run again
        return LOOKED_AT * images.judging * (1 + len(whole.spec.blocks) / 2), {}
    needs_gradients = technique.method in CRITERIA and CRITERIA[technique.method].needs_gradients
    every = float(min(PRIMING_IMAGES, images.train)) if needs_gradients else 0.0
    if not technique.allocate:
        return every, {}
    groups = sum(units > 1 for units in Coupling(whole).within(technique.scope, technique.keep).units)
    each = min(SENSITIVITY_IMAGES, images.train) + images.judging
    return every, {f"sensitivity {technique.method} {technique.scope}": LOOKED_AT * groups * len(KEPT_SHARES) * each}


def narrower(network: Network, budget: Budget) -> Network:
    """A uniformly narrower network of a budget's size: about as fast as what any scores would leave.

    Raises:
        UsageError: the budget, which is not one of latency, cannot be met.
    """
    scoped = Coupling(network).within("all")
    removed = meet(budget, in_equal_shares(scoped.units, scoped.size), within=math.inf)
    gone = zip(scoped.numbers, removed, strict=True)
    return remove_channels(network, [Channel(number, index) for number, count in gone for index in range(count)])
