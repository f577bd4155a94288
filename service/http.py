"""What every HTTP surface needs of a connection: the body under its limits, and an answer sent."""

from __future__ import annotations

import asyncio
import itertools
import math
import os
import re
import time
import types
import zlib
from collections.abc import (
    Awaitable,
    Callable,
    Coroutine,
    Generator,
    Iterable,
    MutableMapping,
)
from http import HTTPStatus
from typing import Any, NamedTuple, TypeVar, cast

try:
    from uvicorn.protocols.http.httptools_impl import STATUS_LINE, RequestResponseCycle
except ImportError:  # another uvicorn: answers go the plain ASGI way
    STATUS_LINE, RequestResponseCycle = {}, None  # type: ignore[misc,assignment]

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Coroutine[Any, Any, Message]]
Send = Callable[[Message], Awaitable[None]]
Header = tuple[bytes, bytes]
_T = TypeVar("_T")

JSON: Header = (b"content-type", b"application/json")
PROBLEM: Header = (b"content-type", b"application/problem+json")
CLOSE: Header = (b"connection", b"close")
REQUEST = "vitrine.request"  # the scope's key of the Request, for as long as it is answered
NOTHING = "there is nothing at this path; see /docs"

INLINE_INFLATE = 2048  # compressed bytes; so few inflate to 2 MB at most, in a millisecond or two

_SANE_ID = re.compile(rb"[A-Za-z0-9._:-]{1,128}")
_started = os.urandom(6).hex().encode()
_numbers = itertools.count(1)


