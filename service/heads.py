"""Connections on which a request's head does not arrive in time are closed.

uvicorn has no such limit, and a timer for each request would cost every request. Instead all
connections are looked at once a second: none that answers is touched, and nothing is kept of one
but since when it waits. This reads uvicorn's private names, as service/http.py does; pyproject.toml
bounds uvicorn, and tests/e2e/test_server.py starts the real one.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection
from typing import Any


class Heads:
    """The connections of one server, and which of them owe a head since when."""

    def __init__(
        self,
        connections: Collection[Any],
        timeout_s: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._connections = connections
        self._timeout_s = timeout_s
        self._clock = clock
        # Connection -> its last request, by which a new one is told, and when it was first missed.
        self._waiting: dict[Any, tuple[Any, float]] = {}

    def sweep(self) -> int:
        """Close what has waited too long; how many were closed."""
        now, before, closed = self._clock(), self._waiting, 0
        self._waiting = {}
        for connection in list(self._connections):
            cycle = connection.cycle
            # After an answer uvicorn's own timer runs, until something arrives of the next head.
            if cycle is not None and not (
                cycle.response_complete and connection.timeout_keep_alive_task is None
            ):
                continue
            last, since = before.get(connection, (cycle, now))
            if last is not cycle:
                since = now
            if now - since < self._timeout_s:
                self._waiting[connection] = cycle, since
            else:
                connection.transport.close()
                closed += 1
        return closed
