"""Capture: a sampled share of what the models saw, kept as PNG files named by their receipts."""

from __future__ import annotations

import logging
import os
import queue
import random
import threading
import time
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

FOLDER = "captured"
MAX_BYTES = 1024**3
MAX_DAYS = 30.0
MAX_WAITING = 1_000  # images not yet written, for one worker; more are let go
# What a file takes on most file systems, whatever its size; a 28x28 PNG is a tenth of it.
BLOCK = 4096
SWEEP_S = 600.0
CLOSE_S = 5.0  # for what is still waiting, and again for the thread to end

_log = logging.getLogger("vitrine.capture")


class Capture:
    """Keeps a `share` of images in `folder`, a folder for each day, written by a thread.

    Whatever gives a receipt offers its image: /v1, every form of /v2, the typed API. An answer
    without one (/v2 when asked for other outputs alone) can never be labelled and is not kept.
    Never blocks and never fails a prediction: what cannot be kept is let go. Files older than
    `max_days` are deleted, and the oldest where all of them take more than `max_bytes`.
    """

    def __init__(
        self,
        folder: Path,
        share: float,
        *,
        max_bytes: int = MAX_BYTES,
        max_days: float = MAX_DAYS,
        seed: int | None = None,
    ) -> None:
        self._folder = folder
        self._share = share
        self._max_bytes = max_bytes
        self._max_days = max_days
        self._random = random.Random(seed).random  # noqa: S311  # a sample, not a secret
        self._waiting: queue.Queue[tuple[str, NDArray[np.uint8]] | None] = queue.Queue(MAX_WAITING)
        self._thread: threading.Thread | None = None
        self._written = 0  # bytes since the last sweep
        self._swept = float("-inf")
        self._well = True

    def offer(self, receipt: str, pixels: NDArray[np.uint8]) -> None:
        """Keep one image, uint8[H, W] or uint8[H, W, 3], if chance chooses it. On the hot path."""
        if self._random() >= self._share:
            return
        if self._thread is None:
            self._thread = threading.Thread(target=self._write, name="capture", daemon=True)
            self._thread.start()
        try:
            # A copy: a row of a tensor would keep its whole request in memory until it is written.
            self._waiting.put_nowait((receipt, pixels.copy()))
        except queue.Full:
            return

    def close(self) -> None:
        """Write what is waiting, and end."""
        if self._thread is not None:
            with suppress(queue.Full):  # the disk hangs: what waits is let go
                self._waiting.put(None, timeout=CLOSE_S)
            self._thread.join(CLOSE_S)

    def _write(self) -> None:
        while (item := self._waiting.get()) is not None:
            try:
                self._keep(*item)
                self._well = True
            except OSError as error:
                if self._well:
                    _log.warning("images are not kept: %s", error.strerror)
                self._well = False

    def _keep(self, receipt: str, pixels: NDArray[np.uint8]) -> None:
        now = time.time()
        if self._written > self._max_bytes // 100 or now - self._swept > SWEEP_S:
            self._swept, self._written = now, 0
            sweep(self._folder, self._max_bytes, self._max_days)
        path = _place(self._folder, receipt, datetime.now(UTC))
        path.parent.mkdir(parents=True, exist_ok=True)
        draft = path.with_suffix(".draft")
        Image.fromarray(pixels).save(draft, "PNG")
        draft.replace(path)
        self._written += max(BLOCK, path.stat().st_size)


def find(folder: Path, receipt: str, issued: float) -> Path | None:
    """The image that was kept for a receipt issued at that time (Unix seconds), if any is."""
    day = datetime.fromtimestamp(issued, UTC)
    for when in (day, day + timedelta(days=1)):  # written a moment later, perhaps past midnight
        path = _place(folder, receipt, when)
        if path.is_file():
            return path
    return None


def sweep(folder: Path, max_bytes: int, max_days: float) -> None:
    """Delete what is too old, and then the oldest days' files until all take nine tenths at most.

    Several workers may sweep at once.
    """
    oldest = (datetime.now(UTC) - timedelta(days=max_days)).strftime("%Y-%m-%d")
    try:
        days = sorted(path for path in folder.iterdir() if path.is_dir())
    except FileNotFoundError:
        return
    sizes = {day: _size(day) for day in days}
    total = sum(sizes.values())
    room = max_bytes * 9 // 10 if total > max_bytes else max_bytes
    for day in days:
        if day.name >= oldest and total <= room:
            break
        for path in sorted(day.iterdir(), key=_age):
            if day.name >= oldest and total <= room:
                break
            total -= BLOCK
            path.unlink(missing_ok=True)
        if not any(day.iterdir()):
            try:
                day.rmdir()
            except OSError:
                continue  # another worker writes into it, or was first


def _size(day: Path) -> int:
    with os.scandir(day) as entries:
        return sum(BLOCK for _ in entries)


def _age(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except FileNotFoundError:
        return 0.0


def _place(folder: Path, receipt: str, when: datetime) -> Path:
    return folder / when.strftime("%Y-%m-%d") / f"{receipt}.png"
