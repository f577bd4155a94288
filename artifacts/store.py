"""Versions on disk, and which one is live: publish, list, activate, roll back, all atomic.

Two places are laid over each other. The release's folder (`artifacts/models/`, read-only) comes
with the code; the state folder's `models/` holds what was published since, and its catalog, which
wins, entry by entry. A folder or catalog that exists is complete: both appear by one rename.
"""

from __future__ import annotations

import fcntl
import io
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from artifacts import manifest as contract
from artifacts.manifest import BadArtifact, Manifest

RELEASE = Path(__file__).parent / "models"
CATALOG_FILE = "catalog.json"


class NotFound(Exception):
    """No such model, task or version."""


class ReadOnly(Exception):
    """The store cannot be written: it has no state folder, or may not write there."""


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


class Store:
    """The release's models with a state folder's laid over them.

    `state` is the state folder itself; its store is the folder `models` in it. Without one, the
    store can be read only.
    """

    def __init__(self, state: Path | None = None, release: Path = RELEASE) -> None:
        self.release = release
        self.written = None if state is None else state / "models"

    @property
    def places(self) -> list[Path]:
        """Where versions are looked for, the state folder's first."""
        return [self.release] if self.written is None else [self.written, self.release]

    @property
    def catalogs(self) -> list[Path]:
        """The catalog files, in the order of `places`: what a running service watches."""
        return [place / CATALOG_FILE for place in self.places]

    def models(self) -> list[str]:
        """The names of all models that have a version, sorted."""
        return sorted({name for place in self.places for name in _folders(place, contract.NAME)})

    def versions(self, model: str) -> list[str]:
        """The versions of a model, oldest first by their `created`. Raises NotFound."""
        found = {
            version
            for place in self.places
            for version in _folders(place / _checked(model), contract.VERSION)
        }
        if not found:
            raise NotFound(f"no model {model!r}; there are {', '.join(self.models()) or 'none'}")

        def age(version: str) -> tuple[str, str]:
            try:
                return contract.read(self.folder(model, version)).created, version
            except BadArtifact:
                return "", version  # a damaged version is listed all the same

        return sorted(found, key=age)

    def folder(self, model: str, version: str) -> Path:
        """The folder of a version. Raises NotFound."""
        if contract.VERSION.fullmatch(version):
            for place in self.places:
                folder = place / _checked(model) / version
                if folder.is_dir():
                    return folder
        raise NotFound(f"model {model!r} has no version {version!r}")

    def catalog(self) -> Catalog:
        """What is live. The state folder's entries replace the release's. Raises BadArtifact."""
        live: dict[str, Live] = {}
        tasks: dict[str, str] = {}
        for path in reversed(self.catalogs):
            over = _read_catalog(path)
            live |= over.live
            tasks |= over.tasks
        return Catalog(live, tasks)

    def resolve(self, name: str) -> tuple[str, str]:
        """The model and live version that a model's or task's name stands for. Raises NotFound."""
        catalog = self.catalog()
        model = catalog.tasks.get(name, name)
        live = catalog.live.get(model)
        if live is None or live.version is None:
            known = sorted({*catalog.live, *catalog.tasks})
            raise NotFound(f"no live model or task {name!r}; there are {', '.join(known)}")
        return model, live.version

    def publish(
        self, model: bytes, manifest: Manifest, samples: dict[str, NDArray[Any]]
    ) -> Manifest:
        """Write a version, complete or not at all; returns the manifest with its version.

        Publishing the same version again changes nothing. Does not activate. Raises ReadOnly, and
        BadArtifact when what was written does not read back.
        """
        packed = io.BytesIO()
        np.savez_compressed(packed, allow_pickle=False, **samples)
        files = {contract.MODEL_FILE: model, contract.SAMPLES_FILE: packed.getvalue()}
        sealed = contract.seal(manifest, files)
        files[contract.MANIFEST_FILE] = sealed.to_json().encode()
        contract.from_record(json.loads(files[contract.MANIFEST_FILE]))
        parent = self._writable() / _checked(sealed.name)
        target = parent / sealed.version
        with _as_read_only(parent):
            parent.mkdir(parents=True, exist_ok=True)
            if target.is_dir():
                return contract.read(target)
            draft = Path(tempfile.mkdtemp(prefix=".draft-", dir=parent))
            try:
                for name, data in files.items():
                    _write_synced(draft / name, data)
                draft.chmod(0o755)
                _sync(draft)
                try:
                    draft.rename(target)
                except OSError:
                    if not target.is_dir():  # else another publisher was first: same content
                        raise
                _sync(parent)
            finally:
                shutil.rmtree(draft, ignore_errors=True)
        return contract.read(target)

    def activate(self, model: str, version: str) -> Live:
        """Make a version live, keeping the one before for `rollback`. Raises NotFound, ReadOnly."""
        self.folder(model, version)
        with self._catalog_to_write() as (whole, over):
            before = whole.live.get(model, Live(None))
            if before.version == version:
                return before
            over.live[model] = Live(version, before.version or before.previous)
            return over.live[model]

    def deactivate(self, model: str) -> Live:
        """Unload a model: nothing answers for it until a version is activated. Raises NotFound."""
        self.versions(model)
        with self._catalog_to_write() as (whole, over):
            before = whole.live.get(model, Live(None))
            over.live[model] = Live(None, before.version or before.previous)
            return over.live[model]

    def rollback(self, model: str) -> Live:
        """Make the previously live version live again. Raises NotFound when there is none."""
        live = self.catalog().live.get(_checked(model))
        if live is None or live.previous is None:
            raise NotFound(f"model {model!r} has no previous version to go back to")
        return self.activate(model, live.previous)

    def point(self, task: str, model: str) -> None:
        """Let a task's name stand for a model. Raises NotFound, ReadOnly."""
        self.versions(model)
        with self._catalog_to_write() as (_, over):
            over.tasks[_checked(task)] = model

    def _writable(self) -> Path:
        if self.written is None:
            raise ReadOnly("this store has no state folder; set VITRINE_STATE to a writable one")
        return self.written

    @contextmanager
    def _catalog_to_write(self) -> Iterator[tuple[Catalog, Catalog]]:
        """Both catalogs, laid over each other and the state folder's own; the latter is saved.

        Writers take turns by a lock on a file of its own, so that none undoes another's change.
        """
        place = self._writable()
        with _as_read_only(place):
            place.mkdir(parents=True, exist_ok=True)
            with (place / ".lock").open("w") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)
                over = _read_catalog(place / CATALOG_FILE)
                yield self.catalog(), over
                record = json.dumps(asdict(over), indent=1, sort_keys=True) + "\n"
                draft = place / f".{CATALOG_FILE}.draft"
                _write_synced(draft, record.encode())
                draft.replace(place / CATALOG_FILE)
                _sync(place)


