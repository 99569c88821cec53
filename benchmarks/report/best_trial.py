"""Trials: the learning rates and weight decays that tuning tried for an arm, and which trial was the best."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from compress.recipes import Recipe
from compress.runs import Run


@dataclass(frozen=True, kw_only=True)
class Factors:
    """Factors of a recipe's learning rate and weight decay."""

    rate: float | int = 1.0  # an integer stays one in records, as the study wrote it
    decay: float | int = 1.0

    def __str__(self) -> str:
        """As in ``rate x0.3``, or ``rate x0.3, decay x2`` if the decay changes."""
        return f"rate x{self.rate:g}" + (f", decay x{self.decay:g}" if self.decay != 1 else "")

    def recipe(self, recipe: Recipe) -> Recipe:
        """The recipe with both multiplied; its fine-tuning stays unchanged."""
        rate, decay = recipe.learning_rate * self.rate, recipe.weight_decay * self.decay
        return dataclasses.replace(recipe, learning_rate=rate, weight_decay=decay)

    def options(self, rate: float, decay: float) -> dict[str, Any]:
        """Options of fine-tuning from the untuned rate and decay; None if a factor is 1, as in the untuned run."""
        return {
            "learning_rate": None if self.rate == 1 else rate * self.rate,
            "weight_decay": None if self.decay == 1 else decay * self.decay,
        }


@dataclass(frozen=True, kw_only=True)
class Trial:
    """A trial of an arm; its accuracy, rate and decay are None if it failed.

    Attributes:
        arm: name of the study's entry.
        target: the budget in words, if the arm is pruned.
        accuracy: of the last exit on validation images.
        learning_rate: the highest of its run.
        weight_decay: of its run's recipe.
    """

    arm: str
    target: str | None = None
    factors: Factors
    accuracy: float | None = None
    learning_rate: float | None = None
    weight_decay: float | None = None

    @classmethod
    def of(cls, arm: str, target: str | None, factors: Factors, run: Run | None) -> Trial:
        """The trial of an arm that made this run; None: the trial failed."""
        failed = cls(arm=arm, target=target, factors=factors)
        if run is None:
            return failed
        recipe, accuracy = run.record.config["recipe"], float(run.exits[-1]["val_accuracy"])
        return dataclasses.replace(
            failed, accuracy=accuracy, learning_rate=recipe["learning_rate"], weight_decay=recipe["weight_decay"]
        )


def best(trials: Sequence[Trial]) -> Trial | None:
    """The trial with the highest validation accuracy, the first of equal ones; None if all failed.

    `trials` are in the order of `Tuning.factors`: by rate, then by decay.
    """
    made = [(trial.accuracy, trial) for trial in trials if trial.accuracy is not None]
    return max(made, key=lambda pair: pair[0])[1] if made else None
