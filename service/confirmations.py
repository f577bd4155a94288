"""What each worker of this host serves, written where the others can read it.

A load or unload is answered by one worker, once all of them have followed.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import platform
from collections.abc import Mapping
from pathlib import Path

from service.workers import lives

log = logging.getLogger("vitrine.models")

FOLDER = "workers"  # in the state folder


class Confirmations:
    """One file for each worker; without a state folder there is one worker, and nobody to tell."""

    def __init__(self, state: Path | None) -> None:
        self._folder = None if state is None else state / FOLDER
        self._heard = True  # as far as we know, the others can read what we serve

    def write(self, live: Mapping[str, str], on_demand: Mapping[str, str | None]) -> None:
        """Say which versions answer, and which ones would, once somebody asks for them."""
        if self._folder is None:
            return
        path = self._own(self._folder)
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            draft = path.with_suffix(".draft")
            draft.write_text(json.dumps({"live": dict(live), "on_demand": dict(on_demand)}))
            draft.replace(path)
        except OSError as error:  # predictions do not need it
            if self._heard:  # said once, until it works again
                log.warning("cannot confirm the live versions to other workers: %s", error.strerror)
            self._heard = False
        else:
            self._heard = True

    def count_behind(self, model: str, version: str | None) -> tuple[int, int]:
        """Of how many workers how many do not yet serve `version` (None: not the model)."""
        if self._folder is None:
            return 0, 1
        behind = workers = 0
        for path in self._folder.glob(f"{platform.node()}-*.json"):
            if not lives(path.stem.rpartition("-")[2]):
                path.unlink(missing_ok=True)  # a worker that was killed
                continue
            try:
                record = json.loads(path.read_text())
            except (OSError, ValueError):
                continue
            workers += 1
            served = record["live"].get(model, record["on_demand"].get(model))
            behind += served != version
        return behind, workers

    def remove(self) -> None:
        """This worker ends."""
        if self._folder is not None:
            with contextlib.suppress(OSError):  # it was never written, or cannot be removed
                self._own(self._folder).unlink()

    def _own(self, folder: Path) -> Path:
        return folder / f"{platform.node()}-{os.getpid()}.json"
