"""Every model, measured: the live ones here and now, those that are not at hand as they were."""

from __future__ import annotations

import base64
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from artifacts.manifest import MODEL_FILE, Manifest
from artifacts.model import load
from artifacts.store import Store
from training.data import BadData, Images, load_test
from training.datasets import DATASETS
from training.duel import right
from training.evidence import Evidence
from training.footprint import Footprint, footprint
from training.recipes import RECIPES

ROUNDS = 4  # of processes: now and then one is slow from its beginning to its end


@dataclass(frozen=True, kw_only=True)
class Row:
    """One model: all that the page says of it, which can be said without its artifact."""

    name: str
    version: str
    task: str
    measured: str  # the day, as 2026-01-31
    count: int  # test images
    correct: int
    interval: tuple[float, float]  # of the accuracy, 0..1
    worst_class: tuple[str, float]  # by F1: its label, and that F1
    parameters: int
    macs: int
    bytes: int  # of model.onnx
    trained_s: float
    gpu_mb: int  # the most that training held on a GPU; 0 without one
    settings: dict[str, Any]  # of its recipe, when it was trained
    cost: Footprint
    bits: str = ""  # which test images it knows: base64 of packed bits; "" without the data set
    stands_for: str = ""  # the task whose name it answers to

    @property
    def accuracy(self) -> float:
        return self.correct / self.count

    @property
    def right(self) -> NDArray[np.bool_] | None:
        """bool[N], which test images it knows; None where the data set was not at hand."""
        if not self.bits:
            return None
        packed = np.frombuffer(base64.b64decode(self.bits), np.uint8)
        return np.unpackbits(packed, count=self.count).astype(bool)

    @classmethod
    def of(cls, manifest: Manifest, day: str, size: int, cost: Footprint) -> Row:
        test, provenance = manifest.test, manifest.provenance
        worst = min(test["classes"], key=lambda entry: float(entry["f1"]))
        return cls(
            name=manifest.name,
            version=manifest.version,
            task=manifest.task,
            measured=day,
            count=test["count"],
            correct=test["correct"],
            interval=(float(test["interval"][0]), float(test["interval"][1])),
            worst_class=(str(worst["label"]), float(worst["f1"])),
            parameters=manifest.parameters,
            macs=manifest.macs,
            bytes=size,
            trained_s=float(provenance.get("duration_s", 0)),
            gpu_mb=int(provenance.get("peak_gpu_mb", 0)),
            settings=provenance.get("settings", {}),
            cost=cost,
        )

    @classmethod
    def from_record(cls, record: dict[str, Any]) -> Row:
        """What `asdict` made of one, after a journey through JSON."""
        cost, pairs = Footprint(**record["cost"]), ("interval", "worst_class")
        return cls(**record | {"cost": cost} | {name: tuple(record[name]) for name in pairs})


def compare(
    store: Store,
    known: Evidence,
    data: Path | None = None,
    *,
    only_new: bool = False,
    say: Callable[[str], None] = lambda _: None,
) -> list[Row]:
    """All models, by task and then by accuracy; what is measured is remembered in `known`.

    A model that is not live here is as it was when it was measured, as long as there is a recipe
    of its name; with `only_new` so is each version that was measured before.
    Raises BadArtifact, NotFound.
    """
    catalog, models = store.catalog(), known.models
    live = {name: entry.version for name, entry in catalog.live.items() if entry.version}
    for name in models.keys() - live.keys() - RECIPES.keys():
        del models[name]
    folders = {
        name: store.folder(name, version)
        for name, version in live.items()
        if not only_new or models.get(name, {}).get("version") != version
    }
    models |= {row.name: asdict(row) for row in measured(folders, data, say)}
    stands_for = {name: task for task, name in catalog.tasks.items()}
    rows = [
        replace(Row.from_record(record), stands_for=stands_for.get(name, ""))
        for name, record in models.items()
    ]
    return sorted(rows, key=lambda row: (row.task, -row.accuracy, row.name))


def measured(folders: dict[str, Path], data: Path | None, say: Callable[[str], None]) -> list[Row]:
    """Models in these folders, by name."""
    day = datetime.now(UTC).date().isoformat()
    costs = footprints(folders, say)
    tests: dict[str, Images | None] = {}
    rows = []
    for name, folder in folders.items():
        say(f"{name}: test images")
        model = load(folder, execution_provider="cpu", threads=0)
        row = Row.of(model.manifest, day, (folder / MODEL_FILE).stat().st_size, costs[name])
        dataset = str(model.manifest.provenance["dataset"])
        if dataset not in tests:
            tests[dataset] = test_images(dataset, data)
        images = tests[dataset]
        if images is not None:
            row = replace(row, bits=packed(right(model, images)))
        rows.append(row)
    return rows


def packed(right: NDArray[np.bool_]) -> str:
    """What `Row.right` unpacks."""
    return base64.b64encode(np.packbits(right).tobytes()).decode()


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
