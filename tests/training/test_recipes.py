"""A recipe that cannot work is refused when it is made, with the field and what was expected."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from training.recipe import Airbench, BadRecipe, Convolutional, Dense, settings
from training.recipes import RECIPES, recipe_named

GOOD = RECIPES["mnist-cnn"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"dataset": "svhn"}, "dataset is 'svhn', expected one of mnist"),
        ({"epochs": 0}, "epochs is 0, expected a whole number from 1"),
        ({"batch_size": 2.5}, "batch_size is 2.5"),
        ({"peak_lr": -1.0}, "peak_lr is -1.0, expected a number above 0"),
        ({"peak_lr": float("nan")}, "peak_lr is nan"),
        ({"ema": 1.0}, "ema is 1.0"),
        ({"min_accuracy": 99.5}, "min_accuracy is 99.5, expected a share"),
        ({"optimizer": "lion"}, "optimizer is 'lion', expected one of sgd"),
        ({"split": "refit", "patience": 3}, "refit leaves none to validate"),
        ({"loss": "mse"}, "label_smoothing is 0.05, expected 0 with the loss mse"),
        (
            {"optimizer": "adam", "norm_lr": 18.0},
            "norm_lr is 18.0, expected 0.1, since only muon reads it",
        ),
        ({"net": Dense(hidden=(8, 0))}, "net.hidden"),
        ({"net": Dense(hidden=(8,), dropout=(0.1, 0.1))}, "net.dropout"),
        ({"net": Airbench(widths=(8,) * 6)}, "group 4 would halve a map of 1 x 1"),
        (
            {"net": Convolutional(filters=(6, 16, 32), kernel=5, hidden=(120,))},
            "convolution 3 of 5 x 5 leaves a map of 0 x 0",
        ),
    ],
)
def test_a_bad_value_is_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(BadRecipe, match=message):
        replace(GOOD, **change)


def test_an_unknown_recipe_is_refused_by_name() -> None:
    with pytest.raises(BadRecipe, match="mnist-transformer"):
        recipe_named("mnist-transformer")


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipes_settings_are_json_and_complete(name: str) -> None:
    record = json.loads(json.dumps(settings(RECIPES[name])))
    assert record["name"] == name
    assert record["net"]["type"] == type(RECIPES[name].net).__name__
