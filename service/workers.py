"""The processes that answer side by side: which of them live."""

from __future__ import annotations

from pathlib import Path


def lives(process: int | str) -> bool:
    """Whether there is a process of that number (Linux)."""
    return Path(f"/proc/{process}").exists()
