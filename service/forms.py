"""A multipart/form-data body (RFC 7578) -> the parts in it.

The body is in memory already, so parts are found by searching it: 3 us each, where a parser that
is fed with pieces takes 12.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from python_multipart.multipart import parse_options_header

from service.http import Problem

MAX_HEADERS = 4096  # bytes of one part's headers

# Content-Disposition as nearly every client writes it; the other ways are for the library.
_QUOTED = rb'"([^"\\\r\n]*)"'
_PLAIN = re.compile(rb"form-data; name=%b(?:; filename=%b)?" % (_QUOTED, _QUOTED), re.IGNORECASE)
_HEADER = re.compile(rb"([!#-'*+.^_`|~0-9A-Za-z-]+):[ \t]*(.*)", re.DOTALL)


class Part(NamedTuple):
    """One part of a form: its field's name, its file name if it is a file, and its bytes."""

    name: bytes
    filename: bytes | None
    data: bytes


def parse_multipart(content_type: bytes, body: bytes, max_parts: int) -> list[Part]:
    """The parts of a form, in order. Raises Problem 400, or 413 for too many."""
    _, options = parse_options_header(content_type)
    boundary = options.get(b"boundary")
    if not boundary:
        raise Problem(400, "multipart/form-data without a boundary")
    parts: list[Part] = []
    for head, data in _sections(body, b"\r\n--" + boundary):
        if len(parts) >= max_parts:
            raise Problem(413, f"over {max_parts} images in one request")
        parts.append(Part(*_names(head), data))
    return parts


def _sections(body: bytes, delimiter: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Each part's headers and data. Raises Problem 400."""
    begin = len(body) - len(body.lstrip(b"\r\n")) if body[:1] in (b"\r", b"\n") else 0
    if not body.startswith(delimiter[2:], begin):
        raise Problem(400, "the body is not the multipart/form-data it says")
    begin += len(delimiter) - 2
    end = begin if body.startswith(b"--", begin) else body.find(delimiter + b"--", begin)
    if end < 0:
        raise Problem(400, "the multipart body is cut short")
    between = delimiter + b"\r\n"
    while begin < end:
        if not body.startswith(b"\r\n", begin):
            raise Problem(400, "the body is not the multipart/form-data it says")
        # Without headers the blank line that ends them follows at once.
        blank = body.find(b"\r\n\r\n", begin, begin + MAX_HEADERS + 4)
        if not 0 <= blank < end:
            raise Problem(400, "a part's headers are too long, or do not end")
        following = body.find(between, blank + 4, end)
        stop = end if following < 0 else following
        if stop < blank + 4:  # the line that ends the form follows the headers at once
            raise Problem(400, "the multipart body is cut short")
        yield body[begin + 2 : blank], body[blank + 4 : stop]
        begin = end if following < 0 else following + len(delimiter)


def _names(head: bytes) -> tuple[bytes, bytes | None]:
    """The field's name and the file's, of a part's headers. Raises Problem 400."""
    disposition = b""
    for line in head.split(b"\r\n") if head else ():
        header = _HEADER.fullmatch(line)
        if header is None:
            raise Problem(400, "a part's header is no header")
        if header[1].lower() == b"content-disposition":
            disposition = header[2]
    plain = _PLAIN.fullmatch(disposition)
    if plain is not None:
        return plain[1], plain[2]
    _, options = parse_options_header(disposition)
    return options.get(b"name", b""), options.get(b"filename")
