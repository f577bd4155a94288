"""Concurrent requests become batches: run at once when idle, collected while a run is under way.

One `Turns` for each process decides which model runs next; one `Batcher` for each model holds its
queue. Everything but the run itself happens on the event loop, so there are no locks. Nothing
waits for a timer: a batch is whatever had arrived by the time the model was free.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from artifacts.model import Outputs

Pixels = NDArray[np.uint8]
Clock = Callable[[], float]

# A run expected to take longer than this leaves the event loop free by using the model's thread.
# Handing over costs some 60 us and the loop's core anyway, so short runs are cheaper inline.
INLINE_LIMIT_S = 0.004
FORGET = 0.1  # weight of the newest run time in the estimate


class Refused(Exception):
    """Not accepted: no room in the queue, or the answer would come too late."""

    def __init__(self, reason: str, retry_after_s: float) -> None:
        super().__init__(reason)
        self.reason = reason
        self.retry_after_s = retry_after_s


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
    """Told of every batch; see service.metrics."""

    def batch(self, pixels: Pixels, ran_s: float) -> None: ...
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


class Turns:
    """Whose turn it is: runs one batch at a time, the models with waiting rows in rotation.

    One run at a time for each process, since more would only take each other's core.
    """

    def __init__(self, clock: Clock = time.perf_counter) -> None:
        self.clock = clock
        self._waiting: deque[Batcher] = deque()
        self._busy = False
        self._until = 0.0  # when the run on the thread should end
        self._thread: ThreadPoolExecutor | None = None

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
        while self._waiting:
            batcher = self._waiting.popleft()
            batcher.in_rotation = False
            jobs, pixels = batcher.take()
            if jobs:
                break
        else:
            self._busy = False
            return
        expected_s = batcher.estimate_s(len(pixels))
        if expected_s <= INLINE_LIMIT_S:
            self._finish(batcher, jobs, batcher.run(pixels))
            return
        self._until = self.clock() + expected_s
        if self._thread is None:
            self._thread = ThreadPoolExecutor(1, "inference")
        loop = asyncio.get_running_loop()
        running = self._thread.submit(batcher.run, pixels)
        running.add_done_callback(
            lambda run: loop.call_soon_threadsafe(self._finish, batcher, jobs, run.result())
        )

    def _finish(self, batcher: Batcher, jobs: list[tuple[_Job, int]], run: _Run) -> None:
        batcher.deliver(jobs, run)
        if batcher.queued and not batcher.in_rotation:
            batcher.in_rotation = True
            self._waiting.append(batcher)
        # Not a loop: between two batches the event loop reads what has arrived meanwhile.
        asyncio.get_running_loop().call_soon(self._next)


class _Run(NamedTuple):
    """A batch and its answers: outputs, which rows failed (None: none did), begin and end."""

    pixels: Pixels
    outputs: Outputs | None
    failed: NDArray[np.bool_] | None
    began: float
    ended: float


class Batcher:
    """One model's queue, bounded in rows.

    `predict` answers uint8[N, ...]; `buckets` are the only batch sizes it is run at, the rest of a
    bucket being padded (CUDA plans anew for each size; the CPU needs none).
    """

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
        self._turns = turns
        self._predict = predict
        self._max_queue = max_queue
        self._meter = meter
        self._buckets = tuple(sorted(buckets))
        self._jobs: deque[_Job] = deque()
        self._running: list[tuple[_Job, int]] = []
        self._closed = False
        # Seconds of a run by size class: index i holds batches of up to 2**i rows.
        self._seconds: list[float | None] = [None] * (max_batch.bit_length() + 1)

    def submit(self, rows: Pixels, deadline: float) -> asyncio.Future[Ran]:
        """Queue `rows`, uint8[N, ...]; the future answers with outputs for all of them, in order.

        `deadline` is a time of the clock. Raises Refused at once where the queue has no room, or
        where the answer could not be there in time. The future may raise Late or RowFailed.
        """
        count = len(rows)
        if self._closed:
            raise Refused("the model is being replaced or the server is stopping", 1.0)
        if self.queued + count > self._max_queue:
            self._drop_cancelled()
        wait_s = self._wait_s(count)
        if self.queued + count > self._max_queue:
            raise Refused(f"{self.queued} rows are waiting, at most {self._max_queue} may", wait_s)
        now = self._turns.clock()
        wait_s += self._turns.running_s(now)
        if now + wait_s > deadline:
            raise Refused(f"the answer would take {wait_s:.3f} s, too late", wait_s)
        future: asyncio.Future[Ran] = asyncio.get_running_loop().create_future()
        self._jobs.append(_Job(rows, deadline, now, future))
        self.queued += count
        if not self.in_rotation:
            self._turns.add(self)
        return future

    def take(self) -> tuple[list[tuple[_Job, int]], Pixels]:
        """The rows of the next run, up to `max_batch`, and whose they are: (job, count) in order.

        A job with more rows than fit leaves the rest for the next run. Cancelled jobs are dropped,
        late ones answered.
        """
        now = self._turns.clock()
        jobs: list[tuple[_Job, int]] = []
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
            jobs.append((job, count))
            job.taken += count
            self.queued -= count
            room -= count
            if count == left:
                self._jobs.popleft()
        self._running = jobs
        if not jobs:
            return [], _NOTHING
        return jobs, parts[0] if len(parts) == 1 else np.concatenate(parts)

    def run(self, pixels: Pixels) -> _Run:
        """Run a batch, halving it to find the rows that fail; on the thread, or on the loop."""
        began = self._turns.clock()
        outputs = self._attempt(pixels)
        failed = None
        if outputs is None:
            outputs, failed = self._bisect(pixels)
        return _Run(pixels, outputs, failed, began, self._turns.clock())

    def deliver(self, jobs: list[tuple[_Job, int]], run: _Run) -> None:
        """Give each job its rows of a finished run."""
        self._running = []
        ran_s = run.ended - run.began
        self._meter.batch(run.pixels, ran_s)
        if run.failed is None:
            self._learn(len(run.pixels), ran_s)
        at = 0
        for job, count in jobs:
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

    def measure(self, pixels: Pixels) -> None:
        """Run `pixels` off the record, to plan kernels and to have an estimate from the start.

        Raises whatever the model raises. Not for a batcher that is in use.
        """
        began = self._turns.clock()
        self._predict(pixels)
        self._learn(len(pixels), self._turns.clock() - began)

    def estimate_s(self, rows: int) -> float:
        """How long a run of `rows` should take, from those measured; 0 while none was."""
        at = (rows - 1).bit_length()
        measured = self._seconds[at]
        if measured is not None:
            return measured
        nearest = min(
            (i for i, s in enumerate(self._seconds) if s is not None),
            key=lambda i: abs(i - at),
            default=None,
        )
        if nearest is None:
            return 0.0
        # Time grows at most in proportion to rows, and never shrinks.
        return float((self._seconds[nearest] or 0.0) * max(1.0, rows / 2**nearest))

    def batch_s(self) -> float:
        """How long the next run should take."""
        return self.estimate_s(min(max(self.queued, 1), self.max_batch))

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
        seconds = full * self.estimate_s(self.max_batch)
        if rest:
            seconds += self.estimate_s(rest)
        runs = full + (rest > 0)
        return seconds + runs * self._turns.ahead_s(self)

    def _learn(self, rows: int, ran_s: float) -> None:
        at = (rows - 1).bit_length()
        before = self._seconds[at]
        self._seconds[at] = ran_s if before is None else before + FORGET * (ran_s - before)

    def _attempt(self, pixels: Pixels) -> Outputs | None:
        """The outputs, or None when the model raised or answered with something not finite."""
        count = len(pixels)
        if self._buckets:
            size = next((b for b in self._buckets if b >= count), count)
            if size > count:
                pixels = np.concatenate(
                    [pixels, np.zeros((size - count, *pixels.shape[1:]), np.uint8)]
                )
        try:
            outputs = self._predict(pixels)
        except Exception:  # whatever ONNX Runtime raises; the caller hears RowFailed
            return None
        if self._buckets:
            outputs = outputs[:count]
        return outputs if math.isfinite(float(outputs.probabilities.sum())) else None

    def _bisect(self, pixels: Pixels) -> tuple[Outputs | None, NDArray[np.bool_]]:
        """Answers where there are any, and which rows failed, within a bounded number of runs.

        The bound is what finding two bad rows takes; a model that fails every row costs no more.
        """
        count = len(pixels)
        failed = np.zeros(count, np.bool_)
        runs_left = 4 * max(1, count.bit_length())
        answers: list[tuple[int, Outputs]] = []
        halves = [] if count == 1 else [(0, count // 2), (count // 2, count)]
        if count == 1:
            failed[:] = True
        while halves:
            begin, end = halves.pop()
            if not runs_left:
                failed[begin:end] = True
                continue
            runs_left -= 1
            outputs = self._attempt(pixels[begin:end])
            if outputs is not None:
                answers.append((begin, outputs))
            elif end - begin == 1:
                failed[begin] = True
            else:
                middle = (begin + end) // 2
                halves += [(begin, middle), (middle, end)]
        if not answers:
            return None, failed
        first = answers[0][1]
        probabilities = np.zeros((count, first.probabilities.shape[1]), np.float32)
        energy = None if first.energy is None else np.zeros(count, np.float32)
        for begin, outputs in answers:
            probabilities[begin : begin + len(outputs)] = outputs.probabilities
            if energy is not None:
                energy[begin : begin + len(outputs)] = outputs.energy
        return Outputs(probabilities, energy), failed

    def _leave(self, job: _Job) -> None:
        """Take the first job out of the queue, unanswered."""
        self._jobs.popleft()
        self.queued -= len(job.rows) - job.taken

    def _drop_cancelled(self) -> None:
        kept = [job for job in self._jobs if not job.future.done()]
        self._jobs = deque(kept)
        self.queued = sum(len(job.rows) - job.taken for job in kept)


_NOTHING: Pixels = np.empty(0, np.uint8)


def _joined(parts: list[Outputs]) -> Outputs:
    probabilities = np.concatenate([part.probabilities for part in parts])
    energies = [part.energy for part in parts if part.energy is not None]
    return Outputs(probabilities, np.concatenate(energies) if energies else None)
