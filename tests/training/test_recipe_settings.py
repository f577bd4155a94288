"""A recipe's settings, as a manifest keeps them, make the recipe again."""

from __future__ import annotations

import json

import pytest

from training.recipe import BadRecipe, from_settings, settings
from training.recipes import RECIPES


@pytest.mark.parametrize("name", RECIPES)
def test_settings_make_their_recipe_again(name: str) -> None:
    recipe = RECIPES[name]
    assert from_settings(json.loads(json.dumps(settings(recipe)))) == recipe


def test_settings_of_an_older_release_take_defaults_and_lose_what_is_gone() -> None:
    recipe = RECIPES["mnist-cnn"]
    record = settings(recipe) | {"dropped": 3}
    del record["outliers"]
    assert from_settings(record) == recipe


@pytest.mark.parametrize("net", [{"type": "Unheard"}, {"type": "dataclass"}, {}])
def test_settings_that_make_no_recipe_are_refused(net: dict[str, str]) -> None:
    with pytest.raises(BadRecipe, match="mnist-cnn: its settings are of another release"):
        from_settings(settings(RECIPES["mnist-cnn"]) | {"net": net})
