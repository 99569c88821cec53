"""A plan's data: the last split of a data set is kept as long as the data set, for the next run."""

import gc
import weakref
from dataclasses import replace

from compress.data import Dataset
from compress.recipes import recipe_named
from compress.training.plan import split_by


def test_the_same_split_is_made_once_and_kept_no_longer_than_its_data_set(tiny: Dataset) -> None:
    recipe, dataset = recipe_named("quick"), replace(tiny, name="mine")
    first = split_by(recipe, dataset)
    assert split_by(replace(recipe, epochs=9), dataset) is first
    other = split_by(replace(recipe, split_seed=recipe.split_seed + 1), dataset)
    assert other is not first
    assert other.normalisation != first.normalisation  # of other images
    assert split_by(recipe, replace(tiny, name="other")) is not first
    kept = weakref.ref(other)
    del other, dataset
    gc.collect()
    assert kept() is None
