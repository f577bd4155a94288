"""Bytes of one image, from a local file or from storage named by a URL; or the reason why not."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

MAX_BYTES = 64 * 1024 * 1024  # in one file
FIRST_BYTES = 64 * 1024  # asked for at once
AT_ONCE = 32  # files of a URL being read


class Unreadable(Exception):
    """A file whose bytes cannot be had; the message is the reason, without its path."""


def is_url(path: str) -> bool:
    """Whether a path names remote storage, as s3://bucket/folder does."""
    scheme, separator, _ = path.partition("://")
    return bool(separator) and scheme.replace("+", "").replace(":", "").isalnum()


def read(path: str) -> bytes:
    """The whole file. Raises Unreadable for anything that is not a readable, regular file."""
    if is_url(path):
        return _read_url(path)
    try:
        # Without O_NONBLOCK, opening a named pipe would wait for a writer for ever.
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except (OSError, ValueError) as error:
        raise Unreadable(_reason(path, error)) from error
    try:
        data = os.read(handle, FIRST_BYTES)
        if 0 < len(data) < FIRST_BYTES:
            return data  # most files are small: they cost three calls
        facts = os.fstat(handle)
        if not stat.S_ISREG(facts.st_mode):
            raise Unreadable("not a regular file")
        if facts.st_size > MAX_BYTES:
            raise Unreadable(_too_large(facts.st_size))
        parts, size = [data], len(data)
        while data and size <= MAX_BYTES:
            data = os.read(handle, 1 << 20)
            parts.append(data)
            size += len(data)
    except OSError as error:
        raise Unreadable(_reason(path, error)) from error
    finally:
        os.close(handle)
    if size > MAX_BYTES:
        raise Unreadable(_too_large(size))
    return b"".join(parts)


def read_each(paths: list[str]) -> Iterator[bytes | Unreadable]:
    """Every file's bytes, or why they cannot be had; those of a URL many at a time.

    A request to storage is all waiting, so a thread for each of some files; never all of them,
    since what is read ahead is held in memory.
    """
    if not paths or not is_url(paths[0]):
        yield from map(_read_or_reason, paths)
        return
    with ThreadPoolExecutor(AT_ONCE, "read") as threads:
        for start in range(0, len(paths), AT_ONCE):
            yield from threads.map(_read_or_reason, paths[start : start + AT_ONCE])


def _read_or_reason(path: str) -> bytes | Unreadable:
    try:
        return read(path)
    except Unreadable as error:
        return error


def join(root: str, path: str) -> str:
    """Where the file is that a source names `path`."""
    return f"{root.rstrip('/')}/{path}" if root else path


def open_url(url: str) -> tuple[Any, str]:
    """fsspec's file system for a URL, and the path in it. Raises Unreadable."""
    try:
        import fsspec
    except ImportError as error:
        raise Unreadable("reading URLs needs fsspec: install the extra `ray`") from error
    try:
        system, path = fsspec.core.url_to_fs(url)
    except (ImportError, ValueError) as error:
        raise Unreadable(f"no file system for this URL: {error}") from error
    return system, path


def walk_url(url: str) -> Iterator[str]:
    """The paths of all files under a URL, relative to it, each directory by name."""
    system, root = open_url(url)
    root = root.rstrip("/")
    for folder, folders, files in system.walk(root):
        folders.sort()
        prefix = folder[len(root) :].strip("/")
        for name in sorted(files):
            yield f"{prefix}/{name}" if prefix else name


def _read_url(url: str) -> bytes:
    system, path = open_url(url)
    try:
        with system.open(path, "rb") as file:
            data: bytes = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise Unreadable(_reason("", error)) from error
    if len(data) > MAX_BYTES:
        raise Unreadable(_too_large(len(data)))
    return data


def _too_large(size: int) -> str:
    return f"over {MAX_BYTES // 1024**2} MiB: {size:,} bytes"


def _reason(path: str, error: OSError | ValueError) -> str:
    if isinstance(error, ValueError):  # a zero byte in a list's line
        return "not a possible path"
    if isinstance(error, FileNotFoundError):
        return "broken link" if Path(path).is_symlink() else "no such file"
    if isinstance(error, IsADirectoryError):
        return "is a directory"
    if error.errno in (errno.ENXIO, errno.EAGAIN):  # a socket; a pipe that somebody writes to
        return "not a regular file"
    return (error.strerror or type(error).__name__).lower()