class Problem(Exception):
    """An answer that is not a success: a status and a sentence that is safe to show a client."""

    def __init__(
        self, status: int, detail: str, headers: Iterable[Header] = (), *, reason: str = ""
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.headers = list(headers)
        # A bounded word for metrics where the status alone does not tell why.
        self.reason = reason

    def record(self) -> dict[str, Any]:
        """The body of an application/problem+json answer (RFC 9457)."""
        return {
            "type": "about:blank",
            "title": HTTPStatus(self.status).phrase,
            "status": self.status,
            "detail": self.detail,
        }


class Disconnected(Exception):
    """The client went away before its body was whole; nobody is left to answer."""


class Bodies:
    """Reads request bodies within their limits: size, time, and bytes held by this process.

    `limit` is in bytes, before and after inflating.
    """

    def __init__(self, *, limit: int, timeout_s: float, max_held: int) -> None:
        self.limit = limit
        self.timeout_s = timeout_s
        self._room = max_held
        self._reserve = min(limit, max_held)  # what a compressed body may become

    async def read(self, request: Request) -> bytes:
        """The request's whole body, gzip or deflate undone.

        Bodies that come in pieces count as held until `release`. Raises Problem 400, 408, 413,
        415 or 429, Disconnected.
        """
        headers, length = request.headers, request.headers.get(b"content-length")
        if length is not None and not length.isdigit():
            raise Problem(400, "content-length is not a number", [CLOSE])
        # Refused before it is sent; closing is what keeps the client from sending it all the same.
        if length is not None and int(length) > self.limit:
            raise _too_large(self.limit)
        waiting = request.receive()
        try:
            # Most bodies are there already. Only those that are not get a timer: 5 us each.
            pending = waiting.send(None)
        except StopIteration as arrived:
            message = arrived.value
        else:
            message = await self._in_time(_resume(waiting, pending))
        body: bytes = message.get("body", b"")
        if message.get("more_body"):
            body = await self._in_time(self._rest(request, body))
        elif message["type"] != "http.request":
            raise Disconnected
        if len(body) > self.limit:
            raise _too_large(self.limit)
        encoding = headers.get(b"content-encoding")
        if encoding is None or encoding == b"identity":
            return body
        return await self._inflated(request, body, encoding)

    async def _inflated(self, request: Request, body: bytes, encoding: bytes) -> bytes:
        """Held like a body in pieces: a small one may inflate a thousandfold."""
        self._hold(request, self._reserve)  # for as long as it may become that large
        if len(body) <= INLINE_INFLATE:
            data = inflate(body, encoding, self.limit)
        else:
            data = await asyncio.to_thread(inflate, body, encoding, self.limit)
        self._hold(request, len(data) - self._reserve)
        return data

    def _hold(self, request: Request, size: int) -> None:
        """Count `size` bytes as held by this request. Raises Problem 429."""
        if size > self._room:
            raise Problem(
                429,
                "the server holds as many bytes of bodies as it may",
                [retry_after(1.0), CLOSE],
                reason="memory",
            )
        self._room -= size
        request.held += size

    async def _in_time(self, arriving: Awaitable[_T]) -> _T:
        """Raises Problem 408 when it takes longer than `timeout_s`."""
        try:
            async with asyncio.timeout(self.timeout_s):
                return await arriving
        except TimeoutError:
            raise Problem(
                408,
                f"the body did not arrive whole within {self.timeout_s:g} s",
                [CLOSE],
                reason="slow_body",
            ) from None

    def release(self, request: Request) -> None:
        """The request is over: what it held may be held by others."""
        self._room += request.held
        request.held = 0

    async def _rest(self, request: Request, first: bytes) -> bytes:
        parts, part, size, more = [], first, 0, True
        while True:
            size += len(part)
            if size > self.limit:
                raise _too_large(self.limit)
            self._hold(request, len(part))
            parts.append(part)
            if not more:
                return b"".join(parts)
            message = await request.receive()
            if message["type"] != "http.request":
                raise Disconnected
            part, more = message.get("body", b""), message.get("more_body", False)


@types.coroutine
def _resume(started: Coroutine[Any, Any, _T], pending: Any) -> Generator[Any, Any, _T]:
    """Await a coroutine that was already stepped, once, and then waited for `pending`."""
    try:
        while True:
            try:
                value = yield pending
            except BaseException as error:  # cancelled, or closed: the coroutine's to handle
                pending = started.throw(error)
            else:
                pending = started.send(value)
    except StopIteration as ended:
        return cast(_T, ended.value)


class Request:
    """One HTTP request, as the surfaces see it."""

    __slots__ = (
        "_bodies",
        "abandoned",
        "deadline",
        "headers",
        "held",
        "id",
        "model",
        "receive",
        "scope",
        "started",
        "waits_for",
    )

    def __init__(self, scope: Scope, receive: Receive, bodies: Bodies, started: float) -> None:
        self.scope = scope
        self.receive = receive
        self.headers: dict[bytes, bytes] = dict(scope["headers"])
        self.id = request_id(self.headers)
        self.started = started  # time.perf_counter()
        self.deadline = math.inf  # a time of the same clock
        self.model = ""  # the served model's name, once it is known; for metrics and the log
        self.abandoned = False
        self.waits_for: asyncio.Future[Any] | None = None  # its rows in a model's queue
        self.held = 0  # bytes of its body that count against what this process may hold
        self._bodies = bodies

    async def body(self) -> bytes:
        """The whole body within its limits; see `Bodies.read`."""
        return await self._bodies.read(self)

    def allow(self, seconds: float) -> None:
        """Set the deadline: so long after it began.

        It is for our part. A client on a slow line has another for the body, and half of ours
        remains after it.
        """
        self.deadline = max(self.started + seconds, time.perf_counter() + seconds / 2)

    def abandon(self) -> None:
        """The client is gone: what waits for the model leaves its queue."""
        self.abandoned = True
        if self.waits_for is not None:
            self.waits_for.cancel()


class Response(NamedTuple):
    """One whole answer."""

    status: int
    body: bytes
    headers: list[Header]


def request_id(headers: dict[bytes, bytes]) -> bytes:
    """The client's X-Request-ID where it is sane, else a new one, different in every process."""
    given = headers.get(b"x-request-id")
    if given is not None and _SANE_ID.fullmatch(given):
        return given
    return b"%s-%x" % (_started, next(_numbers))


def retry_after(seconds: float) -> Header:
    """The header for 429 and 503: whole seconds, at least 1."""
    return (b"retry-after", b"%d" % max(1, round(seconds)))


def inflate(body: bytes, encoding: bytes, limit: int) -> bytes:
    """`body` with its content encoding undone, never holding more than `limit` bytes of output."""
    bits = {b"gzip": 31, b"x-gzip": 31, b"deflate": 15}.get(encoding.strip().lower())
    if bits is None:
        raise Problem(415, "content-encoding is not one of gzip, deflate, identity")
    stream = zlib.decompressobj(bits)
    try:
        data = stream.decompress(body, limit + 1)
        if len(data) > limit:
            raise _too_large(limit)
        whole = stream.eof and not stream.unused_data
    except zlib.error as error:
        raise Problem(400, f"the body is not {encoding.decode('latin-1')} data") from error
    if not whole:
        raise Problem(400, "the compressed body is cut short, or something follows it")
    return data


async def respond(send: Send, status: int, body: bytes, headers: list[Header]) -> None:
    """One whole answer; its length is added to `headers`."""
    headers.append((b"content-length", b"%d" % len(body)))
    cycle = getattr(send, "__self__", None)
    if type(cycle) is RequestResponseCycle and _at_once(cycle, status, body, headers):
        return
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def _at_once(cycle: Any, status: int, body: bytes, headers: list[Header]) -> bool:
    """Head and body in one write, where uvicorn's `send` would make two; False: not applicable.

    Two writes are two system calls and two packets: 12 us of a request. The rest is what uvicorn's
    RequestResponseCycle.send does for an answer with a known length on a connection kept alive; it
    reaches for uvicorn's private names, so tests/service/test_respond.py holds it against the plain
    way, and pyproject.toml bounds uvicorn.
    """
    if (
        cycle.flow.write_paused
        or cycle.disconnected
        or cycle.response_started
        or not cycle.keep_alive
        or CLOSE in headers
        or cycle.scope["method"] == "HEAD"
    ):
        return False
    parts = [STATUS_LINE[status]]
    for name, value in cycle.default_headers:
        parts += (name, b": ", value, b"\r\n")
    for name, value in headers:
        parts += (name, b": ", value, b"\r\n")
    parts += (b"\r\n", body)
    cycle.response_started = True
    cycle.waiting_for_100_continue = False
    cycle.chunked_encoding = False
    cycle.transport.write(b"".join(parts))
    cycle.response_complete = True
    cycle.message_event.set()
    cycle.on_response()
    return True


def _too_large(limit: int) -> Problem:
    return Problem(413, f"the body is over {limit} bytes", [CLOSE], reason="too_large")
