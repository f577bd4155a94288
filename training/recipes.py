"""The table of recipes: the defaults here, the experiments beside it. A new one is a new entry."""

from __future__ import annotations

from training.experiments import EXPERIMENTS
from training.recipe import Airbench, Augment, BadRecipe, Dense, Recipe

WORN = Augment(shift=2, rotate=25, scale=0.15, shear=15, wear=0.5)  # how pictures of it vary
HAND = Augment(shift=2, rotate=10, scale=0.1, shear=5)  # how handwriting varies
GARMENT = Augment(flip="alternating", shift=2, cutout=10)

_DEFAULTS = (
    Recipe(
        name="mnist-mlp256x2",
        summary="The classic: two hidden layers of 256, nothing else.",
        dataset="mnist",
        net=Dense(hidden=(256, 256)),
        epochs=20,
        batch_size=128,
        optimizer="adam",
        peak_lr=1e-3,
        schedule="constant",
        patience=6,
        precision="fp32",
        min_accuracy=0.975,
        reported=0.980,
    ),
    Recipe(
        name="mnist-cnn",
        summary="The digits' default: small enough to answer in a twentieth of a millisecond.",
        dataset="mnist",
        net=Airbench(widths=(16, 32, 64)),
        epochs=24,
        batch_size=256,
        optimizer="muon",
        peak_lr=0.05,
        weight_decay=1e-3,
        label_smoothing=0.05,
        ema=0.995,
        augment=HAND,
        min_accuracy=0.995,
    ),
    Recipe(
        name="mnist-cnn-robust",
        summary="For digits as people send them: turned, thick, thin, blurred, noisy, crossed.",
        dataset="mnist",
        net=Airbench(widths=(24, 48, 96)),
        epochs=32,
        batch_size=256,
        optimizer="muon",
        peak_lr=0.05,
        weight_decay=1e-3,
        label_smoothing=0.05,
        ema=0.995,
        augment=WORN,
        outliers=0.2,
        min_accuracy=0.994,
    ),
    Recipe(
        name="fashion-cnn",
        summary="The garments' default.",
        dataset="fashion-mnist",
        net=Airbench(widths=(32, 64, 128)),
        epochs=24,
        batch_size=256,
        optimizer="muon",
        peak_lr=0.05,
        weight_decay=1e-3,
        label_smoothing=0.05,
        ema=0.995,
        augment=GARMENT,
        uncertain_rate=0.05,
        min_accuracy=0.935,
    ),
    Recipe(
        name="mnist-tiny",
        summary="Under 5 MMAC and 0.1 M parameters, refitted on train and validation.",
        dataset="mnist",
        net=Airbench(widths=(16, 32, 64)),
        epochs=24,
        batch_size=256,
        optimizer="muon",
        peak_lr=0.05,
        label_smoothing=0.05,
        ema=0.998,
        augment=HAND,
        split="refit",
        teacher="mnist-best",
        min_accuracy=0.995,
    ),
    Recipe(
        name="mnist-best",
        summary="Three times the width; the teacher of mnist-tiny.",
        dataset="mnist",
        net=Airbench(widths=(32, 64, 128)),
        epochs=16,
        batch_size=256,
        optimizer="muon",
        peak_lr=0.05,
        label_smoothing=0.05,
        ema=0.998,
        augment=HAND,
        split="refit",
        min_accuracy=0.995,
    ),
    Recipe(
        name="cifar10-tiny",
        summary="Objects in colour, under 40 MMAC and 0.7 M parameters.",
        dataset="cifar10",
        net=Airbench(widths=(32, 96, 128)),
        epochs=10,
        batch_size=512,
        optimizer="muon",
        peak_lr=0.1,
        label_smoothing=0.1,
        ema=0.995,
        augment=Augment(flip="alternating", shift=2),
        uncertain_rate=0.10,
        min_accuracy=0.85,
    ),
)

RECIPES: dict[str, Recipe] = {recipe.name: recipe for recipe in (*_DEFAULTS, *EXPERIMENTS)}


def recipe_named(name: str) -> Recipe:
    """Raises BadRecipe when there is none."""
    if name not in RECIPES:
        raise BadRecipe(f"no recipe is called {name!r}; `vitrine-train list` shows them")
    return RECIPES[name]
