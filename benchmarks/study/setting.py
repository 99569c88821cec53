"""The setting of a study: the data, the recipe and the place that its runs share, and the networks that follow."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from benchmarks.study.entry import Entry, Pruned, Source, Trained
from benchmarks.study.study import Study
from compress.data import Dataset
from compress.errors import UsageError
from compress.networks import Architecture, Spec
from compress.recipes import Recipe
from compress.training import Method, Place, spec_to_train

BP = Method(name="bp")


@dataclass(frozen=True, kw_only=True)
class Setting:
    """A study, with the data and the recipe of its runs, and where and how they are computed.

    Raises:
        UsageError: the study tunes, and there are no validation images to tune on.
    """

    study: Study
    dataset: Dataset
    recipe: Recipe
    place: Place

    def __post_init__(self) -> None:
        train, own = len(self.dataset.train), self.dataset.validation
        if self.study.tuning and not own and not round(self.recipe.validation * train):
            raise UsageError(
                f"tuning: of {train:,} training images recipe {self.recipe.name} holds out none to tune on: take more "
                "of them, --recipe quick, or class folders with a val/ of their own"
            )

    def spec(self, entry: Entry) -> Spec:
        """The network that an entry trains, or the one that it prunes where it names an architecture."""
        images: dict[str, Any] = {"input_shape": self.dataset.input_shape, "classes": len(self.dataset.classes)}
        if isinstance(entry, Trained):
            return spec_to_train(entry.architecture, entry.method, entry.exits, **images)
        assert entry.arch is not None
        return spec_to_train(Architecture(entry.arch), BP, **images)

    def source(self, entry: Pruned) -> Source | None:
        """What an entry prunes: what it names, else the earlier entry that trains its architecture by plain BP."""
        if entry.source is not None:
            return entry.source
        for earlier in self.study.runs[: self.study.runs.index(entry)]:
            if isinstance(earlier, Trained) and earlier.method == BP and self.spec(earlier) == self.spec(entry):
                return Source(name=earlier.name)
        return None
