"""How a model was trained otherwise than its recipe says now."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from training.recipe import BadRecipe, Recipe, from_settings
from training.recipes import RECIPES

# What says nothing about how a model was trained.
BESIDE = (
    *("name", "summary", "note", "min_accuracy", "reported", "seed"),
    *("uncertain_rate", "alien_rate"),
)


def changes(settings: dict[str, Any]) -> list[str]:
    """Of the `settings` in a manifest or result: "epochs 1 instead of 5", one for each field."""
    recipe = RECIPES.get(str(settings.get("name")))
    if recipe is None:
        return ["by a recipe that is gone"]
    try:
        trained = from_settings(settings)
    except BadRecipe:
        return ["by a recipe of another release"]
    return [
        difference(trained, recipe, entry.name)
        for entry in fields(Recipe)
        if entry.name not in BESIDE and getattr(trained, entry.name) != getattr(recipe, entry.name)
    ]


def difference(trained: Recipe, recipe: Recipe, name: str) -> str:
    was, wanted = getattr(trained, name), getattr(recipe, name)
    if isinstance(was, int | float | str):
        return f"{name} {was or 'none'} instead of {wanted or 'none'}"
    return f"another {name}"
