"""Concurrent requests become batches: run at once when idle, collected while a run is under way.

One `Batcher` for each model holds its queue; `Turns` decides which model runs next. Nothing waits
for a timer: a batch is whatever had arrived by the time the model was free.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol

import numpy as np

from artifacts.model import Outputs
from service.estimate import RunTimes
from service.runner import Pixels, Run, Runner
from service.turns import Turns

# A full queue is searched for cancelled requests this often, and not for each one it refuses: there
# may be a thousand to look at, and when most are refused that was most of the work.
SEARCH_EVERY_S = 0.005


class Refused(Exception):
    """Not accepted: no room in the queue, or the answer would come too late."""

    def __init__(self, reason: str, retry_after_s: float) -> None:
        super().__init__(reason)
        self.reason = reason
        self.retry_after_s = retry_after_s


class TooManyRows(Refused):
    """One request has more rows than the queue can ever hold: trying again does not help."""


class Late(Exception):
    """Accepted, but its deadline passed before a run could take it."""


class RowFailed(Exception):
    """The model failed on a row of this request; the other requests of the batch were answered."""


class Ran(NamedTuple):
    """What came of a request: outputs for its rows, and how long they waited and ran (seconds)."""

    outputs: Outputs
    queued_s: float
    ran_s: float


class Meter(Protocol):
    """Told of every batch; see service.meters."""

    def batch(self, pixels: Pixels, requests: int, ran_s: float) -> None: ...
    def waited(self, queued_s: float) -> None: ...


class _Job:
    """A request in the queue: its rows, how many of them were taken, and the answers so far."""

    __slots__ = (
        "arrived",
        "deadline",
        "done",
        "failed",
        "future",
        "parts",
        "ran_s",
        "rows",
        "started",
        "taken",
    )

    def __init__(
        self, rows: Pixels, deadline: float, now: float, future: asyncio.Future[Ran]
    ) -> None:
        self.rows = rows
        self.deadline = deadline
        self.arrived = now
        self.future = future
        self.taken = 0
        self.done = 0
        self.started = 0.0
        self.ran_s = 0.0
        self.failed = False
        self.parts: list[Outputs] = []


# How many rows of a batch are a request's; shares stand in the order of the rows.
# A plain tuple: one is made for every request.
Share = tuple[_Job, int]


class Batcher:
    """One model's queue, bounded in rows; see `Runner` for `predict` and `buckets`."""

    def __init__(
        self,
        turns: Turns,
        predict: Callable[[Pixels], Outputs],
        *,
        max_batch: int,
        max_queue: int,
        meter: Meter,
        buckets: Sequence[int] = (),
    ) -> None:
        self.queued = 0
        self.in_rotation = False  # kept by Turns: a batcher waits for its turn once
        self.max_batch = max_batch
        self.runner = Runner(predict, buckets, turns.clock)
        self.times = RunTimes(max_batch)
        self._predict = predict
        self._turns = turns
        self._max_queue = max_queue
        self._meter = meter
        self._jobs: deque[_Job] = deque()
        self._running: list[Share] = []
        self._closed = False
        self._search_at = 0.0  # a time of the clock

    def submit(self, rows: Pixels, deadline: float) -> asyncio.Future[Ran]:
        """Queue `rows`, uint8[N, ...], N at least 1; the future answers for all of them, in order.

        `deadline` is a time of the clock. Raises Refused at once where the queue has no room, or
        where the answer could not be there in time. The future may raise Late or RowFailed.
        """
        count = len(rows)
        assert count, "a request without rows"
        if self._closed:
            raise Refused("the model is being replaced or the server is stopping", 1.0)
        if self.queued + count > self._max_queue:
            self._make_room(count)
        now = self._turns.clock()
        # Where nothing is under way a batch is tried, whatever the estimate: it may be out of date.
        if count > self.max_batch or not self._turns.idle:
            wait_s = self._wait_s(count) + self._turns.running_s(now)
            if now + wait_s > deadline:
                raise Refused(f"the answer would take {wait_s:.3f} s, too late", wait_s)
        future: asyncio.Future[Ran] = asyncio.get_running_loop().create_future()
        self._jobs.append(_Job(rows, deadline, now, future))
        self.queued += count
        if not self.in_rotation:
            self._turns.add(self)
        return future

    def admit(self) -> None:
        """Raises Refused when the queue is full: asked before a body is read, which costs more."""
        if self.queued >= self._max_queue:
            self._make_room(1)

    def take(self) -> tuple[list[Share], list[Pixels]]:
        """The rows of the next run, up to `max_batch`, in parts, and whose they are.

        A job with more rows than fit leaves the rest for the next run. Cancelled jobs are dropped,
        late ones answered.
        """
        now = self._turns.clock()
        shares: list[Share] = []
        parts: list[Pixels] = []
        room = self.max_batch
        while self._jobs and room:
            job = self._jobs[0]
            left = len(job.rows) - job.taken
            if job.future.done() or job.failed:
                self._leave(job)
                continue
            if now > job.deadline:
                self._leave(job)
                job.future.set_exception(Late("the deadline passed in the queue"))
                continue
            count = min(left, room)
            if not job.taken:
                job.started = now
                self._meter.waited(now - job.arrived)
            parts.append(job.rows if count == len(job.rows) else job.rows[job.taken :][:count])
            shares.append((job, count))
            job.taken += count
            self.queued -= count
            room -= count
            if count == left:
                self._jobs.popleft()
        self._running = shares
        return shares, parts

    def deliver(self, shares: list[Share], run: Run) -> None:
        """Give each job its rows of a finished run."""
        self._running = []
        ran_s = run.ended - run.began
        at = 0
        for job, count in shares:
            part = slice(at, at + count)
            at += count
            job.ran_s += ran_s
            if run.outputs is None or (run.failed is not None and run.failed[part].any()):
                job.failed = True
                if not job.future.done():
                    job.future.set_exception(RowFailed("the model failed on this image"))
                continue
            job.done += count
            whole = job.done == len(job.rows)
            if job.future.done():
                continue
            if whole and not job.parts:
                job.future.set_result(Ran(run.outputs[part], job.started - job.arrived, job.ran_s))
                continue
            job.parts.append(run.outputs[part])
            if whole:
                job.future.set_result(Ran(_joined(job.parts), job.started - job.arrived, job.ran_s))
        if run.failed is None:
            self.times.learn(at, ran_s)
        if len(run.pixels):
            self._meter.batch(run.pixels, len(shares), ran_s)

    def measure(self, pixels: Pixels) -> None:
        """Run `pixels` off the record, to plan kernels and to have an estimate from the start.

        Raises whatever the model raises. Not for a batcher that is in use.
        """
        began = self._turns.clock()
        self._predict(pixels)
        self.times.warm(len(pixels), self._turns.clock() - began)

    def batch_s(self) -> float:
        """How long the next run should take."""
        return self.times.expect(min(max(self.queued, 1), self.max_batch))

    async def close(self) -> None:
        """Take nothing more; returns when everything accepted was answered."""
        self._closed = True
        while pending := [
            job.future
            for job in (*self._jobs, *(job for job, _ in self._running))
            if not job.future.done()
        ]:
            await asyncio.wait(pending)

    def _wait_s(self, count: int) -> float:
        """From now to the answer of `count` rows behind those queued."""
        full, rest = divmod(self.queued + count, self.max_batch)
        seconds = full * self.times.expect(self.max_batch)
        if rest:
            seconds += self.times.expect(rest)
        runs = full + (rest > 0)
        return seconds + runs * self._turns.ahead_s(self)

    def _make_room(self, count: int) -> None:
        """Take the cancelled out of the queue. Raises Refused where that is not enough."""
        if count > self._max_queue:
            raise TooManyRows(f"{count} rows in one request, at most {self._max_queue} may be", 1.0)
        now = self._turns.clock()
        if now >= self._search_at:
            self._search_at = now + SEARCH_EVERY_S
            kept = [job for job in self._jobs if not job.future.done()]
            self._jobs = deque(kept)
            self.queued = sum(len(job.rows) - job.taken for job in kept)
        if self.queued + count > self._max_queue:
            raise Refused(
                f"{self.queued} rows are waiting, at most {self._max_queue} may",
                self._wait_s(count),
            )

    def _leave(self, job: _Job) -> None:
        """Take the first job out of the queue, unanswered."""
        self._jobs.popleft()
        self.queued -= len(job.rows) - job.taken


def _joined(parts: list[Outputs]) -> Outputs:
    probabilities = np.concatenate([part.probabilities for part in parts])
    energies = [part.energy for part in parts if part.energy is not None]
    return Outputs(probabilities, np.concatenate(energies) if energies else None)
