"""Untrusted bytes -> rows for a model: inline while that is short, else on one of two threads.

So a photo never holds up the other requests, and few of them are in memory at once.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TypeVar

from artifacts.canonical import Placed
from artifacts.classify import Preprocess, prepare
from artifacts.images import BadImage, Limits
from service.http import Problem
from service.live import Live
from service.settings import Settings

# A small PNG decodes in less time than it takes to hand it to a thread. Its header tells its size.
INLINE_BYTES = 16 * 1024
INLINE_PIXELS = 256 * 256
# The event loop is kept from the other requests for so long by one request's many small images.
AT_A_STRETCH_S = 0.004
# A longer JSON or multipart body is read on a thread: a millisecond or more.
INLINE_PARSED = 64 * 1024
_PNG = b"\x89PNG\r\n\x1a\n"
_T = TypeVar("_T")


class Decoder:
    """Decodes and places images for the models of a process."""

    def __init__(self, settings: Settings) -> None:
        self._limits = Limits(max_pixels=settings.max_pixels)
        self._threads = ThreadPoolExecutor(2, "decode")
        self._decoding = asyncio.Semaphore(2)

    def close(self) -> None:
        """End the threads."""
        self._threads.shutdown(cancel_futures=True)

    async def one(self, live: Live, data: bytes, preprocess: Preprocess, deadline: float) -> Placed:
        """The rows for one image. Raises BadImage, Problem 504."""
        began = time.perf_counter()
        if _is_small(data):
            placed = prepare(data, live.manifest, preprocess, self._limits)
        else:
            task = partial(prepare, data, live.manifest, preprocess, self._limits)
            async with self._decoding:
                if time.perf_counter() > deadline:
                    raise late()
                placed = await self.beside(task)
        live.meter.decode.observe(time.perf_counter() - began)
        return placed

    async def each(
        self, live: Live, images: list[bytes], preprocess: Preprocess, deadline: float
    ) -> list[Placed | BadImage]:
        """The rows for many images, in order, or why there are none. Raises Problem 504."""

        async def attempt(data: bytes) -> Placed | BadImage:
            try:
                return await self.one(live, data, preprocess, deadline)
            except BadImage as error:
                return error

        # Large ones decode on the threads while the small ones do here.
        large = {
            number: asyncio.ensure_future(attempt(data))
            for number, data in enumerate(images)
            if not _is_small(data)
        }
        try:
            found: dict[int, Placed | BadImage] = {}
            began = time.perf_counter()
            until = began + AT_A_STRETCH_S
            for number, data in enumerate(images):
                if number in large:
                    continue
                try:
                    found[number] = prepare(data, live.manifest, preprocess, self._limits)
                except BadImage as error:
                    found[number] = error
                now = time.perf_counter()
                live.meter.decode.observe(now - began)
                if now > until:
                    await asyncio.sleep(0)  # the others' turn
                    now = time.perf_counter()
                    until = now + AT_A_STRETCH_S
                    if now > deadline:
                        raise late()
                began = now
            for number, task in large.items():
                found[number] = await task
            return [found[number] for number in range(len(images))]
        finally:  # the first Problem ends the request
            for task in large.values():
                task.cancel()

    async def parsed(self, parse: Callable[[bytes], _T], body: bytes) -> _T:
        """What `parse` makes of a body, or raises; a large one is parsed on a thread."""
        if len(body) <= INLINE_PARSED:
            return parse(body)
        return await self.beside(partial(parse, body))

    async def beside(self, task: Callable[[], _T]) -> _T:
        """The result of `task`, run on one of the threads."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, task)


def late() -> Problem:
    """504: accepted, but not done in time."""
    return Problem(504, "the deadline passed before the answer was there", reason="deadline")


def _is_small(data: bytes) -> bool:
    """A PNG that decodes at once: its header, at a fixed place, says how many pixels it has."""
    if len(data) > INLINE_BYTES or data[:8] != _PNG:
        return False
    width, height = int.from_bytes(data[16:20]), int.from_bytes(data[20:24])
    return width * height <= INLINE_PIXELS
