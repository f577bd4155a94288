"""Mutated requests and malformed HTTP against a running server: nothing may break.

    python -m benchmarks.fuzz http://127.0.0.1:3000 --requests 100000

Nine in ten are well-formed HTTP whose path, query, headers and body were mutated from valid
requests; the tenth is not HTTP at all, or breaks it. Every answer must be whole, and below 500 but
for the deliberate 503 and 504. With the workers' process ids their deaths and memory are watched.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import gzip
import io
import json
import random
import struct
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from PIL import Image

DELIBERATE = (503, 504)
PATIENCE_S = 20.0
MALFORMED = 0.1  # share of requests
CONNECTIONS = 8


@dataclass
class Report:
    """What came of it."""

    sent: int = 0
    answered: int = 0
    closed: int = 0  # the server closed without an answer, as it may where HTTP is broken
    statuses: Counter[int] = field(default_factory=Counter)
    unexpected: list[str] = field(default_factory=list)  # a request that was answered wrongly
    dead: list[int] = field(default_factory=list)  # workers that are gone
    resident_bytes: list[list[int]] = field(default_factory=list)  # of the workers, over time
    seconds: float = 0.0


@dataclass(frozen=True)
class Seed:
    """A valid request, to be mutated."""

    method: str
    path: str
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b""


def seeds() -> list[Seed]:
    """Valid requests of every surface."""
    images = [
        _image(kind, size)
        for kind in ("PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF")
        for size in ((28, 28), (97, 60))
    ]
    texts = [base64.b64encode(image).decode() for image in images[:3]]
    form = (
        b"".join(
            b'--edge\r\nContent-Disposition: form-data; name="f"; filename="f.png"\r\n\r\n'
            + image
            + b"\r\n"
            for image in images[:3]
        )
        + b"--edge--\r\n"
    )
    tensor = {"name": "images", "shape": [1, 28, 28], "datatype": "UINT8"}
    flat = json.dumps({"inputs": [{**tensor, "data": [7] * 784}]}).encode()
    head = json.dumps({"inputs": [{**tensor, "parameters": {"binary_data_size": 784}}]}).encode()
    classify, infer = "/v1/classify/light", "/v2/models/toy/infer"
    kind = "Content-Type"
    return [
        *(Seed("POST", classify, ((kind, "image/png"),), image) for image in images),
        Seed("POST", classify + "?top_k=2&set=0.95&preprocess=raw", (), images[0]),
        Seed(
            "POST", classify, ((kind, "application/json"),), json.dumps({"images": texts}).encode()
        ),
        Seed("POST", classify, ((kind, "multipart/form-data; boundary=edge"),), form),
        Seed(
            "POST",
            classify,
            ((kind, "image/png"), ("Content-Encoding", "gzip")),
            gzip.compress(images[0]),
        ),
        Seed("POST", infer, ((kind, "application/json"),), flat),
        Seed(
            "POST", infer, (("Inference-Header-Content-Length", str(len(head))),), head + bytes(784)
        ),
        Seed(
            "POST",
            "/v1/feedback",
            ((kind, "application/json"),),
            json.dumps({"id": "A" * 52, "label": "bright"}).encode(),
        ),
        Seed("POST", "/classify", ((kind, "multipart/form-data; boundary=edge"),), form),
        Seed("GET", "/v1/models/toy"),
        Seed("GET", "/v1/models/toy/accuracy"),
        Seed("GET", "/v2/models/toy/config"),
        Seed("POST", "/v2/repository/index"),
        Seed("GET", "/readyz"),
    ]


def mutated(seed: Seed, chance: random.Random) -> bytes:
    """A request made of a seed: framed rightly, and wrong in anything else."""
    method, path, headers, body = seed.method, seed.path, list(seed.headers), seed.body
    for _ in range(chance.randrange(1, 4)):
        what = chance.randrange(8)
        if what <= 3:
            body = _mutated_bytes(body, chance)
        elif what == 4:
            at = chance.randrange(len(path)) + 1
            insert = chance.choice(
                [
                    "/",
                    "%00",
                    "%ff",
                    "..",
                    "?",
                    "&top_k=",
                    "=",
                    "%2e",
                    "x" * 300,
                    "?set=nan",
                    "?top_k=99999999999999999999",
                    ";",
                    "%C3%28",
                ]
            )
            path = path[:at] + insert + path[at:]
        elif what == 5:
            method = chance.choice(["GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH"])
        elif headers:
            at = chance.randrange(len(headers))
            name, value = headers[at]
            value = chance.choice(
                [
                    value[: chance.randrange(len(value) + 1)],
                    value * 50,
                    "",
                    "-1",
                    "0",
                    "9" * 30,
                    "multipart/form-data",
                    "multipart/form-data; boundary=" + "e" * 400,
                    "gzip",
                    "application/json",
                    "image/\xe9",
                    "\t;;;==",
                    "deflate, gzip",
                ]
            )
            headers[at] = (name, value)
        else:
            headers.append(
                chance.choice(
                    [
                        ("Expect", "100-continue"),
                        ("X-Request-ID", "\xff" * 9),
                        ("Accept", "x" * 3000),
                        ("Authorization", "Bearer \xfe"),
                        ("Traceparent", "00-" + "0" * 50),
                        ("Upgrade", "websocket"),
                        ("Inference-Header-Content-Length", "-5"),
                        ("Origin", "null"),
                        ("Content-Encoding", "gzip"),
                        ("Range", "bytes=0-"),
                    ]
                )
            )
    lines = [
        f"{method} {path} HTTP/1.1",
        "Host: vitrine",
        *(f"{name}: {value}" for name, value in headers),
    ]
    if chance.random() < 0.2:
        lines.append("Transfer-Encoding: chunked")
        body = _chunked(body, chance)
    else:
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + body


def malformed(seed: Seed, chance: random.Random) -> bytes:
    """Bytes that are no HTTP request, or break its framing."""
    whole = mutated(seed, chance)
    head, _, body = whole.partition(b"\r\n\r\n")
    kinds: list[Callable[[], bytes]] = [
        lambda: chance.randbytes(chance.randrange(1, 400)),
        lambda: b"GET /" + b"a" * 70_000 + b" HTTP/1.1\r\n\r\n",
        lambda: head + b"\r\n" + b"X: y\r\n" * 5000 + b"\r\n",
        lambda: whole[: chance.randrange(len(whole))],
        lambda: _mutated_bytes(head, chance) + b"\r\n\r\n" + body,
        lambda: head + b"\r\nContent-Length: -1\r\n\r\n" + body,
        lambda: head + b"\r\nContent-Length: 3\r\nContent-Length: 5\r\n\r\n" + body,
        lambda: head + b"\r\nTransfer-Encoding: chunked\r\n\r\nZZ\r\n" + body,
        lambda: head + b"\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\n" + body,
        lambda: whole.replace(b"HTTP/1.1", b"HTTP/9.9"),
        lambda: whole.replace(b"\r\n", b"\n"),
        lambda: b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + chance.randbytes(100),
        lambda: b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + struct.pack(">I", 0),
        lambda: head.replace(b"Host: vitrine", b"Host : vitrine\x00") + b"\r\n\r\n" + body,
        lambda: b"CONNECT vitrine:80 HTTP/1.1\r\n\r\n",
        lambda: b"\r\n" * 200 + whole,
    ]
    return chance.choice(kinds)()


def fuzz(url: str, *, requests: int, seed: int, pids: list[int] | None = None) -> Report:
    """Send so many requests, the same for the same seed; `pids` are the workers to watch."""
    return asyncio.run(_fuzz(url, requests, seed, pids or []))


async def _fuzz(url: str, requests: int, seed: int, pids: list[int]) -> Report:
    parts = urlsplit(url)
    assert parts.hostname is not None
    place = (parts.hostname, parts.port or 80)
    report = Report()
    began = time.monotonic()
    left = iter(range(requests))

    async def client(number: int) -> None:
        chance = random.Random(seed * 1000 + number)
        corpus = seeds()
        line: _Line | None = None
        for count in left:
            if pids and count % max(1, requests // 10) == 0:
                report.resident_bytes.append([_resident(pid) for pid in pids])
            origin = chance.choice(corpus)
            broken = chance.random() < MALFORMED
            data = malformed(origin, chance) if broken else mutated(origin, chance)
            if line is None or broken:
                line = await _Line.open(line, place)
            report.sent += 1
            status = await line.ask(data, end=broken)
            if status is None and not broken:  # a connection kept too long: once more, on a new one
                line = await _Line.open(line, place)
                status = await line.ask(data, end=False)
            _note(report, status, data, broken)
            if line.ended:
                line = await _Line.open(line, place)
        if line is not None:
            line.close()

    await asyncio.gather(*(client(number) for number in range(CONNECTIONS)))
    report.seconds = time.monotonic() - began
    report.dead = [pid for pid in pids if not _resident(pid)]
    report.resident_bytes.append([_resident(pid) for pid in pids])
    return report


def _note(report: Report, status: int | None, data: bytes, broken: bool) -> None:
    if status is None:
        report.closed += 1
        if not broken:
            report.unexpected.append(f"no answer to {data[:200]!r}")
        return
    report.answered += 1
    report.statuses[status] += 1
    if status >= 500 and status not in DELIBERATE:
        report.unexpected.append(f"{status} to {data[:2000]!r}")


class _Line:
    """One connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer
        self.ended = False

    @classmethod
    async def open(cls, before: _Line | None, place: tuple[str, int]) -> _Line:
        if before is not None:
            before.close()
        return cls(*await asyncio.open_connection(*place, limit=1 << 20))

    def close(self) -> None:
        self._writer.close()

    async def ask(self, data: bytes, *, end: bool) -> int | None:
        """The status of the answer; None when the connection is closed without one."""
        self.ended = end
        try:
            async with asyncio.timeout(PATIENCE_S):
                self._writer.write(data)
                if end and self._writer.can_write_eof():
                    self._writer.write_eof()
                await self._writer.drain()
                return await self._answer(head_only=data.startswith(b"HEAD "))
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            self.ended = True
            return None

    async def _answer(self, *, head_only: bool) -> int:
        while True:
            head = await self._reader.readuntil(b"\r\n\r\n")
            status = int(head.split(b" ", 2)[1])
            if status >= 200 or status == 101:
                break
        fields = {
            name.strip().lower(): value.strip().lower()
            for name, _, value in (line.partition(b":") for line in head.split(b"\r\n")[1:])
        }
        if fields.get(b"connection") == b"close" or status == 101:
            self.ended = True
        if head_only or status in (204, 304):
            return status
        if b"content-length" in fields:
            await self._reader.readexactly(int(fields[b"content-length"]))
        elif fields.get(b"transfer-encoding") == b"chunked":
            while size := int(await self._reader.readuntil(b"\r\n"), 16):
                await self._reader.readexactly(size + 2)
            await self._reader.readuntil(b"\r\n")
        else:
            self.ended = True
            await self._reader.read()
        return status


