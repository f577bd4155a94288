"""An answer written at once is byte for byte the answer uvicorn would have written."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import uvicorn

from service import http
from service.http import CLOSE, JSON, Header, respond

Respond = Callable[..., Awaitable[None]]


async def plain(send: http.Send, status: int, body: bytes, headers: list[Header]) -> None:
    """The same answer by the two ASGI messages."""

    async def unbound(message: http.Message) -> None:
        await send(message)

    await respond(unbound, status, body, headers)


async def exchange(way: Respond, status: int, headers: list[Header], request: bytes) -> bytes:
    """What a real uvicorn puts on the wire for `request`."""

    async def app(scope: Any, receive: http.Receive, send: http.Send) -> None:
        await receive()
        body = b"" if scope["method"] == "HEAD" else b'{"a": 1}'
        await way(send, status, body, list(headers))

    config = uvicorn.Config(
        app, port=0, lifespan="off", log_config=None, date_header=False, http="httptools"
    )
    server = uvicorn.Server(config)
    server.install_signal_handlers = lambda: None  # type: ignore[attr-defined]
    task = asyncio.create_task(server.serve())
    while not server.started:
        await asyncio.sleep(0.005)
    port = server.servers[0].sockets[0].getsockname()[1]
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(request)
    writer.write_eof()
    found = await reader.read()
    writer.close()
    await writer.wait_closed()
    server.should_exit = True
    await task
    return found


@pytest.mark.parametrize(
    ("status", "headers", "request_"),
    [
        (200, [JSON], b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"),
        (200, [JSON], b"GET / HTTP/1.1\r\nHost: x\r\n\r\nGET / HTTP/1.1\r\nHost: x\r\n\r\n"),
        (422, [JSON], b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\nab"),
        (413, [JSON, CLOSE], b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"),
        (200, [JSON], b"HEAD / HTTP/1.1\r\nHost: x\r\n\r\n"),
        (200, [JSON], b"GET / HTTP/1.0\r\nHost: x\r\n\r\n"),
    ],
)
async def test_both_ways_put_the_same_on_the_wire(
    status: int, headers: list[Header], request_: bytes
) -> None:
    at_once = await exchange(respond, status, headers, request_)
    assert at_once.startswith(b"HTTP/1.1 %d" % status)
    assert at_once == await exchange(plain, status, headers, request_)


async def test_the_installed_uvicorn_is_written_to_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    taken: list[bool] = []
    before = http._at_once

    def watched(*arguments: Any) -> bool:
        taken.append(before(*arguments))
        return taken[-1]

    monkeypatch.setattr(http, "_at_once", watched)
    await exchange(respond, 200, [JSON], b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
    assert taken == [True]
