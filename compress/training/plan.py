"""A plan: everything that a run does, complete before it starts, with its configuration and id."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

import torch

from compress.data import Augmentation, Dataset, Labelled, Split, split, training_images
from compress.errors import UsageError
from compress.hardware import Precision
from compress.networks import Spec
from compress.recipes import Recipe
from compress.records import without_seed
from compress.run_ids import directory_of
from compress.runs import Run
from compress.training.objectives import Objective


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Everything that a run does, complete before it starts. Equal configurations are the same run.

    Attributes:
        name: name of the network in reports; in lower case the beginning of the run's id.
        spec: spec of the network before pruning, to which the objective belongs.
        request: options of pruning; part of the configuration.
        command: shell command that makes the same run.
        parent: run that this run starts from; its training cost is added.
        teacher: run whose logits are distilled.
        initial: digest of given initial weights.
        code: digest of the code of a foreign network.
        compile: whether blocks are compiled.
        ensemble: number of last exits whose averaged logits are one more prediction; 0: none.
        capture: whether steps are captured where the device is a GPU.
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
    ensemble: int = 0
    capture: bool = True
    request: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_seed(self.seed)

    @cached_property
    def config(self) -> dict[str, Any]:
        """The resolved configuration: everything that determines the result but the hardware."""
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
        if self.device.type == "cuda" and not self.capture:  # the last bits differ; on a CPU there is one way
            config["capture"] = False
        later = {"batch_size": self.fewer, "ensemble": self.ensemble}  # only where they are used: ids are digests
        return config | {key: value for key, value in later.items() if value}

    @cached_property
    def fewer(self) -> int | None:
        """The batch size if few images make it smaller than the recipe's (see `Recipe.batch`), else None."""
        return batch_for_few(self.recipe, self.dataset)

    @cached_property
    def path(self) -> Path:
        """The run's directory; an existing one if the same run was made under another name of its data."""
        data = re.sub(r"[^\w.-]", "-", self.dataset.name.rstrip("/").rpartition("/")[2])
        name = self.name.lower().replace("-", "", 1).replace(" ", "-")
        return directory_of(self.runs, name, data, self.seed, self.config)

    @cached_property
    def title(self) -> str:
        """The name of the run in progress lines."""
        return f"{self.name} on {self.dataset.name}, seed {self.seed}"


def batch_for_few(recipe: Recipe, dataset: Dataset) -> int | None:
    """The batch size if few images make it smaller than the recipe's, else None."""
    images = training_images(dataset, validation=recipe.validation, calibration=recipe.calibration)
    batch = recipe.batch(images)
    return batch if batch < min(recipe.batch_size, images) else None


def augmentation_by(recipe: Recipe, seed: int, *, augmentable: bool) -> Augmentation:
    """How a recipe changes training images at random; not at all where the data set does not allow it."""
    if not augmentable:
        return Augmentation(padding=0, flip="none", seed=seed)
    return Augmentation(padding=recipe.crop_padding, flip=recipe.flip, crop=recipe.crop, seed=seed)


def split_by(recipe: Recipe, dataset: Dataset) -> Split:
    """The training, validation, calibration and test images of a data set, as a recipe divides them.

    The last one of images in memory is kept as long as their data set, as one run after another divides it alike.
    """
    wanted = recipe.validation, recipe.calibration, recipe.split_seed
    kept = _last_splits.get(dataset)
    if kept is not None and kept[0] == wanted:
        return kept[1]
    found = split(dataset, validation=recipe.validation, calibration=recipe.calibration, seed=recipe.split_seed)
    if isinstance(dataset.train, Labelled):  # images on disk come with processes that read them
        _last_splits[dataset] = wanted, found
    return found


_last_splits: WeakKeyDictionary[Dataset, tuple[tuple[float, float, int], Split]] = WeakKeyDictionary()


def published_normalisation(dataset: Dataset) -> dict[str, list[float]] | None:
    """The published normalisation of a data set, as a record has it; None if it is measured instead."""
    published = dataset.normalisation
    return {"mean": list(published.mean), "std": list(published.std)} if published else None


def check_seed(seed: int) -> None:
    """Raise UsageError for a seed that torch or numpy do not accept."""
    if not 0 <= seed < 2**63:
        raise UsageError(f"seed {seed}: a whole number from 0 on, below 2**63")