def _image(kind: str, size: tuple[int, int]) -> bytes:
    buffer = io.BytesIO()
    Image.linear_gradient("L").resize(size).save(buffer, kind)
    return buffer.getvalue()


def _mutated_bytes(data: bytes, chance: random.Random) -> bytes:
    if not data:
        return chance.randbytes(chance.randrange(40))
    at = chance.randrange(len(data))
    what = chance.randrange(6)
    if what == 0:
        return data[:at]
    if what == 1:
        return data[:at] + chance.randbytes(chance.randrange(1, 20)) + data[at:]
    if what == 2:
        return data[:at] + data[at + chance.randrange(1, 30) :]
    if what == 3:
        return data[:at] + data[at // 2 :]
    if what == 4:
        words = [
            b"\xff\xff\xff\xff",
            b"\0\0\0\0",
            b"\x7f\xff\xff\xff",
            b'"',
            b"[" * 300,
            b"1e999",
            b"null",
            b"-1",
            b"--edge",
            b"\r\n\r\n",
            b'{"a":',
            b"99999999999999999999",
        ]
        word = chance.choice(words)
        return data[:at] + word + data[at + len(word) :]
    flipped = bytearray(data)
    for _ in range(chance.randrange(1, 10)):
        flipped[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
    return bytes(flipped)


def _chunked(body: bytes, chance: random.Random) -> bytes:
    pieces = []
    while body:
        size = chance.randrange(1, 3000)
        piece, body = body[:size], body[size:]
        pieces.append(b"%x\r\n%s\r\n" % (len(piece), piece))
    return b"".join(pieces) + b"0\r\n\r\n"


def _resident(pid: int) -> int:
    """Resident bytes of a process; 0 when it is gone."""
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * 4096
    except (OSError, IndexError):
        return 0


def main(argv: list[str] | None = None) -> int:
    """Fuzz a server and print what came of it; 1 when anything was unexpected."""
    parser = argparse.ArgumentParser(
        description="Send mutated and malformed requests to a running server.",
        epilog="example: python -m benchmarks.fuzz http://127.0.0.1:3000 --requests 100000",
    )
    parser.add_argument("url", help="the server's address")
    parser.add_argument("--requests", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--pids", type=int, nargs="*", help="workers whose memory to watch")
    given = parser.parse_args(argv)
    report = fuzz(given.url, requests=given.requests, seed=given.seed, pids=given.pids)
    print(
        f"{report.sent:,} requests in {report.seconds:.0f} s: {report.answered:,} answered, "
        f"{report.closed:,} closed unanswered"
    )
    print("statuses: " + ", ".join(f"{s}: {n:,}" for s, n in sorted(report.statuses.items())))
    for sizes in report.resident_bytes:
        print("resident MB: " + ", ".join(f"{size / 1e6:.1f}" for size in sizes))
    print(f"workers gone: {report.dead or 'none'}; unexpected: {len(report.unexpected)}")
    for line in report.unexpected[:20]:
        print(line, file=sys.stderr)
    return 1 if report.unexpected or report.dead else 0


if __name__ == "__main__":
    sys.exit(main())
