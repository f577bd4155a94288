"""The load test can fail: its limits are judged rightly, against Locust's own statistics."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

LOCUSTFILE = Path(__file__).with_name("locustfile.py")


class _Service(BaseHTTPRequestHandler):
    """Just enough of the service to be loaded; answers with the status its server was given."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self._answer(200, {"models": [{"name": "a", "tasks": ["digits"]}], **_METADATA})

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        status: int = self.server.status  # type: ignore[attr-defined]
        self._answer(status, {"predictions": [{"label": "7"}]})

    def log_message(self, *_: object) -> None:
        pass

    def _answer(self, status: int, record: dict[str, object]) -> None:
        body = json.dumps(record).encode()
        self.send_response(status)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


_METADATA: dict[str, object] = {"inputs": [{"name": "images", "shape": [-1, 28, 28]}]}


@pytest.fixture
def service() -> Iterator[ThreadingHTTPServer]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Service)
    server.daemon_threads = True
    thread = Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


def _load(server: ThreadingHTTPServer, **limits: str) -> subprocess.CompletedProcess[str]:
    import os

    host, port = server.server_address[:2]
    command = [sys.executable, "-m", "locust", "-f", str(LOCUSTFILE), "--headless"]
    command += ["--users", "4", "--spawn-rate", "4", "--only-summary"]
    for seconds in (2, 20):  # on a busy machine the first request may take longer to leave
        ended = subprocess.run(
            [*command, "--host", f"http://{host!s}:{port}", "--run-time", f"{seconds}s"],
            env=os.environ | limits,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        if "not one prediction was asked for" not in ended.stdout:
            break
    return ended


def test_a_service_within_its_limits_passes(service: ThreadingHTTPServer) -> None:
    service.status = 200  # type: ignore[attr-defined]
    ended = _load(service, VITRINE_LOAD_P99_MS="5000")
    assert ended.returncode == 0, ended.stdout + ended.stderr


def test_a_service_that_answers_500_fails(service: ThreadingHTTPServer) -> None:
    service.status = 500  # type: ignore[attr-defined]
    ended = _load(service, VITRINE_LOAD_P99_MS="5000")
    assert ended.returncode == 1
    assert "of requests failed" in ended.stdout


def test_a_service_that_is_too_slow_fails(service: ThreadingHTTPServer) -> None:
    service.status = 200  # type: ignore[attr-defined]
    ended = _load(service, VITRINE_LOAD_P99_MS="0.001")
    assert ended.returncode == 1
    assert "p99 is" in ended.stdout
