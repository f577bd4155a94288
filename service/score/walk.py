"""Which images to score: a folder's, in an order that never changes, or those named in a list.

Nothing here holds the whole list: a directory of a million files is sorted in runs on disk.
"""

from __future__ import annotations

import heapq
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from service.score.storage import is_url, walk_url

# What `artifacts.images` decodes. Other files under a folder are counted, not scored.
SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff"})
RUN = 100_000  # names sorted in memory at a time, about 10 MB


@dataclass
class Passed:
    """What a walk went past without scoring it."""

    others: int = 0  # files without an image's suffix
    links: int = 0  # links to folders, not followed


@dataclass(frozen=True, kw_only=True)
class Source:
    """Where the images are: a folder (a path or URL), or a list (a file of paths, "-" for stdin).

    Paths are as Python has them: bytes that are not UTF-8 are surrogate escapes.
    """

    where: str
    kind: str  # "folder" or "list"
    follow_links: bool = False
    passed: Passed = field(default_factory=Passed, compare=False)

    @property
    def root(self) -> str:
        """What the paths are relative to; "" for a list, whose paths stand for themselves."""
        return self.where if self.kind == "folder" else ""

    @property
    def rereadable(self) -> bool:
        """Whether `paths` can be gone through twice."""
        return self.where != "-"

    def paths(self) -> Iterator[str]:
        """The path of each image, relative to `root`; the same order every time."""
        if self.kind == "list":
            return read_list(self.where)
        if is_url(self.where):
            return (path for path in walk_url(self.where) if _is_image(path))
        return walk(self.where, follow_links=self.follow_links, passed=self.passed)


def read_list(where: str) -> Iterator[str]:
    """One path a line; empty lines and the carriage returns of Windows are dropped."""
    with ExitStack() as stack:
        file = sys.stdin.buffer if where == "-" else stack.enter_context(Path(where).open("rb"))
        for line in file:
            path = line.rstrip(b"\r\n")
            if path:
                yield os.fsdecode(path)


def walk(
    root: str, *, follow_links: bool = False, passed: Passed | None = None, run: int = RUN
) -> Iterator[str]:
    """The images under a folder, depth first, each directory by name.

    A directory that cannot be listed, and one that is named like an image, are among them: reading
    them fails, and so each becomes a row that says why.
    """
    passed = Passed() if passed is None else passed
    # Directories being walked: prefix, its sorted names, and its identity (to see a link's loop).
    stack = [("", _listed(root, passed, follow_links, run), _identity(root))]
    while stack:
        prefix, names, _ = stack[-1]
        name = next(names, None)
        if name is None:
            stack.pop()
        elif not name.endswith("/"):
            yield prefix + name
        else:
            if _is_image(name[:-1]):
                yield prefix + name[:-1]
            path = f"{root}/{prefix}{name}"
            identity = _identity(path)
            if identity is not None and any(identity == seen for *_, seen in stack):
                passed.links += 1
                continue
            try:
                below = _listed(path, passed, follow_links, run)
            except OSError:
                yield prefix + name[:-1]
            else:
                stack.append((prefix + name, below, identity))


def _listed(root: str, passed: Passed, follow_links: bool, run: int) -> Iterator[str]:
    """The names of a directory's images and, with a slash behind, its directories; sorted."""
    names: list[str] = []
    runs: list[IO[bytes]] = []
    with os.scandir(root) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                names.append(entry.name + "/")
            elif entry.is_symlink() and entry.is_dir():
                if follow_links:
                    names.append(entry.name + "/")
                else:
                    passed.links += 1
            elif _is_image(entry.name):
                names.append(entry.name)
            else:
                passed.others += 1
            if len(names) >= run:
                runs.append(_spilled(names))
                names = []
    names.sort()
    if not runs:
        return iter(names)
    return heapq.merge(iter(names), *map(_unspilled, runs))


def _spilled(names: list[str]) -> IO[bytes]:
    """Sorted names in a temporary file, each ended by a zero byte, which no name holds."""
    names.sort()
    file = tempfile.TemporaryFile()  # noqa: SIM115 (closed when `_unspilled` is through with it)
    file.write(b"\0".join(map(os.fsencode, names)) + b"\0")
    file.seek(0)
    return file


def _unspilled(file: IO[bytes]) -> Iterator[str]:
    with file:
        rest = b""
        while block := file.read(65536):
            *names, rest = (rest + block).split(b"\0")
            yield from map(os.fsdecode, names)


def _is_image(name: str) -> bool:
    dot = name.rfind(".")
    return dot > 0 and name[dot:].lower() in SUFFIXES


def _identity(path: str) -> tuple[int, int] | None:
    try:
        facts = Path(path).stat()
    except OSError:
        return None
    return facts.st_dev, facts.st_ino
