"""Tuning: the same few learning rates and weight decays, tried for every arm of a study on validation images alone."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import product

from benchmarks.report.best_trial import Factors
from benchmarks.study.entry import Entry, Pruned, Target
from compress.errors import UsageError
from compress.recipes import Recipe


def untuned_rate(entry: Pruned, recipe: Recipe) -> float:
    """The highest learning rate that the recipe gives an entry: of fine-tuning, or of a control's training."""
    if entry.technique.kind == "control":
        return recipe.learning_rate
    return recipe.fine_tuning(entry.fine_tuning.schedule).learning_rate


@dataclass(frozen=True, kw_only=True)
class Tuning:
    """What is tried: every rate with every decay, for the first seed and one budget of every arm.

    Attributes:
        rates, decays: factors on the recipe's learning rate (of fine-tuning or training) and weight decay.
        at: which of an arm's budgets is tuned, counted from 1; None: the middle one.
        all: whether runs that train a network are tuned too, besides those that are pruned and their controls.
    """

    rates: tuple[float, ...] = (1.0,)
    decays: tuple[float, ...] = (1.0,)
    at: int | None = None
    all: bool = False

    def __post_init__(self) -> None:
        for name, factors in (("rates", self.rates), ("decays", self.decays)):
            if not factors or len(set(factors)) < len(factors) or not all(0 < factor < math.inf for factor in factors):
                raise UsageError(f"tuning: {name} are one or more different factors above 0, as in [0.3, 1, 3]")
        if self.at is not None and self.at < 1:
            raise UsageError(f"tuning: at {self.at}: which of an arm's budgets is tuned, counted from 1")

    @property
    def factors(self) -> tuple[Factors, ...]:
        """The factors of every trial, lower rates first."""
        pairs = product(sorted(self.rates), sorted(self.decays))
        return tuple(Factors(rate=rate, decay=decay) for rate, decay in pairs)

    def includes(self, entry: Entry) -> bool:
        """Whether the entry is tuned."""
        return self.all or isinstance(entry, Pruned)

    def target(self, entry: Entry) -> Target | None:
        """The budget at which the entry is tuned; None for one that trains."""
        if not isinstance(entry, Pruned):
            return None
        return entry.targets[(len(entry.targets) - 1) // 2 if self.at is None else self.at - 1]

    def check(self, entry: Entry) -> None:
        """Refuse an entry that cannot be tuned like the others.

        Raises:
            UsageError: it has no budget number `at`; or all are tuned, and it names no tuned run to start from.
        """
        if not isinstance(entry, Pruned):
            return
        if self.at is not None and self.at > len(entry.targets):
            raise UsageError(f"tuning: at {self.at}: run {entry.name} has {len(entry.targets)} budget(s)")
        if self.all and entry.source is None:
            raise UsageError(f"tuning all: run {entry.name} must name the tuned run that it prunes by from")
