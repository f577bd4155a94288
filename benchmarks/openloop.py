"""An open-loop load generator: requests leave when they are due, whether or not answers came.

A closed loop (wrk) sends less while a server stalls, and so never sees most of the wait. Here every
arrival has its time from the start, and latency counts from that time, not from when a connection
was free. One thread, one epoll, and no sleeping: run it on a core of its own.
"""

from __future__ import annotations

import gc
import heapq
import select
import socket
import time
from array import array
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

SPARE = 0.25  # seconds between connecting and the first request
DRAIN_S = 5.0  # how long answers are waited for after the last request


@dataclass(frozen=True, kw_only=True)
class Stream:
    """Requests sent in rotation at `rate` a second: at random (Poisson) or evenly spaced."""

    name: str
    requests: list[bytes]
    rate: float
    even: bool = False

    def times(self, seconds: float, random: np.random.Generator) -> NDArray[np.float64]:
        """When each request is due, in seconds from the start, up to `seconds`."""
        if self.even:
            return np.arange(0.0, seconds, 1.0 / self.rate)
        gaps = random.exponential(1.0 / self.rate, int(self.rate * seconds * 1.2) + 100)
        due = np.cumsum(gaps)
        within: NDArray[np.float64] = due[due < seconds]
        return within


@dataclass
class Answers:
    """What one stream got. Seconds, in the order of the answers."""

    sent: int = 0
    lost: int = 0  # connections that broke under a request, and requests without an answer
    unsent: int = 0  # due, but no connection was free by the end
    statuses: dict[int, int] = field(default_factory=dict)
    status: array[int] = field(default_factory=lambda: array("H"))
    due_s: array[float] = field(default_factory=lambda: array("f"))  # from the intended send
    wire_s: array[float] = field(default_factory=lambda: array("f"))  # from the real send

    def latencies(self, good: bool = True) -> NDArray[np.float32]:
        """From the intended send to the answer, of 2xx answers or of all others."""
        return self._chosen(self.due_s, good)

    def on_the_wire(self, good: bool) -> NDArray[np.float32]:
        """From the real send to the answer, of 2xx answers or of all others."""
        return self._chosen(self.wire_s, good)

    def _chosen(self, seconds: array[float], good: bool) -> NDArray[np.float32]:
        status = np.frombuffer(self.status, np.uint16) if self.status else np.zeros(0, np.uint16)
        values = np.frombuffer(seconds, np.float32) if seconds else np.zeros(0, np.float32)
        chosen: NDArray[np.float32] = values[(status // 100 == 2) == good]
        return chosen

    @property
    def bad(self) -> int:
        """Answers that were not 2xx, and requests that got none."""
        return self.lost + sum(n for status, n in self.statuses.items() if status // 100 != 2)


@dataclass(frozen=True)
class Outcome:
    """One run: answers by stream, and how late the generator itself was (99th percentile)."""

    streams: dict[str, Answers]
    lag_s: float
    seconds: float


class _Connection:
    """A kept-alive connection with at most one request on it."""

    __slots__ = ("answers", "buffer", "due", "expected", "port", "sent", "socket")

    def __init__(self, port: int) -> None:
        self.port = port
        self.open()
        self.answers: Answers | None = None
        self.due = self.sent = 0.0

    def open(self) -> None:
        """Connect, or connect anew."""
        self.socket = socket.create_connection(("127.0.0.1", self.port), timeout=10)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
        self.socket.setblocking(False)
        self.buffer, self.expected = b"", 0

    def send(self, request: bytes) -> None:
        view = memoryview(request)
        while view:
            try:
                view = view[self.socket.send(view) :]
            except BlockingIOError:
                continue  # the buffer is larger than any request here: never for long


def run(
    port: int,
    streams: list[Stream],
    *,
    seconds: float,
    connections: int = 128,
    seed: int = 0,
    every: tuple[float, Callable[[], None]] | None = None,
) -> Outcome:
    """Send all streams for so long, over at most so many connections.

    `every` calls a function each so many seconds, which must be quick.
    """
    random = np.random.default_rng(seed)
    answers = {stream.name: Answers() for stream in streams}
    pool = [_Connection(port) for _ in range(connections)]
    epoll = select.epoll()
    by_file = {c.socket.fileno(): c for c in pool}
    for file in by_file:
        epoll.register(file, select.EPOLLIN)
    schedule = _merged(streams, seconds, random)
    idle, waiting = deque(pool), deque[tuple[float, Stream, bytes]]()
    outstanding, lags = 0, array("f")
    gc.collect()
    gc.disable()
    clock = time.perf_counter
    began = clock() + SPARE
    tick = began + every[0] if every else float("inf")
    upcoming = next(schedule, None)
    last = began + seconds
    try:
        while upcoming is not None or outstanding or waiting:
            now = clock()
            while upcoming is not None and began + upcoming[0] <= now:
                due = began + upcoming[0]
                lags.append(now - due)
                waiting.append((due, upcoming[1], upcoming[2]))
                upcoming = next(schedule, None)
            while waiting and idle:
                connection = idle.popleft()
                connection.due, stream, request = waiting.popleft()
                connection.answers = answers[stream.name]
                connection.answers.sent += 1
                connection.sent = clock()
                outstanding += 1
                with suppress(OSError):  # the server closed it: the read below finds out
                    connection.send(request)
            for file, _ in epoll.poll(0):
                connection = by_file[file]
                if not _read(connection):
                    continue
                if connection.answers is not None:
                    outstanding -= 1
                    connection.answers = None
                if connection.socket.fileno() == file:
                    idle.append(connection)
                else:  # it was closed, and is opened anew
                    del by_file[file]
                    by_file[connection.socket.fileno()] = connection
                    epoll.register(connection.socket.fileno(), select.EPOLLIN)
                    if connection not in idle:
                        idle.append(connection)
            if now >= tick and every is not None:
                tick = now + every[0]
                every[1]()
            if waiting and now > last:
                for _, stream, _ in waiting:
                    answers[stream.name].unsent += 1
                waiting.clear()
            if now > last + DRAIN_S:
                break
        spent = min(clock() - began, seconds + DRAIN_S)
    finally:
        gc.enable()
        epoll.close()
        for connection in pool:
            if connection.answers is not None:
                connection.answers.lost += 1
            connection.socket.close()
    lag = float(np.percentile(np.frombuffer(lags, np.float32), 99)) if lags else 0.0
    return Outcome(answers, lag, max(spent, 1e-9))


def _merged(
    streams: list[Stream], seconds: float, random: np.random.Generator
) -> Iterator[tuple[float, Stream, bytes]]:
    """Every request of every stream, by the time it is due."""

    def one(stream: Stream, times: list[float]) -> Iterator[tuple[float, Stream, bytes]]:
        count = len(stream.requests)
        for number, due in enumerate(times):
            yield due, stream, stream.requests[number % count]

    each = [one(stream, stream.times(seconds, random).tolist()) for stream in streams]
    return heapq.merge(*each, key=lambda item: item[0])


def _read(connection: _Connection) -> bool:
    """Take what has arrived; True once the answer is whole, or the connection was replaced."""
    try:
        data = connection.socket.recv(1 << 18)
    except BlockingIOError:
        return False
    except OSError:
        data = b""
    if not data:
        if connection.answers is not None:
            connection.answers.lost += 1
        _reopen(connection)
        return True
    buffer = connection.buffer + data if connection.buffer else data
    if not connection.expected:
        head = buffer.find(b"\r\n\r\n")
        if head < 0:
            connection.buffer = buffer
            return False
        lower = buffer[:head].lower()
        at = lower.find(b"\r\ncontent-length:")
        length = int(lower[at + 17 :].split(b"\r\n", 1)[0]) if at >= 0 else 0
        connection.expected = head + 4 + length
    if len(buffer) < connection.expected:
        connection.buffer = buffer
        return False
    now = time.perf_counter()
    answers = connection.answers
    if answers is not None:
        status = int(buffer[9:12])
        answers.statuses[status] = answers.statuses.get(status, 0) + 1
        answers.status.append(status)
        answers.due_s.append(now - connection.due)
        answers.wire_s.append(now - connection.sent)
    closing = b"\r\nconnection: close" in buffer[: connection.expected].lower()
    connection.buffer, connection.expected = b"", 0
    if closing:
        _reopen(connection)
    return True


def _reopen(connection: _Connection) -> None:
    # The new socket first, so that it cannot get the old one's file number.
    before = connection.socket
    connection.open()
    before.close()
