"""Lines of the log that a stranger can cause: each the first time, then at most once a minute."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

INTERVAL_S = 60.0
MAX_KINDS = 100  # of lines that are remembered
KIND = 40  # characters that tell a line from others; some have the client's address further on

# What a request can make a library, or us, say: "Invalid HTTP request received.", a traceback.
LOGGERS = ("uvicorn.error", "asyncio", "vitrine.dispatch", "vitrine.sharing")


class Sparing(logging.Filter):
    """Holds back repetitions of a warning or an error; the next that passes says how many."""

    def __init__(
        self, interval_s: float = INTERVAL_S, clock: Callable[[], float] = time.monotonic
    ) -> None:
        super().__init__()
        self._interval_s = interval_s
        self._clock = clock
        self._passed: dict[str, float] = {}  # a line before its values are put in -> when
        self._held: dict[str, int] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether the line is written."""
        if record.levelno < logging.WARNING:
            return True
        kind, now = str(record.msg)[:KIND], self._clock()
        passed = self._passed.get(kind)
        if passed is not None and now - passed < self._interval_s:
            self._held[kind] = self._held.get(kind, 0) + 1
            return False
        if len(self._passed) >= MAX_KINDS:
            self._passed.clear()
            self._held.clear()
        self._passed[kind] = now
        held = self._held.pop(kind, 0)
        if held:
            record.msg = f"{record.getMessage()} ({held} more of these were not written)"
            record.args = ()
        return True


_SPARING = Sparing()


def spare_the_log() -> None:
    """Have the lines of `LOGGERS` pass through one filter; once or more, it is the same."""
    for name in LOGGERS:
        logging.getLogger(name).addFilter(_SPARING)
