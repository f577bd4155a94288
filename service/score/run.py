"""A job from its source to its output: what is left to do, who does it, and one file."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

from service.score.job import Job
from service.score.progress import Progress
from service.score.shards import Counts, Done, Partial, Shard, divide

# Scores shards and writes them to a folder; yields them as they finish, in any order.
Engine = Callable[[Path, Iterator[Shard]], Iterator[Done]]


def to_file(
    job: Job, out: Path, engine: Engine, progress: Progress, *, overwrite: bool, restart: bool
) -> Counts:
    """Score into the file `out`, going on where an interrupted run stopped. Raises Misuse."""
    partial = Partial(out, job.table, job.identity(), overwrite=overwrite, restart=restart)
    try:
        counts = partial.finished
        if counts is None:
            before = partial.done()
            done: list[Done | None] = []

            def todo() -> Iterator[Shard]:
                """The shards without a result; `done` gets a place for every one."""
                for shard in divide(job.source.paths(), job.truth()):
                    found = before.get(shard.number)
                    if found is not None and found.digest == shard.digest:
                        done.append(found)
                        progress.add(found.scored, found.failed, before=True)
                    else:
                        done.append(None)
                        yield shard

            for each in engine(partial.folder, todo()):
                done[each.number] = each
                progress.add(each.scored, each.failed)
            counts = partial.finish([each for each in done if each is not None])
        partial.discard()
        return counts
    finally:
        progress.end()
        partial.close()


def to_stream(job: Job, out: IO[bytes], engine: Engine, progress: Progress) -> Counts:
    """Score to a stream, in order, as results come; nothing is kept, so nothing can be resumed."""
    counts, folder = Counts(), Path(tempfile.mkdtemp(prefix="vitrine-score-"))
    try:
        out.write(job.table.head)
        early: dict[int, Done] = {}
        due = 0
        for each in engine(folder, divide(job.source.paths(), job.truth())):
            early[each.number] = each
            counts.scored += each.scored
            counts.failed += each.failed
            progress.add(each.scored, each.failed)
            while (ready := early.pop(due, None)) is not None:
                path = folder / ready.name
                out.write(path.read_bytes())
                path.unlink()
                due += 1
            out.flush()
        assert not early
        return counts
    finally:
        progress.end()
        shutil.rmtree(folder, ignore_errors=True)
