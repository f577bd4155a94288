"""New connections are shared among the workers, which all accept from one socket.

Left to the event loop, the worker that wakes first takes every connection that waits, and of those
that come one by one the same worker takes nearly all: with two workers 32 connections went 0 and
32, or 1 and 31. A client or proxy that keeps its connections then has a single core. So a worker
gives way for a moment to one that has fewer. Where none has, it takes all that wait: the event
loop, which takes one a turn, left the last of 32 waiting for 0.2 to 0.3 s while it worked for the
first.
"""

from __future__ import annotations

import asyncio
import fcntl
import logging
import mmap
import os
import socket
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any

from service.connections import Connections
from service.workers import lives

log = logging.getLogger("vitrine.sharing")

GIVE_WAY_S = 0.001  # a worker that has fewer, and is not busy, has accepted by then
EXHAUSTED_S = 1.0  # until another try, where there are no more file descriptors
AT_ONCE = 64
WORKERS = 256
FILE = "connections"

Factory = Callable[[], asyncio.BaseProtocol]


class Counts:
    """How many connections each worker has: a file that all of them map.

    A row for each worker: its process, and its connections. A dead worker's row is taken by the
    next that starts.
    """

    def __init__(self, folder: Path) -> None:
        """Take a row of the folder's file. Raises OSError where that is not possible."""
        with (folder / FILE).open("a+b") as file:
            file.truncate(WORKERS * 8)
            rows = memoryview(mmap.mmap(file.fileno(), WORKERS * 8)).cast("I")
            self._processes, self._connections = rows[::2], rows[1::2]
            fcntl.flock(file, fcntl.LOCK_EX)
            try:
                self._row = self._take_row()
            finally:
                fcntl.flock(file, fcntl.LOCK_UN)  # by closing it would last as long as the map

    def _take_row(self) -> int:
        for row, process in enumerate(self._processes):
            if not (process and lives(process)):
                self._connections[row] = 0
                self._processes[row] = os.getpid()
                return row
        raise OSError(f"more than {WORKERS} workers")

    def tell(self, count: int) -> None:
        """Show the others how many connections are here."""
        self._connections[self._row] = count

    def fewer_elsewhere(self, count: int) -> bool:
        """Whether a living worker has clearly fewer than `count`: an eighth less, at least one."""
        least = count - count // 8
        for row, process in enumerate(self._processes):
            if not process:
                return False  # rows are taken from the first on
            if row != self._row and self._connections[row] < least and lives(process):
                return True
        return False


class Listener:
    """What `loop.create_server` returns, as far as uvicorn uses it: it accepts."""

    def __init__(
        self,
        factory: Factory,
        door: socket.socket,
        counts: Counts,
        connections: Connections,
        context: ssl.SSLContext | None,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._factory = factory
        self._door = door
        self._counts = counts
        self._connections = connections
        self._context = context
        # Accepted, not among the connections yet.
        self._arriving: dict[asyncio.BaseProtocol, asyncio.Task[None]] = {}
        self._later: asyncio.TimerHandle | None = None
        connections.on_begin.append(self._arrived)
        connections.on_end.append(self._tell)
        self._loop.add_reader(door, self._knocked)

    def close(self) -> None:
        """Accept no more; what was accepted goes on."""
        if self._door.fileno() < 0:
            return
        if self._later is not None:
            self._later.cancel()
        self._loop.remove_reader(self._door)
        self._door.close()

    async def wait_closed(self) -> None:
        """What is still arriving has arrived."""
        if self._arriving:
            await asyncio.wait(self._arriving.values())

    def _knocked(self, at_least: int = 0) -> None:
        """Accept who waits, as long as nobody has fewer; a flood leaves the loop its turn."""
        for accepted in range(AT_ONCE):
            here = self._tell()
            if accepted >= at_least and self._counts.fewer_elsewhere(here):
                self._pause(GIVE_WAY_S)
                return
            if not self._accept():
                return

    def _tell(self) -> int:
        """How many are here, which the others are told."""
        here = len(self._connections) + len(self._arriving)
        self._counts.tell(here)
        return here

    def _pause(self, seconds: float) -> None:
        self._loop.remove_reader(self._door)
        self._later = self._loop.call_later(seconds, self._resume)

    def _resume(self) -> None:
        self._later = None
        self._loop.add_reader(self._door, self._knocked)
        self._knocked(at_least=1)  # whoever was given way to is busy, or has taken it

    def _accept(self) -> bool:
        """Whether there was somebody."""
        try:
            connection, _ = self._door.accept()
        except (BlockingIOError, ConnectionAbortedError):
            return False  # another worker took it, or it is gone
        except OSError as error:
            log.error("no connection can be accepted for %g s: %s", EXHAUSTED_S, error)
            self._pause(EXHAUSTED_S)
            return False
        connection.setblocking(False)
        protocol = self._factory()
        self._arriving[protocol] = self._loop.create_task(self._welcome(protocol, connection))
        return True

    async def _welcome(self, protocol: asyncio.BaseProtocol, connection: socket.socket) -> None:
        try:
            await self._loop.connect_accepted_socket(
                lambda: protocol, connection, ssl=self._context
            )
        except OSError as error:  # ssl.SSLError is one: no TLS was spoken
            log.debug("a connection did not come about: %s", error)
            connection.close()
        finally:
            self._arrived(protocol)

    def _arrived(self, protocol: asyncio.BaseProtocol) -> None:
        """It counts among the connections, a few turns before its task is done, or not at all."""
        self._arriving.pop(protocol, None)


def share(folder: Path, connections: Connections) -> None:
    """Let the uvicorn of these connections, which starts on the running loop, accept as above.

    It offers no way to pass a listener, so the loop's own `create_server` is covered; other uses of
    it, without a socket, are left as they are.
    """
    try:
        counts = Counts(folder)
    except OSError as error:
        log.warning("connections are not shared evenly among the workers: %s", error)
        return
    loop = asyncio.get_running_loop()
    plain = loop.create_server

    async def create_server(
        protocol_factory: Factory,
        *where: Any,
        sock: socket.socket | None = None,
        ssl: ssl.SSLContext | None = None,
        backlog: int = 100,
        **options: Any,
    ) -> asyncio.AbstractServer | Listener:
        if sock is None:
            return await plain(protocol_factory, *where, ssl=ssl, backlog=backlog, **options)
        sock.setblocking(False)
        sock.listen(backlog)
        return Listener(protocol_factory, sock, counts, connections, ssl)

    loop.create_server = create_server  # type: ignore[method-assign,assignment]
