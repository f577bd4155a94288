"""Worker processes that score shards: one model each, never more work handed out than is needed.

A pipe for each worker, and no queue they share: whichever side dies, the other one sees the end of
the pipe. (Workers of `concurrent.futures` hold both ends, and outlive a parent that was killed.)
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from pathlib import Path
from typing import TYPE_CHECKING, Any

from service import memory
from service.score import shards
from service.score.job import Job
from service.score.shards import Done, Shard

AHEAD = 2  # shards a worker has: one at work, and the next so that it never waits
KEPT_BYTES = 32 * 1024 * 1024  # freed memory a worker does not give back at once
ATTEMPTS = 3  # how often a shard may see its worker die

if TYPE_CHECKING:
    Pipe = Connection[Any, Any]


class WorkersFailed(Exception):
    """The workers cannot go on; says why. What is finished stays finished."""


@dataclass
class _Worker:
    process: SpawnProcess
    pipe: Pipe
    shards: deque[Shard] = field(default_factory=deque)


def score(
    job: Job, version: Path, partial: Path, todo: Iterator[Shard], workers: int
) -> Iterator[Done]:
    """Score every shard of `todo` with so many processes; yields them as they finish.

    A worker that dies is replaced and its shards are scored anew. Raises WorkersFailed when a model
    cannot be loaded, or a shard kills its worker again and again.
    """
    # Spawned, not forked: a fork of a process with threads may hang.
    context = multiprocessing.get_context("spawn")
    again: deque[Shard] = deque()
    deaths: dict[int, int] = {}
    team: list[_Worker] = []

    def hire() -> _Worker:
        ours, theirs = context.Pipe()
        process = context.Process(target=_work, args=(theirs, job, version, partial), daemon=True)
        process.start()
        theirs.close()
        return _Worker(process, ours)

    def occupy(worker: _Worker) -> None:
        while len(worker.shards) < AHEAD:
            shard = again.popleft() if again else next(todo, None)
            if shard is None:
                return
            worker.shards.append(shard)
            try:
                worker.pipe.send(shard)
            except (BrokenPipeError, ConnectionResetError):
                return  # it died: its pipe's end says so presently

    try:
        # The first shards are found before a process is started: three files need one, not eight.
        first = [shard for _, shard in zip(range(workers * AHEAD), todo, strict=False)]
        again.extend(first)
        team += [hire() for _ in range(min(workers, len(first)))]
        for _ in range(AHEAD):  # one each, before anybody gets a second
            for worker in team:
                if again and len(worker.shards) < AHEAD:
                    shard = again.popleft()
                    worker.shards.append(shard)
                    worker.pipe.send(shard)
        while any(worker.shards for worker in team):
            for pipe in wait([worker.pipe for worker in team if worker.shards]):
                worker = next(worker for worker in team if worker.pipe is pipe)
                try:
                    found = worker.pipe.recv()
                except (EOFError, ConnectionResetError):
                    team.remove(worker)
                    worker.process.join()
                    _blame(worker, deaths)
                    again.extend(worker.shards)
                    team.append(hire())
                    occupy(team[-1])
                    continue
                if isinstance(found, Exception):
                    raise WorkersFailed(str(found)) from found
                worker.shards.popleft()
                occupy(worker)
                yield found
    finally:
        for worker in team:
            worker.pipe.close()
            if worker.shards:
                worker.process.kill()
        for worker in team:
            worker.process.join()


def _blame(worker: _Worker, deaths: dict[int, int]) -> None:
    """Count a death against the shard the worker was at."""
    shard = worker.shards[0]
    deaths[shard.number] = deaths.get(shard.number, 0) + 1
    if deaths[shard.number] >= ATTEMPTS:
        raise WorkersFailed(
            f"{ATTEMPTS} workers in a row died (the last with code {worker.process.exitcode}) at "
            f"the images from {shard.paths[0]!r} to {shard.paths[-1]!r}; out of memory?"
        )


def _work(pipe: Pipe, job: Job, version: Path, partial: Path) -> None:
    """A worker's life: load the model, then shards in and their results out."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to answer
    threading.Thread(target=_end_with_parent, daemon=True).start()
    memory.keep(KEPT_BYTES)
    from artifacts.manifest import BadArtifact
    from artifacts.model import NoProvider
    from service.score.scorer import Scorer

    try:
        scorer = Scorer(job, version)
        while True:
            shard = pipe.recv()
            rows = scorer.score(shard.paths, shard.truths)
            pipe.send(shards.write(partial, shard, rows, job.table))
    except (EOFError, BrokenPipeError):
        return  # there is no more to do
    except (BadArtifact, NoProvider, OSError) as error:
        pipe.send(RuntimeError(str(error)))


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    wait([parent.sentinel])
    os._exit(1)  # killed: nobody is left to finish for
