"""Versions on disk, and which one is live: publish, list, activate, roll back, all atomic.

Two places are laid over each other. The release's folder (`artifacts/models/`, read-only) comes
with the code; the state folder's `models/` holds what was published since, and its catalog, which
wins, entry by entry. A folder or catalog that exists is complete: both appear by one rename.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from artifacts import manifest as contract
from artifacts.catalog import CATALOG_FILE as CATALOG_FILE
from artifacts.catalog import Catalog as Catalog
from artifacts.catalog import Live as Live
from artifacts.catalog import NotFound as NotFound
from artifacts.catalog import checked_name, read_catalog
from artifacts.manifest import BadArtifact, Manifest
from artifacts.samples import pack_samples

RELEASE = Path(__file__).parent / "models"
STALE_DRAFT_S = 3600.0  # a draft this old was left behind by a publisher that died


class ReadOnly(Exception):
    """The store cannot be written: it has no state folder, or may not write there."""


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
            for version in _folders(place / checked_name(model), contract.VERSION)
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
                folder = place / checked_name(model) / version
                if folder.is_dir():
                    return folder
        raise NotFound(f"model {model!r} has no version {version!r}")

    def catalog(self) -> Catalog:
        """What is live. The state folder's entries replace the release's. Raises BadArtifact."""
        live: dict[str, Live] = {}
        tasks: dict[str, str] = {}
        for path in reversed(self.catalogs):
            over = read_catalog(path)
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
            raise NotFound(
                f"no live model or task {name!r}; there are {', '.join(known) or 'none'}"
            )
        return model, live.version

    def publish(
        self, model: bytes, manifest: Manifest, samples: dict[str, NDArray[Any]]
    ) -> Manifest:
        """Write a version, complete or not at all; returns the manifest with its version.

        Publishing the same version again changes nothing, unless the one that is there is damaged:
        then it is replaced. Does not activate. Raises ReadOnly, and BadArtifact when the manifest
        would not read back.
        """
        files = {contract.MODEL_FILE: model, contract.SAMPLES_FILE: pack_samples(samples)}
        sealed = contract.seal(manifest, files)
        files[contract.MANIFEST_FILE] = sealed.to_json().encode()
        place = self._writable()
        parent = place / checked_name(sealed.name)
        target = parent / sealed.version
        with _as_read_only(parent):
            parent.mkdir(parents=True, exist_ok=True)
            _sweep(parent)
            found = _undamaged(target)
            if found is not None:
                return found
            draft = Path(tempfile.mkdtemp(prefix=".draft-", dir=parent))
            try:
                for name, data in files.items():
                    _write_synced(draft / name, data)
                draft.chmod(0o755)
                _sync(draft)
                with _lock(place):
                    _put(draft, target)
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
            previous = before.version or before.previous
            over.live[model] = Live(version, None if previous == version else previous)
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
        live = self.catalog().live.get(checked_name(model))
        if live is None or live.previous is None:
            raise NotFound(f"model {model!r} has no previous version to go back to")
        return self.activate(model, live.previous)

    def point(self, task: str, model: str) -> None:
        """Let a task's name stand for a model. Raises NotFound, ReadOnly."""
        self.versions(model)
        with self._catalog_to_write() as (_, over):
            over.tasks[checked_name(task)] = model

    def _writable(self) -> Path:
        if self.written is None:
            raise ReadOnly("this store has no state folder; set VITRINE_STATE to a writable one")
        return self.written

    @contextmanager
    def _catalog_to_write(self) -> Iterator[tuple[Catalog, Catalog]]:
        """Both catalogs, laid over each other and the state folder's own; the latter is saved."""
        place = self._writable()
        with _as_read_only(place):
            place.mkdir(parents=True, exist_ok=True)
            with _lock(place):
                over = read_catalog(place / CATALOG_FILE)
                yield self.catalog(), over
                draft = place / f".{CATALOG_FILE}.draft"
                _write_synced(draft, over.to_json().encode())
                draft.replace(place / CATALOG_FILE)
                _sync(place)


@contextmanager
def _lock(place: Path) -> Iterator[None]:
    """Writers take turns, by a lock on a file of its own: none undoes another's change."""
    with (place / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@contextmanager
def _as_read_only(place: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise ReadOnly(f"cannot write to the store at {place}: {error.strerror}") from error


def _undamaged(folder: Path) -> Manifest | None:
    """The manifest of a version folder that is there and whole, else None."""
    try:
        manifest = contract.read(folder)
        contract.check_files(folder, manifest)
    except BadArtifact:
        return None
    return manifest


def _put(draft: Path, target: Path) -> None:
    """Move a whole draft to its place; what is there already stays, unless it is damaged."""
    if target.exists():
        if _undamaged(target) is not None:  # another publisher was first, with the same content
            return
        target.rename(f"{draft}-damaged")  # swept away later, with other drafts
    draft.rename(target)


def _sweep(parent: Path) -> None:
    """Remove what publishers that died have left behind."""
    for draft in parent.glob(".draft-*"):
        with suppress(FileNotFoundError):  # swept, or renamed, by another publisher meanwhile
            if time.time() - draft.stat().st_mtime > STALE_DRAFT_S:
                shutil.rmtree(draft, ignore_errors=True)


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
