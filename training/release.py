"""The release's own models: a version copied from the store into the committed folder."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from artifacts.manifest import Manifest
from artifacts.model import load
from artifacts.store import Store

MAX_VERSION_BYTES = 9_000_000
MAX_TOTAL_BYTES = 40_000_000


class NotReleasable(Exception):
    """A version that would make the repository too large."""


def release(
    store: Store, model: str, version: str, target: Path, *, as_task: bool = False
) -> Manifest:
    """Copy a version to `target` and make it live in the catalog there, in place of older ones.

    With `as_task` the name of its task stands for it from now on. The version is loaded and
    verified first. Raises NotReleasable, NotFound, BadArtifact.
    """
    source = store.folder(model, version)
    manifest = load(source, execution_provider="cpu").manifest
    size = size_of(source)
    others = sum(size_of(p) for p in target.iterdir() if p.is_dir() and p.name != model)
    if size > MAX_VERSION_BYTES:
        raise NotReleasable(f"{model} has {size:,} bytes, at most {MAX_VERSION_BYTES:,} may be")
    if others + size > MAX_TOTAL_BYTES:
        raise NotReleasable(
            f"with {model} the release has {others + size:,} bytes, at most {MAX_TOTAL_BYTES:,}"
        )
    with tempfile.TemporaryDirectory() as empty:
        # The release is a store too; what it lies over here has nothing in it.
        inner = Store(target.parent, release=Path(empty))
        assert inner.written == target, "the release's folder is called models"
        place = target / model / version
        if not place.is_dir():
            draft = target / model / f".draft-{version}"
            shutil.copytree(source, draft)
            draft.rename(place)
        inner.activate(model, version)
        if as_task:
            inner.point(manifest.task, model)
    for old in (target / model).iterdir():
        if old.name != version:
            shutil.rmtree(old)
    return manifest


def size_of(folder: Path) -> int:
    """Bytes of all files below."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
