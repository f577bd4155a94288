"""multipart/form-data: whole forms are read, broken ones refused, whatever the bytes."""

from __future__ import annotations

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from python_multipart.multipart import MultipartParser, parse_options_header

from service.forms import Part, parse_multipart
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


@given(
    st.lists(
        st.tuples(
            st.sampled_from([b'"images"', b'"a b"', b"plain", b'"q\\"q"', b'""']),
            st.sampled_from([b"", b'; filename="a.png"', b"; filename=a", b'; filename="C:\\\\x"']),
            st.sampled_from([b"", b"\r\nContent-Type: image/png", b"\r\nX-Y:z"]),
            st.one_of(
                st.binary(max_size=40),
                st.lists(st.sampled_from([b"\r\n", b"--", b"edg", b"-", b"\r"])).map(b"".join),
            ),
        ),
        min_size=1,
        max_size=4,
    ),
    st.sampled_from([b"", b"\r\n"]),
)
def test_forms_are_read_as_python_multipart_reads_them(
    wanted: list[tuple[bytes, bytes, bytes, bytes]], around: bytes
) -> None:
    body = around
    for name, filename, more, data in wanted:
        body += b"--edge\r\nContent-Disposition: form-data; name=" + name + filename + more
        body += b"\r\n\r\n" + data + b"\r\n"
    body += b"--edge--" + around
    assert parse_multipart(KIND, body, 10) == by_the_library(body)


def by_the_library(body: bytes) -> list[Part]:
    """The oracle."""
    found: list[Part] = []
    heads: list[bytes] = []
    values: list[bytes] = []

    def ended() -> None:
        _, options = parse_options_header(heads[-1])
        data = b"".join(values)
        found.append(Part(options.get(b"name", b""), options.get(b"filename"), data))
        values.clear()

    def header(data: bytes, start: int, end: int) -> None:
        if data[start:end].startswith(b"form-data"):
            heads.append(data[start:end])

    parser = MultipartParser(
        b"edge",
        {
            "on_header_value": header,
            "on_part_data": lambda data, start, end: values.append(data[start:end]),
            "on_part_end": ended,
        },
    )
    parser.write(body)
    parser.finalize()
    return found


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
