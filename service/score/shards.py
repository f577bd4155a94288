"""Results so far, in pieces that exist only when complete; and the one file they become.

Beside the output OUT stands the folder OUT.partial while it is being made. A shard's file name says
all that resuming must know: its number, a digest of the paths in it, how many were scored, how many
failed, and the checksum of its content. A shard is written under another name and renamed, so a
kill at any moment leaves complete shards and perhaps a draft, which nobody reads.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
import shutil
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import IO, Any, NamedTuple

from service.score.job import Misuse, check_same
from service.score.rows import Row, Table

_NAME = re.compile(r"(\d{9})-([0-9a-f]{16})-(\d+)-(\d+)-([0-9a-f]{8})")
ROW_GROUP = 64  # shards in one row group of a parquet file


class Shard(NamedTuple):
    """Some consecutive images: their paths and, where labels are known, their classes."""

    number: int
    paths: list[str]
    truths: list[str] | None

    @property
    def digest(self) -> str:
        """16 hex digits over what is in it."""
        text = "\0".join([*self.paths, "", *(self.truths or ())])
        return hashlib.blake2b(text.encode("utf-8", "surrogateescape"), digest_size=8).hexdigest()


class Done(NamedTuple):
    """A shard that is finished: how many of its images have an answer, and how many an error."""

    number: int
    digest: str
    scored: int
    failed: int
    crc: int

    @property
    def name(self) -> str:
        return f"{self.number:09}-{self.digest}-{self.scored}-{self.failed}-{self.crc:08x}"


def size_of(number: int) -> int:
    """How many images shard `number` has.

    Small ones first, so that a hundred images occupy every core; then larger, so that a hundred
    million do not become a million files.
    """
    return 32 if number < 64 else 256 if number < 1024 else 2048


def divide(paths: Iterator[str], truth: Callable[[str], str] | None) -> Iterator[Shard]:
    """Consecutive paths as shards."""
    number = 0
    while group := list(islice(paths, size_of(number))):
        yield Shard(number, group, None if truth is None else [truth(path) for path in group])
        number += 1


def write(folder: Path, shard: Shard, rows: list[Row], table: Table) -> Done:
    """Write a shard's rows, complete or not at all. Called by whoever scored them."""
    data = table.encode(rows)
    failed = sum(row.error is not None for row in rows)
    done = Done(shard.number, shard.digest, len(rows) - failed, failed, zlib.crc32(data))
    draft = folder / f"draft-{os.getpid()}-{shard.number}"
    draft.write_bytes(data)
    draft.replace(folder / done.name)
    return done


@dataclass
class Counts:
    """How many images have an answer, and how many an error."""

    scored: int = 0
    failed: int = 0


class Partial:
    """The folder of an output that is being made; locked while this object has it open.

    Raises Misuse when another run has it, or when an earlier run had other options.
    """

    def __init__(
        self, out: Path, table: Table, identity: dict[str, Any], *, overwrite: bool, restart: bool
    ) -> None:
        self.out = out
        self.folder = out.with_name(out.name + ".partial")
        self._table = table
        self._overwrite = overwrite
        if not self.folder.is_dir():
            self._refuse_existing()
        try:
            self.folder.mkdir(exist_ok=True)
        except OSError as error:
            raise Misuse(f"cannot write to {out.parent}: {error.strerror}") from error
        self._lock = (self.folder / "lock").open("w")
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            self._lock.close()
            raise Misuse(f"another run is writing {out}; wait for it, or end it") from error
        try:
            self._begin(identity, restart)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Let go of the folder; what is in it stays for the next run."""
        self._lock.close()

    @property
    def finished(self) -> Counts | None:
        """The counts of a run that was killed after its output was in place."""
        try:
            record = json.loads((self.folder / "finished.json").read_bytes())
            if record["inode"] == self.out.stat().st_ino:
                return Counts(record["scored"], record["failed"])
        except (OSError, ValueError, KeyError):
            pass
        return None

    def done(self) -> dict[int, Done]:
        """The shards that need not be scored again, by number."""
        found = {}
        with os.scandir(self.folder) as entries:
            for entry in entries:
                if match := _NAME.fullmatch(entry.name):
                    number, digest, scored, failed, crc = match.groups()
                    done = Done(int(number), digest, int(scored), int(failed), int(crc, 16))
                    found[done.number] = done
        return found

    def finish(self, done: list[Done]) -> Counts:
        """Make the output of the shards, put it in its place at once, and tidy up."""
        counts = Counts(sum(d.scored for d in done), sum(d.failed for d in done))
        draft = self.folder / "output"
        with draft.open("wb") as file:
            self._join(file, done)
            file.flush()
            os.fsync(file.fileno())
            record = {"inode": os.fstat(file.fileno()).st_ino, **counts.__dict__}
        (self.folder / "finished.json").write_text(json.dumps(record))
        if not self._overwrite:
            self._refuse_existing()
        draft.replace(self.out)
        handle = os.open(self.out.parent, os.O_RDONLY)
        os.fsync(handle)
        os.close(handle)
        return counts

    def discard(self) -> None:
        """Remove the folder."""
        self.close()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _begin(self, identity: dict[str, Any], restart: bool) -> None:
        path = self.folder / "job.json"
        try:
            before = None if restart else json.loads(path.read_bytes())
        except (FileNotFoundError, ValueError):
            before = None  # killed before it was written: there are no shards either
        if before is not None:
            check_same(before, identity, str(self.folder))
            if self.finished is None:
                self._refuse_existing()
        else:
            self._refuse_existing()
            for entry in self.folder.iterdir():
                if entry.name != "lock":
                    entry.unlink()
            draft = self.folder / "job.draft"
            draft.write_text(json.dumps(identity, indent=1))
            draft.replace(path)

    def _refuse_existing(self) -> None:
        if self.out.exists() and not self._overwrite:
            raise Misuse(f"{self.out} exists; --overwrite replaces it")

    def _join(self, file: IO[bytes], done: list[Done]) -> None:
        if self._table.format == "parquet":
            self._join_parquet(file, done)
            return
        file.write(self._table.head)
        for each in done:
            file.write(self.content(each))

    def _join_parquet(self, file: IO[bytes], done: list[Done]) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        with pq.ParquetWriter(file, self._table.schema(), compression="zstd") as writer:
            for start in range(0, len(done), ROW_GROUP):
                tables = [
                    pq.read_table(pa.BufferReader(self.content(each)))
                    for each in done[start : start + ROW_GROUP]
                ]
                writer.write_table(pa.concat_tables(tables).combine_chunks())

    def content(self, done: Done) -> bytes:
        """The bytes of a finished shard. Raises Misuse if they are not those that were written."""
        path = self.folder / done.name
        data = path.read_bytes()
        if zlib.crc32(data) != done.crc:  # a power cut can lose what a rename promised
            path.unlink()
            raise Misuse(f"{path} was damaged and is removed; the same command scores it again")
        return data
