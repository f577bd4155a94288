"""The service in this process: Dispatch around a stub, called through ASGI."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from artifacts.store import Store
from service.dispatch import Dispatch
from service.http import Receive, Scope, Send
from service.process import Process
from service.settings import Settings
from tests import toy


@dataclass(frozen=True)
class Inside:
    """A running process, its application, and a client of it."""

    process: Process
    app: Dispatch
    client: httpx.AsyncClient


def publish_toy(state: Path) -> None:
    """The toy, live in a state folder, doing the task `light`."""
    store = Store(state)
    published = toy.publish(store)
    store.activate(published.name, published.version)
    store.point(published.task, published.name)


async def stub(scope: Scope, _receive: Receive, send: Send) -> None:
    """In BentoML's place: answers 418 to whatever reaches it."""
    await send({"type": "http.response.start", "status": 418, "headers": []})
    await send({"type": "http.response.body", "body": scope["path"].encode()})


@asynccontextmanager
async def inside(
    state: Path | None, *, start: bool = True, alone: bool = False, **changes: Any
) -> AsyncIterator[Inside]:
    """A process with these settings, ready unless it is not to be started; stopped afterwards.

    `alone`: the toy is its only model, the release's are not there.
    """
    if state is not None:
        publish_toy(state)
    store = Store(state, release=Path("no release")) if alone else None
    process = Process(Settings(state=state, workers=1, **changes), store)
    app = Dispatch(process, stub)
    if start:
        await process.start()
        async with asyncio.timeout(60):
            while not process.models.started:
                await asyncio.sleep(0.01)
    transport = httpx.ASGITransport(app)  # type: ignore[arg-type]
    async with httpx.AsyncClient(transport=transport, base_url="http://vitrine") as client:
        try:
            yield Inside(process, app, client)
        finally:
            await process.stop()
