from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from service.score import remote, rows
from service.score.pool import WorkersFailed
from tests import toy
from tests.scoring import pictures, score

Answer = tuple[int, dict[str, str], Any]


@dataclass
class Stub:
    """A service of which we decide what it answers; `answer` gets the number of images."""

    answer: Callable[[int], Answer]
    asked: list[int] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    url: str = ""


def good(count: int, version: str = "0123456789ab") -> Answer:
    entry = {"label": "dark", "index": 1, "confidence": 0.75, "decision": "accept", "top": []}
    return 200, {}, {"model": "toy", "version": version, "predictions": [entry] * count}


@contextmanager
def serving(answer: Callable[[int], Answer]) -> Iterator[Stub]:
    stub = Stub(answer)
    lock = threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            manifest = toy.manifest(version="0123456789ab", files={})
            self._reply(200, {}, json.loads(manifest.to_json()))

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            count = body.count(b"content-disposition")
            with lock:
                stub.asked.append(count)
                stub.headers.append(dict(self.headers))
                found = stub.answer(count)
            self._reply(*found)

        def _reply(self, status: int, headers: dict[str, str], record: Any) -> None:
            data = json.dumps(record).encode()
            self.send_response(status)
            for name, value in {**headers, "content-length": str(len(data))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    stub.url = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        yield stub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.fixture
def scans(tmp_path: Path) -> Path:
    pictures(tmp_path / "scans", 40)
    return tmp_path / "scans"


def run(stub: Stub, scans: Path, *options: str) -> tuple[int, str, list[dict[str, Any]]]:
    out = scans.parent / "rows.jsonl"
    done = score(scans.parent, scans, "--url", stub.url, "--out", out, *options)
    found = list(rows.read_any(str(out))) if out.exists() else []
    return done.returncode, done.stderr.decode(), found


def test_many_images_go_in_one_request(scans: Path) -> None:
    with serving(good) as stub:
        code, said, found = run(stub, scans)
    assert (code, len(found)) == (0, 40), said
    assert sorted(stub.asked) == [8, 32]
    assert {row["version"] for row in found} == {"0123456789ab"}


def test_a_refusal_is_waited_out_as_long_as_it_says(scans: Path) -> None:
    refusals = iter([(429, {"Retry-After": "0"}, {"detail": "full"})] * 5)
    with serving(lambda count: next(refusals, None) or good(count)) as stub:
        code, said, found = run(stub, scans)
    assert (code, len(found)) == (0, 40), said
    assert len(stub.asked) == 7


def test_a_request_too_much_for_the_service_is_halved(scans: Path) -> None:
    def answer(count: int) -> Answer:
        if count > 10:
            return (413 if count > 20 else 504), {}, {"detail": "too much"}
        return good(count)

    with serving(answer) as stub:
        code, _, found = run(stub, scans)
    assert (code, len(found)) == (0, 40)
    assert all(row["label"] == "dark" for row in found)


def test_an_image_the_service_finds_too_large_fails_alone(scans: Path) -> None:
    refused = iter([True])

    def answer(count: int) -> Answer:
        if count > 1 or next(refused, False):
            return 413, {}, {"detail": "the body is too large"}
        return good(count)

    with serving(answer) as stub:
        code, said, found = run(stub, scans)
    assert code == 1
    assert "39 scored, 1 failed" in said
    assert [row["error"] for row in found if row["error"]] == ["the body is too large"]


def test_a_service_that_changes_its_version_ends_the_run(scans: Path) -> None:
    with serving(lambda count: good(count, version="ba9876543210")) as stub:
        code, said, found = run(stub, scans)
    assert (code, found) == (1, [])
    assert "went over from version 0123456789ab to ba9876543210" in said


def test_what_the_service_refuses_for_good_is_not_asked_again(scans: Path) -> None:
    with serving(lambda _: (401, {}, {"detail": "no key"})) as stub:
        code, said, _ = run(stub, scans, "--requests", "1")
    assert code == 1
    assert "401: no key" in said
    assert len(stub.asked) <= 2


def test_a_service_that_is_away_for_long_ends_the_run() -> None:
    with serving(lambda _: (503, {}, {"detail": "loading"})) as stub:
        service = remote.Service(stub.url, patience_s=0.3)
        with pytest.raises(WorkersFailed, match="503: loading; what is scored is kept"):
            service.classify("toy", [b"x"], {})
        service.close()
    assert len(stub.asked) > 1


def test_a_connection_that_breaks_is_made_anew(scans: Path) -> None:
    with serving(lambda count: (200, {"Connection": "close"}, good(count)[2])) as stub:
        code, said, found = run(stub, scans)
    assert (code, len(found)) == (0, 40), said


def test_the_key_goes_along(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(remote.KEY, "a-key-of-16-chars")
    with serving(good) as stub:
        service = remote.Service(stub.url)
        service.classify("toy", [b"x"], {})
        service.close()
    assert stub.headers[0]["authorization"] == "Bearer a-key-of-16-chars"
