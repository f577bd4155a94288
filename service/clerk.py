"""The clerk: writes labels into the ledger on a thread of its own, many requests in one commit."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import queue
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from service.ledger import Label, Ledger, Outcome, Unavailable

MAX_WAITING = 20_000  # labels not yet written, for one worker
MAX_COMMIT = 500  # labels in one transaction
# At most one commit in this time. Each holds Python's lock for a millisecond or so, for which
# predictions wait; labels that come often share a commit instead, and one that comes alone waits
# for nothing.
PAUSE_S = 0.05
PATIENCE_S = 5.0  # what a request waits for its commit; the database's own limits are shorter

_log = logging.getLogger("vitrine.ledger")
_T = TypeVar("_T")


class _Job:
    """Labels that are to be committed together, and who waits for them."""

    __slots__ = ("future", "labels", "loop")

    def __init__(self, labels: Sequence[Label], loop: asyncio.AbstractEventLoop) -> None:
        self.labels = labels
        self.loop = loop
        self.future: asyncio.Future[list[Outcome]] = loop.create_future()

    def answer(self, outcomes: list[Outcome] | None, error: Unavailable | None) -> None:
        """On the event loop; the one who waited may have given up."""
        if self.future.done():
            return
        if error is None:
            assert outcomes is not None
            self.future.set_result(outcomes)
        else:
            self.future.set_exception(error)


def _answer(jobs: list[_Job], outcomes: list[Outcome] | None, error: Unavailable | None) -> None:
    """On the event loop, once for all who shared a commit: to wake it costs more than to answer."""
    at = 0
    for job in jobs:
        job.answer(None if outcomes is None else outcomes[at : at + len(job.labels)], error)
        at += len(job.labels)


class Clerk:
    """One event loop's way to the ledger: never blocks, holds a bounded number of labels.

    While one transaction commits, the labels that arrive collect, and are the next one: a slow
    disk makes larger transactions, not a longer queue.
    """

    def __init__(
        self, ledger: Ledger, *, max_waiting: int = MAX_WAITING, patience_s: float = PATIENCE_S
    ) -> None:
        self.ledger = ledger
        self.failures = 0  # requests that were answered 503, for the metrics
        self._patience_s = patience_s
        self._max_waiting = max_waiting
        self._waiting = 0  # labels; the event loop adds, the thread subtracts, under the lock
        self._lock = threading.Lock()
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._writer: threading.Thread | None = None
        self._readers = ThreadPoolExecutor(1, "ledger-reader")
        self._closed = False
        self._well = True

    async def record(self, labels: Sequence[Label]) -> list[Outcome]:
        """The outcome of each label, once all of them are committed.

        Raises Unavailable when they are not, or not yet known to be; repeating them is safe.
        """
        with self._lock:
            room = self._waiting + len(labels) <= self._max_waiting
            if room:
                self._waiting += len(labels)
        try:
            if self._closed or not room:
                raise Unavailable("the queue is full" if not room else "the server is stopping")
            if self._writer is None:
                self._writer = threading.Thread(target=self._write, name="ledger", daemon=True)
                self._writer.start()
            job = _Job(labels, asyncio.get_running_loop())
            self._jobs.put(job)
            try:
                async with asyncio.timeout(self._patience_s):
                    return await job.future
            except TimeoutError:
                raise Unavailable("the ledger is slow") from None
        except Unavailable:
            self.failures += 1
            raise

    async def read(self, query: Callable[[], _T]) -> _T:
        """What `query` of the ledger answers, asked on another thread. Raises Unavailable."""
        if self._closed:
            raise Unavailable("the server is stopping")
        asking = asyncio.get_running_loop().run_in_executor(self._readers, query)
        try:
            async with asyncio.timeout(self._patience_s):
                return await asking
        except TimeoutError:
            raise Unavailable("the ledger is slow") from None

    def close(self) -> None:
        """Write what is waiting, then end the threads. Blocks for a few seconds at most."""
        self._closed = True
        if self._writer is not None:
            self._jobs.put(None)
            self._writer.join(self._patience_s)
        self._readers.shutdown(wait=False, cancel_futures=True)
        self.ledger.close()

    def _write(self) -> None:
        """The thread: one transaction after another, until a None arrives."""
        last = False
        committed = float("-inf")
        while not last:
            jobs: list[_Job] = []
            count = 0
            job = self._jobs.get()
            time.sleep(max(0.0, committed + PAUSE_S - time.monotonic()))
            committed = time.monotonic()
            while job is not None:
                jobs.append(job)
                count += len(job.labels)
                if count >= MAX_COMMIT:
                    break
                try:
                    job = self._jobs.get_nowait()
                except queue.Empty:
                    break
            else:
                last = True
            if jobs:
                self._commit(jobs)
                with self._lock:
                    self._waiting -= count

    def _commit(self, jobs: list[_Job]) -> None:
        outcomes: list[Outcome] | None = None
        error: Unavailable | None = None
        try:
            outcomes = self.ledger.record([label for job in jobs for label in job.labels])
        except Unavailable as failure:
            error = failure
        except Exception as bug:  # ours; those who wait are told, and the thread goes on
            _log.exception("the ledger failed")
            error = Unavailable(type(bug).__name__)
        self._note(error)
        with contextlib.suppress(RuntimeError):  # the loop has ended, and with it whoever waited
            jobs[0].loop.call_soon_threadsafe(_answer, jobs, outcomes, error)

    def _note(self, error: Unavailable | None) -> None:
        """One line in the log when the ledger goes, and one when it comes back."""
        if self._well and error is not None:
            _log.warning("feedback is refused, the ledger is unavailable: %s", error)
        elif not self._well and error is None:
            _log.warning("feedback is accepted again, the ledger is back")
        self._well = error is None
