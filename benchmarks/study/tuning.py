"""Tuning: the same few rates and decays tried for every arm of a study, the best kept, on validation images alone."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import product

from benchmarks.report.trials import Factors
from benchmarks.study.entry import StudyRun, Target
from compress.errors import UsageError
from compress.recipes import Recipe


def own_rate(entry: StudyRun, recipe: Recipe) -> float:
    """The highest rate that the recipe gives a pruned or control run: of fine-tuning, or of a control's training."""
    if entry.technique.kind == "control":
        return recipe.learning_rate
    return recipe.fine_tuning(entry.schedule).learning_rate


@dataclass(frozen=True, kw_only=True)
class Tuning:
    """What is tried: every rate with every decay, for the first seed and one budget of every arm.

    Attributes:
        rates, decays: factors on the recipe's (fine-tuning or training) rate and weight decay.
        at: which of an arm's budgets, counted from 1; None: the middle one.
        all: whether plainly trained runs are tuned too, and not those alone that are pruned or controls.
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
        """What is tried, lower rates first, the same for every arm."""
        return tuple(
            Factors(rate=rate, decay=decay) for rate, decay in product(sorted(self.rates), sorted(self.decays))
        )

    def includes(self, entry: StudyRun) -> bool:
        """Whether the entry is tuned."""
        return self.all or entry.command == "prune"

    def target(self, entry: StudyRun) -> Target | None:
        """The budget at which the entry is tuned; None for one that is trained."""
        targets = entry.targets
        return (
            targets[0] if targets == (None,) else targets[(len(targets) - 1) // 2 if self.at is None else self.at - 1]
        )

    def check(self, entry: StudyRun) -> None:
        """Refuse an entry that cannot be tuned alike."""
        if entry.command == "prune" and self.at is not None and self.at > len(entry.targets):
            raise UsageError(f"tuning: at {self.at}: run {entry.name} has {len(entry.targets)} budget(s)")
        if self.all and entry.command == "prune" and entry.from_ is None:
            raise UsageError(f"tuning all: run {entry.name} must name the tuned run that it prunes by from")
