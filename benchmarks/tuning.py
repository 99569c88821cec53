"""Tuning: the same few rates and decays tried for every arm of a study, the best kept, on validation images alone."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import pandas as pd

from benchmarks.entries import StudyRun, Target
from benchmarks.escaping import inline
from benchmarks.tables import MISSING, markdown, percent
from compress.errors import UsageError
from compress.recipes import Recipe
from compress.runs import Run


@dataclass(frozen=True, kw_only=True)
class Factors:
    """What the recipe's rate and weight decay are multiplied by."""

    rate: float | int = 1.0  # as the study writes it, so that records stay as they are
    decay: float | int = 1.0

    def __str__(self) -> str:
        """As in ``rate x0.3``, with the decay where it is another."""
        return f"rate x{self.rate:g}" + (f", decay x{self.decay:g}" if self.decay != 1 else "")

    def recipe(self, recipe: Recipe) -> Recipe:
        """The recipe with both multiplied; of fine-tuning nothing changes."""
        rate, decay = recipe.learning_rate * self.rate, recipe.weight_decay * self.decay
        return dataclasses.replace(recipe, learning_rate=rate, weight_decay=decay)

    def options(self, entry: StudyRun, recipe: Recipe) -> dict[str, Any]:
        """`prune`'s rate and decay for an entry; None where the recipe's own stays: that run is the untuned one."""
        return {
            "learning_rate": None if self.rate == 1 else own_rate(entry, recipe) * self.rate,
            "weight_decay": None if self.decay == 1 else recipe.weight_decay * self.decay,
        }


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


@dataclass(frozen=True, kw_only=True)
class Trial:
    """One of an arm's trials, as figures; None are those of one that failed.

    Attributes:
        arm: the entry's name.
        target: the budget, in words, of one that is pruned.
        accuracy: the last exit's on validation images.
        learning_rate, weight_decay: that its run had, the highest and the recipe's.
    """

    arm: str
    target: str | None = None
    factors: Factors
    accuracy: float | None = None
    learning_rate: float | None = None
    weight_decay: float | None = None

    @classmethod
    def of(cls, entry: StudyRun, target: Target | None, factors: Factors, run: Run | None) -> Trial:
        """The trial of an entry that made this run, or failed."""
        failed = cls(arm=entry.name, target=str(target) if target else None, factors=factors)
        if run is None:
            return failed
        recipe, accuracy = run.record.config["recipe"], float(run.exits[-1]["val_accuracy"])
        return dataclasses.replace(
            failed, accuracy=accuracy, learning_rate=recipe["learning_rate"], weight_decay=recipe["weight_decay"]
        )


def best(trials: Sequence[Trial]) -> Trial | None:
    """The trial of the highest validation accuracy, of equal ones that of the lowest rate, then decay.

    None where all failed. `trials` are in the order of `Tuning.factors`.
    """
    made = [(trial.accuracy, trial) for trial in trials if trial.accuracy is not None]
    return max(made, key=lambda one: one[0])[1] if made else None  # the first of equals


def tuning_section(trials: Sequence[Trial]) -> list[str]:
    """A row an arm, a column a trial, the chosen one bold; nothing where nothing was tuned."""
    if not trials:
        return []
    columns = list(dict.fromkeys(str(trial.factors) for trial in trials))
    lines = []
    for name in dict.fromkeys(trial.arm for trial in trials):
        own = [trial for trial in trials if trial.arm == name]
        winner = best(own)
        target = inline(f"{name} at {own[0].target}" if own[0].target else name)
        cells = {str(trial.factors): _cell(trial, chosen=trial is winner) for trial in own}
        chosen = f"{winner.learning_rate:.3g}, {winner.weight_decay:.3g}" if winner else MISSING
        lines.append({"arm": target} | cells | {"chosen rate, decay": chosen})
    return [
        "## Tuning",
        "Validation accuracy in per cent of the last exit, for one seed. Every arm here had the same number of trials, "
        f"{len(columns)}: its recipe's rate and weight decay times the same factors, at one of its budgets; what is "
        "not here was not tuned. The best (bold; of equal ones that of the lower rate) was used for all its budgets "
        "and seeds, and is itself one of the runs reported. The test images had no part in it.",
        markdown(pd.DataFrame(lines)),
    ]


def _cell(trial: Trial, *, chosen: bool) -> str:
    if trial.accuracy is None:
        return "failed"
    return f"**{percent(trial.accuracy)}**" if chosen else percent(trial.accuracy)
