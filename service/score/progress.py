"""How far a run is, on stderr: a bar on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterable
from typing import TextIO

LINE_EVERY_S = 10.0
BAR_EVERY_S = 0.1
_WIDTH = 30


class Progress:
    """Counts what is done. On a terminal the whole is counted on the side, for the bar and ETA."""

    def __init__(
        self,
        paths: Callable[[], Iterable[str]] | None,
        file: TextIO = sys.stderr,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`paths` lists everything there is to do, if it can be gone through twice."""
        self._file = file
        self._clock = clock
        self._bar = file.isatty()
        self._began = self._last = clock()
        self._done = self._before = self._failed = 0
        self._total: int | None = None
        if self._bar and paths is not None:
            threading.Thread(target=self._count, args=(paths,), daemon=True).start()

    @property
    def rate(self) -> float:
        """Images a second in this run, those of earlier runs left out."""
        return (self._done - self._before) / max(self._clock() - self._began, 1e-9)

    def add(self, scored: int, failed: int, *, before: bool = False) -> None:
        """So many more are done; `before` says that an earlier run did them."""
        self._done += scored + failed
        self._failed += failed
        if before:
            self._before += scored + failed
        now = self._clock()
        if now - self._last >= (BAR_EVERY_S if self._bar else LINE_EVERY_S):
            self._last = now
            self._show()

    def end(self) -> None:
        """Leave the terminal's line clean."""
        if self._bar:
            print("\r\033[K", end="", file=self._file, flush=True)

    def _show(self) -> None:
        text = f"{self._done:,}"
        if self._total:
            share = min(1.0, self._done / self._total)
            left = (self._total - self._done) / max(self.rate, 1e-9)
            filled = "#" * round(share * _WIDTH)
            text = f"[{filled:<{_WIDTH}}] {share:4.0%} {text}/{self._total:,}"
            text += f", {self.rate:,.0f}/s, {_clock_time(left)} left"
        else:
            text += f" done, {self.rate:,.0f}/s"
        if self._failed:
            text += f", {self._failed:,} failed"
        start, end = ("\r\033[K", "") if self._bar else ("", "\n")
        print(start + text, end=end, file=self._file, flush=True)

    def _count(self, paths: Callable[[], Iterable[str]]) -> None:
        try:
            self._total = sum(1 for _ in paths())
        except OSError:
            return  # the run itself will say so


def _clock_time(seconds: float) -> str:
    minutes, seconds = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}"
