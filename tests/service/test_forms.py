"""multipart/form-data: whole forms are read, broken ones refused, whatever the bytes."""

from __future__ import annotations

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.forms import parse_multipart
from service.http import Problem

KIND = b"multipart/form-data; boundary=edge"


def encoded(files: list[tuple[str, bytes]]) -> tuple[bytes, bytes]:
    """As a client encodes it: its Content-Type and body."""
    form = [("images", (name, data, "image/png")) for name, data in files]
    request = httpx.Request("POST", "http://vitrine", files=form)
    return request.headers["content-type"].encode(), request.read()


@given(st.lists(st.binary(max_size=200), min_size=1, max_size=5))
def test_what_a_client_sends_is_what_is_read(contents: list[bytes]) -> None:
    kind, body = encoded([(f"{at}.png", data) for at, data in enumerate(contents)])
    parts = parse_multipart(kind, body, 10)
    assert [part.data for part in parts] == contents
    assert [part.filename for part in parts] == [b"%d.png" % at for at in range(len(contents))]
    assert {part.name for part in parts} == {b"images"}


def test_a_field_that_is_no_file_has_no_file_name() -> None:
    body = b'--edge\r\nContent-Disposition: form-data; name="model"\r\n\r\nlight\r\n--edge--\r\n'
    (part,) = parse_multipart(KIND, body, 10)
    assert part == (b"model", None, b"light")


@pytest.mark.parametrize(
    ("kind", "body", "status"),
    [
        (b"multipart/form-data", b"--edge--", 400),
        (b"multipart/form-data; boundary=", b"--edge--", 400),
        (KIND, b"", 400),
        (KIND, b"--other\r\n", 400),
        (KIND, b"--edge\r\n\r\nabc", 400),
        (KIND, b"--edge\r\n\r\nabc\r\n--edge", 400),
        (KIND, b"--edge\r\nX: " + b"y" * 5000 + b"\r\n\r\nabc\r\n--edge--", 400),
        (KIND, b"--edge\r\n" + b"x" * 5000 + b": y\r\n\r\nabc\r\n--edge--", 400),
        (KIND, b"--edge\r\nX: y\r\n\r\nabc\r\n" * 4 + b"--edge--", 413),
    ],
)
def test_a_broken_form_is_a_problem(kind: bytes, body: bytes, status: int) -> None:
    with pytest.raises(Problem) as problem:
        parse_multipart(kind, body, 3)
    assert problem.value.status == status


@given(
    st.one_of(st.just(KIND), st.binary(max_size=60).map(lambda b: b"multipart/form-data;" + b)),
    st.lists(
        st.one_of(
            st.sampled_from([b"--edge", b"--", b"\r\n", b"Content-Disposition: form-data", b":"]),
            st.binary(max_size=20),
        ),
        max_size=12,
    ).map(b"".join),
)
def test_any_bytes_are_a_form_or_a_problem(kind: bytes, body: bytes) -> None:
    status = 200
    try:
        parts = parse_multipart(kind, body, 3)
    except Problem as problem:
        status, parts = problem.status, []
    assert status in (200, 400, 413)
    assert len(parts) <= 3
