"""A multipart/form-data body -> the files in it; python-multipart does the parsing."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from service.http import Problem

if TYPE_CHECKING:
    from python_multipart.multipart import MultipartCallbacks

MAX_HEADERS = 4096  # bytes of one part's headers


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
    reader = _Reader(max_parts)
    try:
        parser = MultipartParser(boundary, reader.callbacks(), max_size=len(body) + 1)
        parser.write(body)
        parser.finalize()
    except FormParserError as error:
        raise Problem(400, "the body is not the multipart/form-data it says") from error
    if not reader.ended:
        raise Problem(400, "the multipart body is cut short")
    return reader.parts


class _Reader:
    """Collects what the parser calls out: slices of the body, which is in memory anyway."""

    def __init__(self, max_parts: int) -> None:
        self.parts: list[Part] = []
        self.ended = False
        self._max_parts = max_parts
        self._field = self._value = b""
        self._disposition = b""
        self._pieces: list[bytes] = []

    def callbacks(self) -> MultipartCallbacks:
        return {
            "on_part_begin": self._begin,
            "on_header_field": self._header_field,
            "on_header_value": self._header_value,
            "on_header_end": self._header_end,
            "on_part_data": self._data,
            "on_part_end": self._end,
            "on_end": self._finish,
        }

    def _begin(self) -> None:
        if len(self.parts) >= self._max_parts:
            raise Problem(413, f"over {self._max_parts} images in one request")
        self._disposition, self._pieces = b"", []

    def _header_field(self, data: bytes, start: int, end: int) -> None:
        self._field += data[start:end]
        if len(self._field) > MAX_HEADERS:
            raise Problem(400, "a part's header is too long")

    def _header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]
        if len(self._value) > MAX_HEADERS:
            raise Problem(400, "a part's header is too long")

    def _header_end(self) -> None:
        if self._field.lower() == b"content-disposition":
            self._disposition = self._value
        self._field = self._value = b""

    def _data(self, data: bytes, start: int, end: int) -> None:
        self._pieces.append(data[start:end])

    def _end(self) -> None:
        _, options = parse_options_header(self._disposition)
        name, filename = options.get(b"name", b""), options.get(b"filename")
        self.parts.append(Part(name, filename, b"".join(self._pieces)))

    def _finish(self) -> None:
        self.ended = True
