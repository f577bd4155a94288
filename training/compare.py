"""Every live model, measured here and now."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
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

ROUNDS = 2  # what slows the machine for seconds spoils one round of a model, hardly both


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
    versions = {name: live.version for name, live in catalog.live.items() if live.version}
    folders = {name: store.folder(name, version) for name, version in versions.items()}
    costs = footprints(folders, say)
    tests: dict[str, Images | None] = {}
    rows = []
    for name, folder in folders.items():
        say(f"{name}: test images")
        model = load(folder, execution_provider="cpu", threads=0)
        dataset = str(model.manifest.provenance["dataset"])
        if dataset not in tests:
            tests[dataset] = test_images(dataset, data)
        images = tests[dataset]
        rows.append(
            Row(
                model.manifest,
                costs[name],
                (folder / MODEL_FILE).stat().st_size,
                None if images is None else right(model, images),
                next((task for task, chosen in catalog.tasks.items() if chosen == name), ""),
            )
        )
    return sorted(rows, key=lambda row: (row.manifest.task, -row.accuracy))


def footprints(folders: dict[str, Path], say: Callable[[str], None]) -> dict[str, Footprint]:
    """What each costs, by name, in as many rounds as there are ROUNDS."""
    costs: dict[str, Footprint] = {}
    for k in range(ROUNDS):
        for name, folder in folders.items():
            say(f"{name}: time and memory, round {k + 1} of {ROUNDS}")
            cost = footprint(folder)
            costs[name] = cost.least(costs[name]) if name in costs else cost
    return costs


def test_images(dataset: str, data: Path | None) -> Images | None:
    """None where they cannot be had."""
    try:
        return load_test(DATASETS[dataset], data)
    except BadData:
        return None
