"""The setting of a study: the data, the recipe and the place that its runs share, and the networks that follow."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from baselines import FineTuning
from benchmarks.results.claims import Claim
from benchmarks.study.entry import Entry, Pruned, Source, Trained
from benchmarks.study.study import Study
from compress.data import Dataset
from compress.ensemble_exit import whole_and_exit
from compress.errors import UsageError
from compress.networks import Architecture, Spec, initialised
from compress.recipes import RECIPES, Recipe
from compress.training import Method, Objective, Place, spec_to_train
from compress.training.methods import FROZEN

BP = Method(name="bp")


@dataclass(frozen=True, kw_only=True)
class Setting:
    """A study, with the data and the recipe of its runs, and where and how they are computed.

    Attributes:
        data_dir: where the data are looked for first when they are opened again.

    Raises:
        UsageError: the study tunes, and there are no validation images to tune on, or a claim compares two entries that
            are the same training.
    """

    study: Study
    dataset: Dataset
    recipe: Recipe
    place: Place
    data_dir: Path | None = None

    def __post_init__(self) -> None:
        train, own = len(self.dataset.train), self.dataset.validation
        if self.study.tuning and not own and not round(self.recipe.validation * train):
            raise UsageError(
                f"tuning: of {train:,} training images recipe {self.recipe.name} holds out none to tune on: take more "
                "of them, --recipe quick, or class folders with a val/ of their own"
            )
        for claim in self.study.claims:
            for name, other in claim.pairs.items():
                self._check_different(claim, whole_and_exit(name)[0], whole_and_exit(other)[0])

    def _check_different(self, claim: Claim, name: str, other: str) -> None:
        """Raise UsageError where two entries that a claim compares turn out to be one training."""
        entries = [self.study.entry(each) for each in (name, other)]
        trained = [entry for entry in entries if isinstance(entry, Trained)]
        if name == other or len(trained) < len(entries):
            return
        made = [(self.spec(entry), entry.method, self.training_recipe(entry)) for entry in trained]
        if made[0] == made[1]:
            raise UsageError(
                f"primary {claim.claim!r}: {name!r} and {other!r} are the same training of the same network here, for "
                f"{trained[0].recipe(self.recipe).epochs} epochs: leave the claim out, or change one of them"
            )

    def spec(self, entry: Entry) -> Spec:
        """The network that an entry trains, or the one that it prunes where it names an architecture."""
        images: dict[str, Any] = {"input_shape": self.dataset.input_shape, "classes": len(self.dataset.classes)}
        if isinstance(entry, Trained):
            return spec_to_train(entry.architecture, entry.method, entry.exits, **images)
        assert entry.arch is not None
        return spec_to_train(Architecture(entry.arch), BP, **images)

    def training_recipe(self, entry: Trained) -> Recipe:
        """The recipe of an entry that trains: with its own changes, and as many epochs as match another's MACs."""
        recipe = entry.recipe(self.recipe)
        if not entry.match_training:
            return recipe
        reference = self.study.entry(entry.match_training)
        assert isinstance(reference, Trained)
        epochs = recipe.epochs * self.image_macs(reference) / self.image_macs(entry)
        return dataclasses.replace(recipe, epochs=max(1, round(epochs)))

    def fine_tuning_recipe(self, entry: Pruned) -> Recipe:
        """The recipe with what the pruned network's own training changed in it, such as label smoothing."""
        source = self.source(entry)
        origin = self.study.entry(source.name) if source else None
        if isinstance(origin, Pruned):
            return self.fine_tuning_recipe(origin)
        return origin.recipe(self.recipe) if origin else self.recipe

    def fine_tuning(self, entry: Pruned) -> FineTuning:
        """How an entry is fine-tuned: for as large a share of the training's epochs as in the named recipe."""
        named = RECIPES[self.recipe.name]() if self.recipe.name in RECIPES else self.recipe
        if entry.technique.kind == "control" or self.recipe.epochs == named.epochs:
            return entry.fine_tuning
        epochs = max(1, round(self.recipe.fine_tune_epochs * self.recipe.epochs / named.epochs))
        return dataclasses.replace(entry.fine_tuning, epochs=epochs)

    def image_macs(self, entry: Trained) -> int:
        """`image_macs` of an entry's network."""
        spec = self.spec(entry)
        return image_macs(spec, entry.method.objective(spec))

    def source(self, entry: Pruned) -> Source | None:
        """What an entry prunes: what it names, else the earlier entry that trains its architecture by plain BP."""
        if entry.source is not None:
            return entry.source
        return next((Source(name=plain.name) for plain in self._plain(entry, self.spec(entry))), None)

    def trunk(self, entry: Trained) -> Source | None:
        """The earlier entry that trains the trunk which a frozen-trunk training starts from, if there is one."""
        if entry.method.name != FROZEN:
            return None
        spec, recipe = self.spec(entry), self.training_recipe(entry)
        trunks = self._plain(entry, dataclasses.replace(spec, exits=spec.exits[-1:]))
        return next((Source(name=plain.name) for plain in trunks if self.training_recipe(plain) == recipe), None)

    def _plain(self, entry: Entry, spec: Spec) -> Iterator[Trained]:
        """The entries before another one that train a network by plain BP, for the recipe's epochs."""
        for earlier in self.study.runs[: self.study.runs.index(entry)]:
            if not isinstance(earlier, Trained) or earlier.match_training:
                continue
            if earlier.method == BP and self.spec(earlier) == spec:
                yield earlier


@cache
def image_macs(spec: Spec, objective: Objective) -> int:
    """The MACs of a training step of a network, for each image."""
    return objective.macs_an_image(initialised(spec, 0))
