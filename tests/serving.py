"""A real server for a test: two workers, a port and a state folder of its own."""

from __future__ import annotations

import io
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
from PIL import Image

from artifacts.store import Store
from tests import toy

ROOT = Path(__file__).parents[1]
START_S = 180.0  # a busy machine is no failure


@dataclass(frozen=True)
class Server:
    """A running `vitrine serve`."""

    url: str
    state: Path
    log: Path

    def workers(self) -> list[int]:
        """The process ids of the workers that have loaded their models."""
        files = (self.state / "workers").glob("*.json")
        pids = [int(path.stem.rpartition("-")[2]) for path in files]
        return sorted(pid for pid in pids if Path(f"/proc/{pid}").exists())

    def wait_for(self, workers: int) -> None:
        """Until so many workers answer."""
        end = time.monotonic() + START_S
        while len(self.workers()) < workers or not self._ready():
            assert time.monotonic() < end, self.log.read_text()
            time.sleep(0.05)

    def wait_for_metric(self, line: str) -> None:
        """Until /metrics has this line: each worker hands its counts over four times a second."""
        end = time.monotonic() + START_S
        while line not in (text := httpx.get(f"{self.url}/metrics").text).splitlines():
            assert time.monotonic() < end, text
            time.sleep(0.05)

    def _ready(self) -> bool:
        try:
            return httpx.get(f"{self.url}/readyz").status_code == 200
        except httpx.TransportError:
            return False


@contextmanager
def serving(folder: Path, workers: int = 2, **environment: str) -> Iterator[Server]:
    """A server whose task `light` is done by the toy, ready; ended afterwards."""
    state = folder / "state"
    store = Store(state)
    published = toy.publish(store)
    store.activate(published.name, published.version)
    store.point(published.task, published.name)
    server = Server(f"http://127.0.0.1:{free_port()}", state, folder / "server.log")
    command = ["-m", "service.cli", "serve", "--port", server.url.rpartition(":")[2]]
    environ = {name: value for name, value in os.environ.items() if "VITRINE" not in name}
    environ |= {
        "VITRINE_STATE": str(state),
        "VITRINE_WORKERS": str(workers),
        "BENTOML_HOME": str(folder / "bentoml"),
        **environment,
    }
    with server.log.open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, *command], env=environ, cwd=ROOT, stdout=log, stderr=log
        )
        try:
            server.wait_for(workers)
            yield server
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                raise


def free_port() -> int:
    """A port nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def png(level: int) -> bytes:
    """A 28x28 grey PNG; the toy says bright from 128 on, and `raw` keeps it so."""
    buffer = io.BytesIO()
    Image.new("L", (toy.SIDE, toy.SIDE), level).save(buffer, "PNG")
    return buffer.getvalue()
