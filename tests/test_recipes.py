"""Recipes: round trip through JSON, fine-tuning, changes, and the options that give a recipe."""

import json
import math
from dataclasses import replace
from typing import Any

import pytest

from compress.errors import UsageError
from compress.recipes import OF_REFERENCE, RECIPES, Recipe, is_named, options_of


@pytest.mark.parametrize("name", sorted(RECIPES))
def test_a_recipe_comes_back_from_json(name: str) -> None:
    recipe = RECIPES[name]()
    assert Recipe.from_json(json.loads(json.dumps(recipe.to_json()))) == recipe


@pytest.mark.parametrize("name", sorted(RECIPES))
def test_fine_tuning_changes_the_rate_alone_or_restarts_it_and_the_length(name: str) -> None:
    recipe = RECIPES[name]()
    restarted = replace(recipe, epochs=recipe.fine_tune_epochs)
    assert recipe.fine_tuning("restart") == restarted
    rate, milestones = recipe.fine_tune_learning_rate, recipe.fine_tune_milestones
    assert recipe.fine_tuning() == replace(restarted, learning_rate=rate, milestones=milestones)
    assert recipe.fine_tuning().learning_rate < recipe.fine_tuning("restart").learning_rate


def test_the_options_of_a_recipe_are_what_it_changes() -> None:
    recipe = RECIPES["quick"]()
    assert options_of(replace(recipe, epochs=9)) == []
    assert options_of(recipe.changed(batch_size=48)) == ["--batch-size", "48"]  # not what few images would get
    changed = recipe.changed(learning_rate=0.1, weight_decay=1e-5)
    assert options_of(changed) == ["--learning-rate", "0.1", "--weight-decay", "1e-05"]


def test_an_unknown_schedule_is_refused() -> None:
    with pytest.raises(UsageError, match="did you mean 'restart'"):
        RECIPES["quick"]().fine_tuning("restrt")  # type: ignore[arg-type]


def test_only_what_is_given_changes() -> None:
    recipe = RECIPES["quick"]()
    assert recipe.changed() == recipe
    assert recipe.changed(weight_decay=0.0) == replace(recipe, weight_decay=0.0)
    assert recipe.changed(epochs=2, learning_rate=0.3) == replace(recipe, epochs=2, learning_rate=0.3)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"epochs": -1}, "epochs -1 must be 0 or more"),
        ({"batch_size": 0}, "batch_size 0 must be 1 or more"),
        ({"learning_rate": 0.0}, "learning-rate 0: must be above 0"),
        ({"learning_rate": math.nan}, "learning_rate nan"),
        ({"learning_rate": math.inf}, "learning_rate inf"),
        ({"weight_decay": -1e-4}, "weight_decay -0.0001 must be 0 or more"),
        ({"weight_decay": math.nan}, "weight_decay nan"),
    ],
)
def test_changes_out_of_range_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        RECIPES["quick"]().changed(**changes)


def test_a_warmup_is_refused_where_the_schedule_has_none() -> None:
    assert RECIPES["quick"]().changed(warmup=0.3).warmup == 0.3
    with pytest.raises(UsageError, match=r"warmup 0.3: recipe paper has none: its schedule is multi-step"):
        RECIPES["paper"]().changed(warmup=0.3)


def test_a_command_can_ask_for_a_named_recipe_of_any_length_and_no_other() -> None:
    recipe = RECIPES["quick"]()
    assert is_named(recipe)
    assert is_named(replace(recipe, epochs=7, stochastic_depth=0.2))
    assert is_named(replace(recipe, learning_rate=0.3, weight_decay=0.0, batch_size=7))
    assert not is_named(replace(recipe, learning_rate=0.3), OF_REFERENCE)  # prune's rate is that of fine-tuning
    assert not is_named(replace(recipe, fine_tune_epochs=9))
    assert not is_named(replace(recipe, name="mine"))
    assert not is_named(replace(recipe, name="paper"))
