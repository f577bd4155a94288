"""What is to be scored, by what and how: complete, checked, and comparable with an earlier run."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from artifacts.manifest import Manifest
from service.score.rows import Table
from service.score.truth import Truth, by_file, by_folder
from service.score.walk import Source

PLAN = 1  # raised when the division into shards, or what stands in them, changes


class Misuse(Exception):
    """Something asked for that cannot be done; the message says what to do instead."""


@dataclass(frozen=True, kw_only=True)
class Job:
    """Everything that decides what the rows of the output are."""

    source: Source
    manifest: Manifest
    table: Table
    preprocess: Literal["auto", "raw"] = "auto"
    provider: Literal["auto", "cpu", "cuda"] = "auto"
    max_pixels: int = 50_000_000  # in one image
    labels: str = ""  # "folder", or the path of a CSV
    url: str = ""  # the service that classifies; "" for this machine

    def truth(self) -> Truth | None:
        """The known class of a path, if labels were given. Raises BadLabels."""
        if not self.labels:
            return None
        if self.labels == "folder":
            return by_folder(self.manifest)
        return by_file(Path(self.labels), self.manifest)

    def identity(self) -> dict[str, Any]:
        """What must be the same for an interrupted run to go on: name -> JSON value."""
        identity = {
            "plan": PLAN,
            "source": self.source.where,
            "source is": self.source.kind,
            "follow links": self.source.follow_links,
            "model": self.manifest.name,
            "version": self.manifest.version,
            "format": self.table.format,
            "columns": ",".join(self.table.columns),
            "preprocess": self.preprocess,
            "execution provider": self.provider,
            "max pixels": self.max_pixels,
            "url": self.url,
            "labels": self.labels,
        }
        if self.labels not in ("", "folder"):
            identity["labels' sha256"] = hashlib.sha256(Path(self.labels).read_bytes()).hexdigest()
        return identity


def check_same(before: dict[str, Any], now: dict[str, Any], where: str) -> None:
    """Raises Misuse naming every option in which an interrupted run differs from this one."""
    differ = [
        f"{name} was {json.dumps(before.get(name))}, now it is {json.dumps(now.get(name))}"
        for name in sorted({*before, *now})
        if before.get(name) != now.get(name)
    ]
    if differ:
        raise Misuse(
            f"{where} holds an interrupted run with other options: {'; '.join(differ)}. "
            "Give the same options to go on with it (--version for the version), or --restart to "
            "discard it"
        )
