"""Which of two models is better, by the test images on which they differ."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from artifacts.model import Model, load
from artifacts.store import Store
from training.data import Images, load_test
from training.datasets import DATASETS
from training.evaluate import answers, paired
from training.recipe import BadRecipe

LEVEL = 0.05  # below which a gap is called more than chance


@dataclass(frozen=True)
class Duel:
    """Two models on the same test images."""

    first: str
    second: str
    count: int
    right: tuple[int, int]  # by each
    alone: tuple[int, int]  # by each, where the other is wrong
    chance: float  # of such a gap or a larger one, were both equally good

    @property
    def better(self) -> str | None:
        """The name of the better one; None when the test does not tell."""
        if self.chance >= LEVEL:
            return None
        return self.first if self.right[0] > self.right[1] else self.second

    def __str__(self) -> str:
        verdict = f"{self.better} is better" if self.better else "this does not tell them apart"
        return (
            f"{self.first}: {self.right[0]:,} of {self.count:,} right, {self.alone[0]:,} of them "
            f"where {self.second} is wrong\n"
            f"{self.second}: {self.right[1]:,} of {self.count:,} right, {self.alone[1]:,} of them "
            f"where {self.first} is wrong\n"
            f"McNemar's exact test: p = {self.chance:.2g}; {verdict}"
        )


def right(model: Model, images: Images) -> NDArray[np.bool_]:
    """bool[N]: which images are answered rightly, placed as the service places them."""
    correct: NDArray[np.bool_] = answers(model, images).argmax(axis=1) == images.labels
    return correct


def duel(names: tuple[str, str], rights: tuple[NDArray[np.bool_], NDArray[np.bool_]]) -> Duel:
    one, two, chance = paired(*rights)
    first, second = rights
    hits = int(first.sum()), int(second.sum())
    return Duel(*names, len(first), hits, (one, two), chance)


def fight(
    store: Store, first: tuple[str, str], second: tuple[str, str], data: Path | None = None
) -> Duel:
    """Two versions, each (model, version). Raises BadRecipe for different data sets, NotFound."""
    models = [load(store.folder(*each), execution_provider="cpu") for each in (first, second)]
    datasets = [str(model.manifest.provenance["dataset"]) for model in models]
    if datasets[0] != datasets[1]:
        raise BadRecipe(
            f"{first[0]} is about {datasets[0]}, {second[0]} about {datasets[1]}: "
            "two models of the same data set can be compared"
        )
    test = load_test(DATASETS[datasets[0]], data)
    names = (first[0], second[0])
    if first[0] == second[0]:
        names = ("@".join(first), "@".join(second))
    return duel(names, (right(models[0], test), right(models[1], test)))
