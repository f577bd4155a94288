"""The service's own application inside the test's process: everything but BentoML and a socket."""

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
from service.http import Scope
from service.process import Process
from service.settings import Settings
from tests import toy


@dataclass(frozen=True)
class Inside:
    """A started process of the service, and a client of its application."""

    client: httpx.AsyncClient
    process: Process


@asynccontextmanager
async def inside(folder: Path, *, pointed: bool = True, **settings: Any) -> AsyncIterator[Inside]:
    """The service with the toy as its only model, doing the task `light`; ready, ended after."""
    chosen = Settings(state=folder / "state", workers=1, **settings)
    store = Store(chosen.state, release=folder / "no release")
    published = toy.publish(store)
    store.activate(published.name, published.version)
    if pointed:
        store.point(published.task, published.name)
    process = Process(chosen, store)
    loaded = asyncio.Event()
    process.models.on_swap.append(loaded.set)
    app = Dispatch(process, _nothing)
    await process.start()
    transport = httpx.ASGITransport(app)  # type: ignore[arg-type]
    try:
        async with httpx.AsyncClient(transport=transport, base_url="http://vitrine") as client:
            await asyncio.wait_for(loaded.wait(), 60)
            yield Inside(client, process)
    finally:
        await process.stop()


async def _nothing(scope: Scope, *_: object) -> None:
    """In BentoML's place."""
    raise AssertionError(f"{scope['path']} is BentoML's, which is not here")
