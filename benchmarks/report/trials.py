"""Trials: what tuning tried for an arm, and which trial is the best."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

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

    def options(self, rate: float, decay: float) -> dict[str, Any]:
        """`prune`'s rate and decay, from untuned ones; None where these stay: that run is the untuned one."""
        return {
            "learning_rate": None if self.rate == 1 else rate * self.rate,
            "weight_decay": None if self.decay == 1 else decay * self.decay,
        }


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
    def of(cls, arm: str, target: str | None, factors: Factors, run: Run | None) -> Trial:
        """The trial of an arm that made this run, or failed."""
        failed = cls(arm=arm, target=target, factors=factors)
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
