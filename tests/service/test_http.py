"""Bodies under their limits, ids, inflating: what every surface builds on."""

from __future__ import annotations

import asyncio
import gzip
import zlib
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.http import Bodies, Disconnected, Problem, Request, inflate, request_id, retry_after

LIMIT = 1000


def bodies(**changes: Any) -> Bodies:
    return Bodies(**({"limit": LIMIT, "timeout_s": 5.0, "max_held": 4 * LIMIT} | changes))


def part(data: bytes, more: bool = False) -> dict[str, Any]:
    return {"type": "http.request", "body": data, "more_body": more}


def asked(
    of: Bodies, messages: Sequence[dict[str, Any]], at_once: bool = True, **headers: bytes
) -> Request:
    """A request of these messages; each comes at once, or after the loop has turned."""
    left = list(messages)

    async def receive() -> dict[str, Any]:
        if not at_once:
            await asyncio.sleep(0)
        return left.pop(0)

    named = [(name.replace("_", "-").encode(), value) for name, value in headers.items()]
    return Request({"headers": named}, receive, of, 0.0)


@pytest.mark.parametrize("at_once", [True, False])
async def test_a_body_is_whole_however_it_comes(at_once: bool) -> None:
    assert await asked(bodies(), [part(b"abc")], at_once=at_once).body() == b"abc"
    pieces = [part(b"a", True), part(b"", True), part(b"b", True), part(b"c")]
    assert await asked(bodies(), pieces, at_once=at_once).body() == b"abc"
    assert await asked(bodies(), [part(b"")], at_once=at_once).body() == b""


@pytest.mark.parametrize("at_once", [True, False])
@pytest.mark.parametrize("before", [[], [part(b"a", True)]])
async def test_a_client_that_goes_away_is_noticed(
    at_once: bool, before: list[dict[str, Any]]
) -> None:
    with pytest.raises(Disconnected):
        await asked(bodies(), [*before, {"type": "http.disconnect"}], at_once=at_once).body()


@pytest.mark.parametrize(
    ("messages", "headers", "status"),
    [
        ([], {"content_length": b"1001"}, 413),
        ([], {"content_length": b"-1"}, 400),
        ([], {"content_length": b"1e3"}, 400),
        ([part(bytes(LIMIT + 1))], {}, 413),
        ([part(bytes(600), True), part(bytes(600), True)], {}, 413),
        ([part(b"x")], {"content_encoding": b"br"}, 415),
        ([part(b"x")], {"content_encoding": b"gzip"}, 400),
        ([part(gzip.compress(bytes(LIMIT + 1)))], {"content_encoding": b"gzip"}, 413),
        ([part(gzip.compress(b"a") + b"b")], {"content_encoding": b"gzip"}, 400),
    ],
)
async def test_a_body_beyond_its_limits_is_a_problem(
    messages: list[dict[str, Any]], headers: dict[str, Any], status: int
) -> None:
    with pytest.raises(Problem) as problem:
        await asked(bodies(), messages, **headers).body()
    assert problem.value.status == status
    assert problem.value.record()["status"] == status


async def test_a_body_that_does_not_come_is_408() -> None:
    async def never() -> dict[str, Any]:
        await asyncio.Event().wait()
        return {}

    with pytest.raises(Problem, match=r"within 0\.05 s") as problem:
        await Request({"headers": []}, never, bodies(timeout_s=0.05), 0.0).body()
    assert problem.value.status == 408


async def test_a_cancelled_read_is_no_timeout() -> None:
    async def never() -> dict[str, Any]:
        await asyncio.Event().wait()
        return {}

    task = asyncio.create_task(Request({"headers": []}, never, bodies(), 0.0).body())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_what_is_held_is_bounded_and_given_back() -> None:
    held = bodies(max_held=1500)
    first, second, third = (asked(held, [part(bytes(500), True), part(bytes(400))]) for _ in "123")
    assert len(await first.body()) == 900
    with pytest.raises(Problem) as problem:
        await second.body()
    assert problem.value.status == 429
    held.release(first)
    held.release(second)
    assert len(await third.body()) == 900


async def test_a_small_body_that_inflates_is_held_at_its_size() -> None:
    held = bodies(max_held=1500)
    packed = [part(gzip.compress(bytes(900)))]
    first, second, third = (asked(held, packed, content_encoding=b"gzip") for _ in "123")
    assert len(await first.body()) == 900
    with pytest.raises(Problem) as problem:
        await second.body()
    assert problem.value.status == 429
    held.release(first)
    assert len(await third.body()) == 900


@given(st.binary(max_size=2 * LIMIT), st.sampled_from([b"gzip", b"deflate", b" X-GZIP "]))
def test_inflating_undoes_compressing_up_to_the_limit(data: bytes, encoding: bytes) -> None:
    packed = zlib.compress(data) if b"deflate" in encoding else gzip.compress(data)
    if len(data) <= LIMIT:
        assert inflate(packed, encoding, LIMIT) == data
    else:
        with pytest.raises(Problem) as problem:
            inflate(packed, encoding, LIMIT)
        assert problem.value.status == 413


@given(st.binary(max_size=300), st.sampled_from([b"gzip", b"deflate"]))
def test_inflating_anything_answers_or_is_a_problem(data: bytes, encoding: bytes) -> None:
    status = 200
    try:
        inflated = inflate(data, encoding, LIMIT)
    except Problem as problem:
        status, inflated = problem.status, b""
    assert status in (200, 400, 413)
    assert len(inflated) <= LIMIT


def test_an_id_is_the_clients_only_where_it_is_sane() -> None:
    assert request_id({b"x-request-id": b"a-1"}) == b"a-1"
    for odd in (b"", b"a b", b"x" * 129, b"\xff", b"a\r\nSet-Cookie: b"):
        assert request_id({b"x-request-id": odd}) != odd
    assert request_id({}) != request_id({})


def test_retry_after_is_whole_seconds_and_at_least_one() -> None:
    assert retry_after(0.01) == (b"retry-after", b"1")
    assert retry_after(2.6) == (b"retry-after", b"3")