@contextmanager
def _as_read_only(place: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise ReadOnly(f"cannot write to the store at {place}: {error.strerror}") from error


def _read_catalog(path: Path) -> Catalog:
    """The catalog in a file; an absent file is an empty one. Raises BadArtifact."""
    try:
        record = json.loads(path.read_bytes())
        live = {
            str(model): Live(_version(entry["version"]), _version(entry.get("previous")))
            for model, entry in record["live"].items()
        }
        tasks = {str(task): _checked(model) for task, model in record["tasks"].items()}
    except FileNotFoundError:
        return Catalog()
    except OSError as error:
        raise BadArtifact(f"{CATALOG_FILE}: cannot be read ({error.strerror})") from error
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, NotFound) as error:
        raise BadArtifact(
            f"{CATALOG_FILE}: not a catalog ({error}); restore it, or delete it and activate anew"
        ) from error
    return Catalog(live, tasks)


def _version(value: object) -> str | None:
    if value is not None and not (isinstance(value, str) and contract.VERSION.fullmatch(value)):
        raise ValueError(f"{value!r} is no version")
    return value


def _checked(name: str) -> str:
    """A model's or task's name that is safe in a path. Raises NotFound: nothing is named so."""
    if not (isinstance(name, str) and contract.NAME.fullmatch(name)):
        raise NotFound(f"{name!r} is no model's name; expected {contract.NAME.pattern}")
    return name


def _folders(place: Path, pattern: Any) -> list[str]:
    try:
        return [p.name for p in place.iterdir() if pattern.fullmatch(p.name) and p.is_dir()]
    except OSError:
        return []


def _write_synced(path: Path, data: bytes) -> None:
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _sync(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
