"""How the C library's allocator keeps memory, where it is glibc's; elsewhere nothing is done."""

from __future__ import annotations

import ctypes

# The numbers of mallopt(3), from malloc.h.
_TRIM_THRESHOLD, _MMAP_THRESHOLD, _ARENA_MAX = -1, -3, -8


def share_arenas(count: int = 2) -> None:
    """Let all threads allocate from so few heaps; call before there are threads.

    By default each thread gets a heap of its own and keeps what it once needed: with threads that
    decode, load and answer scrapes, a worker's memory would grow with the oddest image of each.
    """
    _mallopt(_ARENA_MAX, count)


def keep(size: int) -> None:
    """Keep freed blocks of up to `size` bytes: the next batch needs them again."""
    _mallopt(_TRIM_THRESHOLD, size)
    _mallopt(_MMAP_THRESHOLD, size)


def _mallopt(name: int, value: int) -> None:
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(name, value)
