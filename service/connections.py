"""The connections of a worker, and what is done at once when one of them begins or ends.

uvicorn keeps them in a set, which it lets nobody watch: so it is given ours. Like service/heads.py
this knows uvicorn's private names; pyproject.toml bounds uvicorn, and tests/e2e/test_server.py
starts the real one.
"""

from __future__ import annotations

import gc
from collections.abc import Callable
from typing import Any

from uvicorn.server import ServerState

from service.http import REQUEST


class Connections(set[Any]):
    """What uvicorn adds its connections to.

    `on_begin` is called with each that began, `on_end` after each that ended.
    """

    def __init__(self) -> None:
        super().__init__()
        self.on_begin: list[Callable[[Any], object]] = []
        self.on_end: list[Callable[[], object]] = []

    def add(self, connection: Any) -> None:
        """The connection began: its protocol speaks."""
        super().add(connection)
        for told in self.on_begin:
            told(connection)

    def discard(self, connection: Any) -> None:
        """The connection ended: nobody waits for the answer that was being made."""
        super().discard(connection)
        cycle = connection.cycle
        if cycle is not None and not cycle.response_complete and REQUEST in cycle.scope:
            cycle.scope[REQUEST].abandon()
        for told in self.on_end:
            told()


def take_over() -> Connections:
    """The connections of the uvicorn server that this process runs, from before the first of them.

    uvicorn tells its application nothing of itself, so its state is looked for, once. Where there
    is no server, as in a test, they stay empty.
    """
    connections = Connections()
    for found in gc.get_objects():
        if type(found) is ServerState:
            found.connections = connections
            break
    return connections
