"""A plan: what a run is to do, complete before it starts, with its configuration and its id."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from compress.data import Dataset, Split, split, training_images
from compress.errors import UsageError
from compress.hardware import Precision
from compress.networks import Spec
from compress.recipes import Recipe
from compress.records import without_seed
from compress.runs import Run, directory_of
from compress.training.objectives import Objective


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What is to be done, complete before it starts; equal plans are the same run.

    Attributes:
        name: of the network, as reports write it; in lower case the beginning of the run's id.
        spec: of the network before anything is pruned, to which the objective belongs.
        request: what pruning was asked for; part of the configuration.
        command: the shell command that does the same.
        parent: the run that this one starts from, and whose training cost it bears.
        teacher: the run whose logits are distilled.
        initial: digest of the weights to start from, where they are given.
        code: digest of the code of somebody else's net.
        compile: whether blocks run compiled.
    """

    name: str
    kind: str
    method: str
    objective: Objective
    spec: Spec
    recipe: Recipe
    dataset: Dataset
    seed: int
    precision: Precision
    device: torch.device
    runs: Path
    command: str
    parent: Run | None = None
    teacher: Run | None = None
    initial: str | None = None
    code: str | None = None
    compile: bool = False
    request: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_seed(self.seed)

    @cached_property
    def config(self) -> dict[str, Any]:
        """The resolved configuration: all that decides the result but the hardware."""
        config = {
            "kind": self.kind,
            "method": self.method,
            "objective": self.objective.to_json(),
            "spec": self.spec.to_json(),
            "recipe": self.recipe.to_json(),
            "data": self.dataset.digest,
            "normalisation": published_normalisation(self.dataset),
            "augmentable": self.dataset.augmentable,
            "seed": self.seed,
            "precision": self.precision,
            "parent": self.parent.id if self.parent else None,
            "reference": without_seed(self.parent.record.config) if self.parent else None,
            "teacher": self.teacher.id if self.teacher else None,
            "teacher_reference": without_seed(self.teacher.record.config) if self.teacher else None,
            "initial": self.initial,
            "code": self.code,
            "compile": self.compile,
            "request": self.request,
        }
        return config | ({"batch_size": self.fewer} if self.fewer else {})

    @cached_property
    def fewer(self) -> int | None:
        """Images a step where they are fewer than the recipe's, as there are few: see `Recipe.batch`."""
        return batch_for_few(self.recipe, self.dataset)

    @cached_property
    def path(self) -> Path:
        """The run's directory; the one it has already, where its data bore another name."""
        data = re.sub(r"[^\w.-]", "-", self.dataset.name.rstrip("/").rpartition("/")[2])
        name = self.name.lower().replace("-", "", 1).replace(" ", "-")
        return directory_of(self.runs, name, data, self.seed, self.config)

    @cached_property
    def title(self) -> str:
        """What progress lines call the run."""
        return f"{self.name} on {self.dataset.name}, seed {self.seed}"


def batch_for_few(recipe: Recipe, dataset: Dataset) -> int | None:
    """The batch by which a recipe trains on so few images that it is not the recipe's; None where it is."""
    images = training_images(dataset, validation=recipe.validation, calibration=recipe.calibration)
    batch = recipe.batch(images)
    return batch if batch < min(recipe.batch_size, images) else None


def split_by(recipe: Recipe, dataset: Dataset) -> Split:
    """The training, validation, calibration and test images of a data set, as a recipe divides them."""
    return split(dataset, validation=recipe.validation, calibration=recipe.calibration, seed=recipe.split_seed)


def published_normalisation(dataset: Dataset) -> dict[str, list[float]] | None:
    """The constants that a data set is normalised by, as a record has them; None where they are measured."""
    published = dataset.normalisation
    return {"mean": list(published.mean), "std": list(published.std)} if published else None


def check_seed(seed: int) -> None:
    """Raise UsageError for a seed that torch or numpy would not take."""
    if not 0 <= seed < 2**63:
        raise UsageError(f"seed {seed}: a whole number from 0 on, below 2**63")
