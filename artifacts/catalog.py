"""What is live: a catalog's content, and the file that holds it."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path

from artifacts import manifest as contract
from artifacts.manifest import BadArtifact

CATALOG_FILE = "catalog.json"


class NotFound(Exception):
    """No such model, task or version."""


@dataclass(frozen=True)
class Live:
    """The version of a model that answers, and the one that answered before it, if any.

    A version of None is a model that was unloaded: published, but not served.
    """

    version: str | None
    previous: str | None = None


@dataclass(frozen=True)
class Catalog:
    """Which version of each model is live, and which model does each task."""

    live: dict[str, Live] = field(default_factory=dict)
    tasks: dict[str, str] = field(default_factory=dict)

    def to_json(self) -> str:
        """The text of catalog.json."""
        return json.dumps(asdict(self), indent=1, sort_keys=True) + "\n"


def read_catalog(path: Path) -> Catalog:
    """The catalog in a file; an absent file is an empty one. Raises BadArtifact."""
    try:
        record = json.loads(path.read_bytes())
        live = {
            checked_name(model): Live(_version(entry["version"]), _version(entry.get("previous")))
            for model, entry in record["live"].items()
        }
        tasks = {checked_name(task): checked_name(model) for task, model in record["tasks"].items()}
    except (FileNotFoundError, NotADirectoryError):
        return Catalog()
    except OSError as error:
        raise BadArtifact(f"{CATALOG_FILE}: cannot be read ({error.strerror})") from error
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, NotFound) as error:
        raise BadArtifact(
            f"{CATALOG_FILE}: not a catalog ({error}); restore it, or delete it and activate anew"
        ) from error
    return Catalog(live, tasks)


def checked_name(name: str) -> str:
    """A model's or task's name that is safe in a path. Raises NotFound: nothing is named so."""
    if not (isinstance(name, str) and contract.NAME.fullmatch(name)):
        raise NotFound(f"{name!r} is no model's name; expected {contract.NAME.pattern}")
    return name


def _version(value: object) -> str | None:
    if value is not None and not (isinstance(value, str) and contract.VERSION.fullmatch(value)):
        raise ValueError(f"{value!r} is no version")
    return value
