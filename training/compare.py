"""Every live model, measured here and now."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from artifacts.manifest import MODEL_FILE, Manifest
from artifacts.model import load
from artifacts.store import Store
from training.data import BadData, Images, load_test
from training.datasets import DATASETS
from training.duel import right
from training.footprint import Footprint, footprint
from training.recipe import BadRecipe, Recipe, from_settings
from training.recipes import RECIPES

# What may differ between a recipe and the settings a model was trained with, and says nothing.
BESIDE = (
    *("name", "summary", "note", "min_accuracy", "reported", "seed"),
    *("uncertain_rate", "alien_rate"),
)


@dataclass(frozen=True)
class Row:
    """One model: its manifest, and what was measured of it on this machine."""

    manifest: Manifest
    cost: Footprint
    bytes: int  # of model.onnx
    right: NDArray[np.bool_] | None  # which test images it knows; None without the data set
    stands_for: str = ""  # the task whose name it answers to

    @property
    def name(self) -> str:
        return self.manifest.name

    @property
    def accuracy(self) -> float:
        return float(self.manifest.test["accuracy"])

    @property
    def trained_s(self) -> float:
        return float(self.manifest.provenance.get("duration_s", 0))


def compare(
    store: Store, data: Path | None = None, say: Callable[[str], None] = lambda _: None
) -> list[Row]:
    """All live models, by task and then by accuracy. Raises BadArtifact, NotFound."""
    catalog = store.catalog()
    tests: dict[str, Images | None] = {}
    rows = []
    for name, live in catalog.live.items():
        if live.version is None:
            continue
        say(name)
        folder = store.folder(name, live.version)
        model = load(folder, execution_provider="cpu", threads=0)
        dataset = str(model.manifest.provenance["dataset"])
        if dataset not in tests:
            tests[dataset] = test_images(dataset, data)
        images = tests[dataset]
        rows.append(
            Row(
                model.manifest,
                footprint(folder),
                (folder / MODEL_FILE).stat().st_size,
                None if images is None else right(model, images),
                next((task for task, chosen in catalog.tasks.items() if chosen == name), ""),
            )
        )
    return sorted(rows, key=lambda row: (row.manifest.task, -row.accuracy))


def test_images(dataset: str, data: Path | None) -> Images | None:
    """None where they cannot be had."""
    try:
        return load_test(DATASETS[dataset], data)
    except BadData:
        return None


def otherwise(manifest: Manifest) -> list[str]:
    """How a model was trained otherwise than its recipe says: "epochs 1 instead of 5"."""
    recipe = RECIPES.get(manifest.name)
    if recipe is None:
        return ["by a recipe that is gone"]
    try:
        trained = from_settings(manifest.provenance["settings"])
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
