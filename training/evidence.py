"""What is known of models beside their manifests: runs of several seeds, robustness, figures.

Kept in one committed JSON file, so that pages can be written again without runs or models.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from artifacts.manifest import BadArtifact
from artifacts.manifest import read as read_manifest
from artifacts.store import NotFound, Store
from training.changes import changes
from training.files import put

FILE = Path("docs/evidence.json")
RESULT = "result.json"


@dataclass
class Evidence:
    """`seeds`: recipe -> seed -> test accuracy 0..1; `robustness`: version -> what was found.

    `models`: name -> what was last measured of it, the record of a `training.compare.Row`.
    """

    seeds: dict[str, dict[str, float]] = field(default_factory=dict)
    robustness: dict[str, dict[str, Any]] = field(default_factory=dict)
    models: dict[str, dict[str, Any]] = field(default_factory=dict)

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
    put(path, (json.dumps(asdict(evidence), indent=1, sort_keys=True) + "\n").encode())


def gather(evidence: Evidence, folders: Iterable[Path], store: Store) -> dict[Path, str]:
    """Add the finished runs in and below `folders`, later ones in place of earlier ones.

    Returns those left out, each with the reason: one that was trained otherwise than its recipe
    says now is no sample of it.
    """
    found = [path for folder in folders for path in folder.rglob(RESULT)]
    left_out = {}
    for path in sorted(found, key=lambda path: path.stat().st_mtime):
        result = json.loads(path.read_text())
        settings = result.get("settings") or settings_of(result, store)
        if settings is None:
            left_out[path.parent] = "its settings are not known: its version is not in the store"
        elif other := changes(settings):
            left_out[path.parent] = ", ".join(other)
        else:
            seeds = evidence.seeds.setdefault(settings["name"], {})
            seeds[str(settings["seed"])] = float(result["test"]["accuracy"])
    return left_out


def settings_of(result: dict[str, Any], store: Store) -> dict[str, Any] | None:
    """From the manifest of a result's version; None when that is not in the store."""
    try:
        manifest = read_manifest(store.folder(result["model"], result["version"]))
    except (BadArtifact, NotFound):
        return None
    settings: dict[str, Any] = manifest.provenance["settings"]
    return settings
