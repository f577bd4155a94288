"""JSON of strangers -> records; refused unread where it holds more than anything here may.

The parser keeps Python's lock, so no thread helps: 16 MB of `[],[],...` would stop a worker for a
second. To count what separates values takes a hundredth of that.
"""

from __future__ import annotations

from typing import Any

import orjson

COUNTED_BYTES = 64 * 1024  # a shorter body is read in about a millisecond, whatever it holds
SPARE = 1000  # values around those that are the point


class BadRecord(ValueError):
    """The body is no JSON, or too much of it; the message goes on after "the body"."""


def parse_json(body: bytes, most: int = 0) -> Any:
    """The record in `body`, which is to hold about `most` values at most. Raises BadRecord."""
    if len(body) > COUNTED_BYTES:
        # Nested lists may have a bracket for each value, and flat ones a comma.
        limit = 2 * most + SPARE
        if body.count(b",") + body.count(b"[") + body.count(b"{") > limit:
            raise BadRecord(f"holds over {most + SPARE} values")
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError:
        raise BadRecord("is not JSON") from None
