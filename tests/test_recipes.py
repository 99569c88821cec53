"""Recipes: what a record keeps of one gives the same one back."""

import json

import pytest

from compress.recipes import RECIPES, Recipe


@pytest.mark.parametrize("name", sorted(RECIPES))
def test_a_recipe_comes_back_from_json(name: str) -> None:
    recipe = RECIPES[name]()
    assert Recipe.from_json(json.loads(json.dumps(recipe.to_json()))) == recipe
