"""The table of recipes: the defaults here, the experiments beside it. A new one is a new entry."""

from __future__ import annotations

from dataclasses import replace

from training.experiments import EXPERIMENTS
from training.recipe import Airbench, Augment, Backbone, BadRecipe, Dense, Recipe, Residual

WORN = Augment(shift=1, rotate=22, scale=0.12, shear=12, wear=0.4)  # how pictures of it vary
HAND = Augment(shift=2, rotate=10, scale=0.1, shear=5)  # how handwriting varies
GARMENT = Augment(flip="alternating", shift=2, cutout=10)

_TINY = Recipe(
    name="mnist-tiny",
    summary="Under 5 MMAC and 0.1 M parameters, taught by mnist-best.",
    dataset="mnist",
    net=Airbench(widths=(16, 32, 64)),
    epochs=40,
    batch_size=256,
    optimizer="muon",
    peak_lr=0.05,
    label_smoothing=0.05,
    ema=0.998,
    augment=HAND,
    split="refit",
    teacher="mnist-best",
    min_accuracy=0.995,
)
_FASHION_TINY = replace(
    _TINY,
    name="fashion-tiny",
    summary="Under 15 MMAC and 0.3 M parameters, taught by fashion-best.",
    dataset="fashion-mnist",
    net=Airbench(widths=(32, 64, 128)),
    augment=GARMENT,
    teacher="fashion-best",
    uncertain_rate=0.05,
    min_accuracy=0.94,
)
_OBJECTS = Recipe(
    name="cifar10-best",
    summary="cifar10-fast's net for longer, with cutout; the teacher of cifar10-tiny.",
    dataset="cifar10",
    net=Airbench(widths=(64, 256, 256)),
    epochs=40,
    batch_size=512,
    optimizer="muon",
    peak_lr=0.1,
    label_smoothing=0.1,
    ema=0.995,
    augment=Augment(flip="alternating", shift=2, cutout=8),
    split="refit",
    uncertain_rate=0.10,
    min_accuracy=0.93,
)
_OBJECTS_FAST = replace(
    _OBJECTS,
    name="cifar10-fast",
    summary="94 % of objects, six views averaged, in as little time as two cores allow.",
    epochs=16,
    peak_lr=0.12,
    head_lr=0.0055,
    norm_lr=18.0,
    weight_decay=0.12,
    warmup=0.1,
    augment=replace(_OBJECTS.augment, cutout=0),
    min_accuracy=0.92,
)


def _views(recipe: Recipe) -> Recipe:
    """A recipe's weights as they are, averaging six views."""
    name = recipe.name
    assert isinstance(recipe.net, Airbench)
    return replace(
        recipe,
        name=f"{name}-views",
        summary=f"{name} as it is; six views of each image, mirrored and moved, are averaged.",
        net=replace(recipe.net, views=6),
        epochs=0,
        init_from=name,
    )


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
        summary="Small enough to answer in a twentieth of a millisecond.",
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
        summary="The digits' default: digits as people send them, turned, thin, blurred, crossed.",
        dataset="mnist",
        net=Airbench(widths=(32, 64, 128)),
        epochs=36,
        batch_size=256,
        optimizer="muon",
        peak_lr=0.05,
        weight_decay=1e-3,
        label_smoothing=0.05,
        ema=0.995,
        augment=WORN,
        outliers=0.1,
        min_accuracy=0.994,
    ),
    Recipe(
        name="fashion-cnn",
        summary="The garments' default: nearly as accurate as fashion-tiny, and knows strangers.",
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
        name="fashion-efficientnet-lite0",
        summary="EfficientNet-Lite0 from ImageNet's weights, at a size that two cores can afford.",
        dataset="fashion-mnist",
        net=Backbone(architecture="efficientnet_lite0", resolution=64),
        epochs=6,
        batch_size=128,
        optimizer="adam",
        peak_lr=2e-3,
        label_smoothing=0.05,
        ema=0.995,
        augment=GARMENT,
        uncertain_rate=0.05,
        min_accuracy=0.93,
    ),
    _TINY,
    replace(
        _TINY,
        name="mnist-best",
        summary="Four times the width of mnist-tiny, and its teacher.",
        net=Airbench(widths=(64, 128, 256)),
        epochs=24,
        teacher="",
    ),
    Recipe(
        name="mnist-mlp-best",
        summary="No convolution: two hidden layers of 512, taught by mnist-best.",
        dataset="mnist",
        net=Dense(hidden=(512, 512), activation="gelu", dropout=(0.1, 0.1)),
        epochs=80,
        batch_size=256,
        optimizer="adam",
        peak_lr=1.5e-3,
        ema=0.998,
        augment=HAND,
        split="refit",
        teacher="mnist-best",
        min_accuracy=0.99,
        reported=0.9839,
    ),
    _FASHION_TINY,
    replace(
        _FASHION_TINY,
        name="fashion-best",
        summary="Wider, three convolutions in a group; the teacher of fashion-tiny.",
        net=Airbench(widths=(64, 128, 192), depth=3),
        epochs=36,
        weight_decay=1e-3,
        augment=replace(GARMENT, cutout=12),
        teacher="",
        min_accuracy=0.945,
    ),
    _OBJECTS_FAST,
    _views(_OBJECTS_FAST),
    _OBJECTS,
    _views(_OBJECTS),
    replace(
        _OBJECTS,
        name="cifar10-tiny",
        summary="Under 40 MMAC and 0.7 M parameters, taught by cifar10-best.",
        net=Airbench(widths=(32, 128, 160)),
        epochs=32,
        augment=replace(_OBJECTS.augment, cutout=0),
        teacher="cifar10-best",
        min_accuracy=0.89,
    ),
    Recipe(
        name="cifar10-resnet20",
        summary="What cifar10-tiny is compared with: the classic, with cutout.",
        dataset="cifar10",
        net=Residual(widths=(16, 32, 64), blocks=3),
        epochs=60,
        batch_size=128,
        peak_lr=0.1,
        weight_decay=5e-4,
        augment=Augment(flip="random", shift=4, cutout=16),
        split="refit",
        uncertain_rate=0.10,
        min_accuracy=0.89,
    ),
)

RECIPES: dict[str, Recipe] = {recipe.name: recipe for recipe in (*_DEFAULTS, *EXPERIMENTS)}


def recipe_named(name: str) -> Recipe:
    """Raises BadRecipe when there is none."""
    if name not in RECIPES:
        raise BadRecipe(f"no recipe is called {name!r}; `vitrine-train list` shows them")
    return RECIPES[name]
