"""Files that are whole or not there."""

from __future__ import annotations

from pathlib import Path


def put(path: Path, content: bytes) -> None:
    """Write beside `path`, then take its place: on a full disk what was there stays."""
    draft = path.with_name(f".{path.name}")
    draft.write_bytes(content)
    draft.replace(path)
