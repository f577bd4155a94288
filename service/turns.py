"""Whose turn it is: one batch at a time, the models with waiting rows in rotation.

Everything but a run itself happens on the event loop, so there are no locks.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING

from service.runner import Clock, Pixels, Run

if TYPE_CHECKING:
    from service.batcher import Batcher, Share

# A run expected to take longer than this leaves the event loop free by using the model's thread.
# Handing over costs some 60 us and the loop's core anyway, so short runs are cheaper inline.
INLINE_LIMIT_S = 0.004
# For so long full batches run one after the other before the event loop reads again: without it,
# an overloaded loop spends nearly all of its time on refusals, at one batch between two readings.
AT_A_STRETCH_S = 0.012


class Turns:
    """Runs the batches of all models of a process, one at a time.

    More would only take each other's core.
    """

    def __init__(self, clock: Clock = time.perf_counter) -> None:
        self.clock = clock
        self._busy = False  # a run is under way, or will begin as soon as the loop is free
        self._waiting: deque[Batcher] = deque()
        self._until = 0.0  # when the run on the thread should end
        self._thread: ThreadPoolExecutor | None = None

    @property
    def idle(self) -> bool:
        """No rows wait, and none are run: as seen from the event loop."""
        return not (self._waiting or self._until)

    def add(self, batcher: Batcher) -> None:
        """Put a batcher with rows into the rotation; a run follows as soon as the loop is free.

        Requests whose bytes arrived together are all heard before that run begins.
        """
        batcher.in_rotation = True
        self._waiting.append(batcher)
        if not self._busy:
            self._busy = True
            asyncio.get_running_loop().call_soon(self._next)

    def ahead_s(self, batcher: Batcher) -> float:
        """How long the batches of the other models may hold up the next one of this model."""
        return sum(b.batch_s() for b in self._waiting if b is not batcher)

    def running_s(self, now: float) -> float:
        """How much longer the run under way should take."""
        return max(0.0, self._until - now)

    def close(self) -> None:
        """End the thread; call when every batcher is closed."""
        if self._thread is not None:
            self._thread.shutdown()

    def _next(self) -> None:
        """Run what waits: one batch, or full ones for as long as the loop can be kept from it."""
        until = self.clock() + AT_A_STRETCH_S
        while True:
            while self._waiting:
                batcher = self._waiting.popleft()
                batcher.in_rotation = False
                shares, parts = batcher.take()
                if shares:
                    break
            else:
                self._busy = False
                return
            expected_s = batcher.times.expect(sum(map(len, parts)))
            if expected_s > INLINE_LIMIT_S:
                self._on_the_thread(batcher, shares, parts, expected_s)
                return
            again = False
            try:
                self._deliver(batcher, shares, batcher.runner.run(parts))
                # While full batches wait there is nothing to collect, and what the event loop
                # would read is more to refuse: it reads when they are done, or when it must.
                again = batcher.queued >= batcher.max_batch and self.clock() < until
            finally:  # whatever went wrong in telling of this batch, the next one must run
                if not again:
                    asyncio.get_running_loop().call_soon(self._next)
            if not again:
                return

    def _on_the_thread(
        self, batcher: Batcher, shares: list[Share], parts: list[Pixels], expected_s: float
    ) -> None:
        self._until = self.clock() + expected_s
        if self._thread is None:
            self._thread = ThreadPoolExecutor(1, "inference")
        loop = asyncio.get_running_loop()

        def ended(running: Future[Run]) -> None:
            loop.call_soon_threadsafe(self._finish, batcher, shares, running.result())

        self._thread.submit(batcher.runner.run, parts).add_done_callback(ended)

    def _finish(self, batcher: Batcher, shares: list[Share], run: Run) -> None:
        self._until = 0.0
        try:
            self._deliver(batcher, shares, run)
        finally:
            asyncio.get_running_loop().call_soon(self._next)

    def _deliver(self, batcher: Batcher, shares: list[Share], run: Run) -> None:
        """Answer a batch; its model goes to the end of the rotation if more of it waits."""
        try:
            batcher.deliver(shares, run)
        finally:
            if batcher.queued and not batcher.in_rotation:
                batcher.in_rotation = True
                self._waiting.append(batcher)
