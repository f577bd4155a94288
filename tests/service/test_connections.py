"""A client that goes away: through a real uvicorn, what it asked for is not computed."""

from __future__ import annotations

import asyncio
import base64
import socket
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import orjson
import pytest
import pytest_asyncio
import uvicorn

from service.batcher import SEARCH_EVERY_S, Batcher
from service.dispatch import Dispatch
from service.http import Receive, Scope, Send
from service.process import Process
from service.settings import Settings
from tests import toy
from tests.asgi import publish_toy
from tests.serving import png


async def lifespan(_scope: Scope, receive: Receive, send: Send) -> None:
    """In BentoML's place."""
    while True:
        kind = (await receive())["type"]
        await send({"type": f"{kind}.complete"})
        if kind == "lifespan.shutdown":
            return


@dataclass(frozen=True)
class Served:
    process: Process
    batcher: Batcher
    port: int

    async def until_in_flight(self, count: int) -> None:
        async with asyncio.timeout(20):
            while self.process.requests.in_flight != count:
                await asyncio.sleep(0.001)


@pytest_asyncio.fixture
async def served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Served]:
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(tmp_path))
    publish_toy(tmp_path)
    process = Process(Settings(state=tmp_path, workers=1, max_queue=4))
    server = uvicorn.Server(uvicorn.Config(Dispatch(process, lifespan), log_config=None))
    with socket.create_server(("127.0.0.1", 0)) as door:
        running = asyncio.create_task(server.serve(sockets=[door]))
        async with asyncio.timeout(60):
            while not (server.started and process.models.started):
                await asyncio.sleep(0.01)
        live = process.models.get("light")
        assert live is not None
        yield Served(process, live.batcher, door.getsockname()[1])
        server.should_exit = True
        await running


def post(path: str, kind: str, body: bytes) -> bytes:
    head = (
        f"POST {path} HTTP/1.1\r\nHost: vitrine\r\nContent-Type: {kind}\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


IMAGES = orjson.dumps({"images": [base64.b64encode(png(250)).decode()] * 2})
PATH = "/v1/classify/light?preprocess=raw"
REQUESTS = {
    "one image": post(PATH, "image/png", png(250)),
    "two images": post(PATH, "application/json", IMAGES),
    "a tensor": post(
        "/v2/models/light/infer",
        "application/json",
        orjson.dumps(
            {
                "inputs": [
                    {
                        "name": "images",
                        "shape": [1, *toy.white(1).shape[1:]],
                        "datatype": "UINT8",
                        "data": toy.white(1).ravel().tolist(),
                    }
                ]
            }
        ),
    ),
}


@pytest.mark.parametrize("request_bytes", REQUESTS.values(), ids=REQUESTS)
async def test_what_waits_for_a_client_that_is_gone_makes_room(
    served: Served, request_bytes: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    served.batcher.in_rotation = True  # its turn does not come
    gone: list[asyncio.StreamWriter] = []
    while served.batcher.queued < 4:
        _, writer = await ask(served, request_bytes)
        gone.append(writer)
        await served.until_in_flight(len(gone))
        await asyncio.sleep(0.01)
    refused, other = await ask(served, request_bytes)
    assert (await refused.readline()).split()[1] == b"429"
    await close(*gone)
    await served.until_in_flight(0)
    await asyncio.sleep(SEARCH_EVERY_S)
    answered, another = await ask(served, request_bytes)
    await served.until_in_flight(1)
    served.process.models.turns.add(served.batcher)
    assert (await answered.readline()).split()[1] == b"200"
    await close(other, another)
    assert "Exception" not in caplog.text


async def test_one_that_ends_between_requests_is_nobodys_loss(served: Served) -> None:
    for _ in range(2):
        reader, writer = await ask(served, REQUESTS["one image"])
        assert (await reader.readline()).split()[1] == b"200"
        await close(writer)
    await served.until_in_flight(0)


async def ask(
    served: Served, request_bytes: bytes
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    reader, writer = await asyncio.open_connection("127.0.0.1", served.port)
    writer.write(request_bytes)
    return reader, writer


async def close(*writers: asyncio.StreamWriter) -> None:
    for writer in writers:
        writer.close()
        await writer.wait_closed()
