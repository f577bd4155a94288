"""What is known of models beside their manifests: runs of several seeds, robustness.

Kept in one committed JSON file, so that pages can be written again without the runs.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from artifacts.manifest import BadArtifact
from artifacts.manifest import read as read_manifest
from artifacts.store import NotFound, Store
from training.recipes import RECIPES

FILE = Path("docs/evidence.json")
RESULT = "result.json"


@dataclass
class Evidence:
    """`seeds`: recipe -> seed -> test accuracy 0..1; `robustness`: version -> what was found."""

    seeds: dict[str, dict[str, float]] = field(default_factory=dict)
    robustness: dict[str, dict[str, Any]] = field(default_factory=dict)

    def spread(self, recipe: str) -> Spread | None:
        """Of a recipe that was run with two seeds or more."""
        found = list(self.seeds.get(recipe, {}).values())
        if len(found) < 2:
            return None
        return Spread(
            len(found), statistics.mean(found), statistics.stdev(found), min(found), max(found)
        )


@dataclass(frozen=True)
class Spread:
    """Test accuracies of one recipe's runs, 0..1; `deviation` is the sample's."""

    count: int
    mean: float
    deviation: float
    low: float
    high: float


def read(path: Path = FILE) -> Evidence:
    """Empty where there is no such file."""
    return Evidence(**json.loads(path.read_text())) if path.exists() else Evidence()


def write(evidence: Evidence, path: Path = FILE) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    record = {"seeds": evidence.seeds, "robustness": evidence.robustness}
    path.write_text(json.dumps(record, indent=1, sort_keys=True) + "\n")


def gather(evidence: Evidence, folders: Iterable[Path], store: Store) -> list[Path]:
    """Add the finished runs in and below `folders`, later ones in place of earlier ones.

    Returns those left out: of a recipe that is gone, of other epochs than its recipe's, or from
    before results named their seed while their version is not at hand.
    """
    found = [path for folder in folders for path in folder.rglob(RESULT)]
    left_out = []
    for path in sorted(found, key=lambda path: path.stat().st_mtime):
        result = json.loads(path.read_text())
        recipe = result.get("recipe", result["model"])
        seed = result.get("seed", seed_of(result, store))
        known = RECIPES.get(recipe)
        if seed is None or known is None or result.get("epochs", known.epochs) != known.epochs:
            left_out.append(path.parent)
            continue
        accuracy = float(result["test"]["accuracy"])
        evidence.seeds.setdefault(recipe, {})[str(seed)] = accuracy
    return left_out


def seed_of(result: dict[str, Any], store: Store) -> int | None:
    """The seed in a version's manifest; None when it is not in the store."""
    try:
        manifest = read_manifest(store.folder(result["model"], result["version"]))
    except (BadArtifact, NotFound):
        return None
    return int(manifest.provenance["seed"])
