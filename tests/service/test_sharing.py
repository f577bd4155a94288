"""Connections are shared among workers: those that come at once, one by one, and to the dead."""

from __future__ import annotations

import asyncio
import errno
import multiprocessing
import os
import socket
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from service import sharing
from service.connections import Connections
from service.sharing import Counts, Listener

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Worker:
    """A listener as a worker has it, and the connections it holds."""

    def __init__(self, folder: Path, door: socket.socket) -> None:
        self.connections = Connections()
        self.listener = Listener(self.protocol, door.dup(), Counts(folder), self.connections, None)

    def protocol(self) -> asyncio.Protocol:
        connections = self.connections

        class Held(asyncio.Protocol):
            cycle = None  # no request

            def connection_made(self, transport: asyncio.BaseTransport) -> None:
                connections.add(self)
                self.transport = transport

            def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
                connections.discard(self)

            def data_received(self, data: bytes) -> None:
                assert isinstance(self.transport, asyncio.Transport)
                self.transport.write(data)

        return Held()


@pytest.fixture
def door() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0), backlog=64) as listening:
        listening.setblocking(False)
        yield listening


@pytest_asyncio.fixture
async def workers(tmp_path: Path, door: socket.socket) -> AsyncIterator[list[Worker]]:
    found = [Worker(tmp_path, door), Worker(tmp_path, door)]
    yield found
    for worker in found:
        worker.listener.close()


async def connect(door: socket.socket) -> Streams:
    """A connection that was accepted: it has answered."""
    async with asyncio.timeout(20):
        reader, writer = await asyncio.open_connection(*door.getsockname())
        writer.write(b"a")
        assert await reader.readexactly(1) == b"a"
        return reader, writer


async def close(streams: Sequence[Streams]) -> None:
    for _, writer in streams:
        writer.close()
        await writer.wait_closed()


async def test_connections_that_come_at_once_are_shared(
    workers: list[Worker], door: socket.socket
) -> None:
    streams = await asyncio.gather(*(connect(door) for _ in range(32)))
    first, second = (len(worker.connections) for worker in workers)
    assert first + second == 32
    assert abs(first - second) <= 4
    await close(streams)


async def test_connections_that_come_one_by_one_are_shared(
    workers: list[Worker], door: socket.socket
) -> None:
    for _ in range(2):  # nothing remains of the first ones
        streams = [await connect(door) for _ in range(8)]
        assert sorted(len(worker.connections) for worker in workers) == [4, 4]
        await close(streams)
        while any(worker.connections for worker in workers):
            await asyncio.sleep(0.001)


async def test_a_worker_that_is_busy_is_not_waited_for(
    workers: list[Worker], door: socket.socket
) -> None:
    workers[0].listener.close()
    streams = [await connect(door) for _ in range(8)]
    assert len(workers[1].connections) == 8
    await close(streams)


def test_a_dead_worker_is_not_given_way_to_and_its_row_is_taken(tmp_path: Path) -> None:
    mine = Counts(tmp_path)
    gone = multiprocessing.get_context("spawn").Process(target=Counts, args=(tmp_path,))
    gone.start()
    gone.join()
    assert gone.exitcode == 0
    assert not mine.fewer_elsewhere(10)
    other = Counts(tmp_path)
    assert mine.fewer_elsewhere(10)
    other.tell(9)
    assert not mine.fewer_elsewhere(9)
    assert not mine.fewer_elsewhere(10), "nine are enough beside ten"
    assert mine.fewer_elsewhere(11)
    assert (tmp_path / sharing.FILE).read_bytes()[8:12] == os.getpid().to_bytes(4, "little")


async def test_without_file_descriptors_it_tries_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    class Door(socket.socket):
        tries = 0

        def accept(self) -> Any:
            Door.tries += 1
            if Door.tries == 1:
                raise OSError(errno.EMFILE, "Too many open files")
            return super().accept()

    monkeypatch.setattr(sharing, "EXHAUSTED_S", 0.01)
    with Door() as door:
        door.setblocking(False)
        door.bind(("127.0.0.1", 0))
        door.listen()
        listener = Listener(asyncio.Protocol, door, Counts(tmp_path), Connections(), None)
        _, writer = await asyncio.open_connection(*door.getsockname())
        while Door.tries < 2:
            await asyncio.sleep(0.001)
        listener.close()
        await listener.wait_closed()
        writer.close()
        await writer.wait_closed()
    assert "Too many open files" in caplog.text


async def test_a_folder_that_cannot_be_written_leaves_all_as_it_was(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    loop = asyncio.get_running_loop()
    sharing.share(tmp_path / "missing", Connections())
    assert "create_server" not in vars(loop)
    assert "not shared evenly" in caplog.text
