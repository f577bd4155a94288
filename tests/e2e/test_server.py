"""The real server with two workers: swaps, kills, hostile uploads, raw connections, its end."""

from __future__ import annotations

import contextlib
import io
import os
import signal
import socket
import threading
import time
import zlib
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
from PIL import Image

from artifacts.store import Store
from benchmarks.fuzz import fuzz
from tests import toy
from tests.serving import Server, png, serving

CLASSIFY = "/v1/classify/light?preprocess=raw"
ADOPTED_S = 2.0  # within so long every worker answers with an activated version
BODY_TIMEOUT_S = 1


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("server")
    body_s, head_s = str(BODY_TIMEOUT_S), "2"
    with serving(folder, VITRINE_BODY_TIMEOUT_S=body_s, VITRINE_HEAD_TIMEOUT_S=head_s) as running:
        yield running


def metric(server: Server, name: str, **labels: str) -> float:
    """The sum of a metric's samples that have these labels."""
    total = 0.0
    for line in httpx.get(f"{server.url}/metrics").text.splitlines():
        if line.startswith((name + "{", name + " ")) and all(
            f'{key}="{value}"' in line for key, value in labels.items()
        ):
            total += float(line.rsplit(" ", 1)[1])
    return total


def settled(server: Server, name: str, **labels: str) -> float:
    """A metric that no longer moves: each worker hands its counts over four times a second."""
    value, since = metric(server, name, **labels), time.monotonic()
    while time.monotonic() < since + 0.6:
        time.sleep(0.05)
        again = metric(server, name, **labels)
        if again != value:
            value, since = again, time.monotonic()
    return value


def connect(server: Server) -> socket.socket:
    host, _, port = server.url.removeprefix("http://").partition(":")
    return socket.create_connection((host, int(port)), timeout=20)


def everything(connection: socket.socket) -> bytes:
    """What comes until the server closes."""
    data = b""
    with contextlib.suppress(ConnectionResetError):
        while part := connection.recv(65536):
            data += part
    return data


def post(body: bytes, *headers: str) -> bytes:
    lines = [
        f"POST {CLASSIFY} HTTP/1.1",
        "Host: vitrine",
        "Content-Type: image/png",
        f"Content-Length: {len(body)}",
        *headers,
    ]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def test_both_workers_predict(server: Server) -> None:
    seen = Counter[str]()
    end = time.monotonic() + 30
    while len(seen) < 2 and time.monotonic() < end:
        answer = httpx.post(server.url + CLASSIFY, content=png(250))
        assert answer.json()["predictions"][0]["label"] == "bright"
        seen[answer.headers["x-request-id"].partition("-")[0]] += 1
    assert len(seen) == 2
    server.wait_for_metric("vitrine_workers_ready 2.0")


@pytest.mark.parametrize("at_once", [True, False])
def test_connections_are_shared_by_the_workers(server: Server, at_once: bool) -> None:
    server.wait_for_metric("vitrine_workers_ready 2.0")
    with contextlib.ExitStack() as stack, ThreadPoolExecutor(16) as pool:
        opened = (pool.map if at_once else map)(connect, [server] * 16)
        connections = [stack.enter_context(connection) for connection in opened]
        workers = Counter[bytes]()
        for connection in connections:
            connection.sendall(b"GET /livez HTTP/1.1\r\nHost: vitrine\r\n\r\n")
            head = connection.recv(65536).lower()
            workers[head.partition(b"x-request-id: ")[2].partition(b"-")[0]] += 1
    assert sum(workers.values()) == 16
    assert len(workers) == 2
    assert min(workers.values()) >= 4, "even where one of them is busy for a while"


def test_activate_and_rollback_under_load_fail_no_request(server: Server) -> None:
    store = Store(server.state)
    old = store.catalog().live["toy"].version
    new = toy.publish(store, sign=-1).version
    stop = threading.Event()
    answers: list[tuple[float, int, str]] = []  # when sent, status, version

    def load() -> None:
        while not stop.is_set():
            with httpx.Client(base_url=server.url, timeout=20) as client:  # any of the workers
                for _ in range(5):
                    sent = time.monotonic()
                    answer = client.post(CLASSIFY, content=png(250))
                    answers.append((sent, answer.status_code, answer.json().get("version", "")))

    def adopted(version: str | None) -> bool:
        latest = [found for _, _, found in answers[-40:]]
        return len(latest) == 40 and set(latest) == {version}

    def wait_for(version: str | None) -> None:
        end = time.monotonic() + 20
        while not adopted(version) and time.monotonic() < end:
            time.sleep(0.02)
        assert adopted(version)

    with ThreadPoolExecutor(4) as pool:
        clients = [pool.submit(load) for _ in range(4)]
        try:
            wait_for(old)
            store.activate("toy", new)
            activated = time.monotonic()
            wait_for(new)
            store.rollback("toy")
            rolled_back = time.monotonic()
            wait_for(old)
        finally:
            stop.set()
        for client in clients:
            client.result()
    assert {status for _, status, _ in answers} == {200}
    late_old = [t - activated for t, _, v in answers if activated < t < rolled_back and v == old]
    late_new = [t - rolled_back for t, _, v in answers if t > rolled_back and v == new]
    print(f"adopted after {max(late_old, default=0):.2f} and {max(late_new, default=0):.2f} s")
    assert max(late_old + late_new) < ADOPTED_S


def test_a_damaged_version_is_refused_and_the_old_one_goes_on(server: Server) -> None:
    store = Store(server.state)
    old = store.catalog().live["toy"].version
    broken = toy.publish(store, constant=3).version
    model = store.folder("toy", broken) / "model.onnx"
    model.write_bytes(model.read_bytes().replace(b"ReduceMean", b"ReduceSum0"))
    failed = metric(server, "vitrine_reloads_total", outcome="failed")
    store.activate("toy", broken)
    try:
        end = time.monotonic() + 20
        while metric(server, "vitrine_reloads_total", outcome="failed") < failed + 2:
            assert time.monotonic() < end
            time.sleep(0.05)
        for _ in range(10):
            answer = httpx.post(server.url + CLASSIFY, content=png(250))
            assert (answer.status_code, answer.json()["version"]) == (200, old)
        (record,) = [
            entry
            for entry in httpx.get(f"{server.url}/v1/models").json()["models"]
            if entry["name"] == "toy"
        ]
        assert record["version"] == old
        assert "model.onnx" in record["failure"]
        assert httpx.get(f"{server.url}/readyz").status_code == 200
    finally:
        store.rollback("toy")


def chunk(kind: bytes, data: bytes) -> bytes:
    return len(data).to_bytes(4) + kind + data + zlib.crc32(kind + data).to_bytes(4)


def huge_png(side: int = 10_000) -> bytes:
    """A well-formed PNG of 100 megapixels in 100 kB."""
    header = side.to_bytes(4) * 2 + bytes([8, 0, 0, 0, 0])
    data = zlib.compress(bytes((side + 1) * side), 9)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")
    )


def test_hostile_uploads_are_client_errors_and_the_server_goes_on(server: Server) -> None:
    jpeg = io.BytesIO()
    Image.effect_noise((64, 64), 50).save(jpeg, "JPEG")
    workers = server.workers()
    uploads = {
        "empty": b"",
        "text": b"this is no image",
        "a program": b"\x7fELF" + bytes(500),
        "a page": b"<svg xmlns='http://www.w3.org/2000/svg'/>",
        "truncated PNG": png(250)[:40],
        "corrupt PNG": png(250).replace(b"IDAT", b"IDAX"),
        "truncated JPEG": jpeg.getvalue()[:100],
        "100 megapixels": huge_png(),
        "a URL": b"http://127.0.0.1:1/image.png",
    }
    with httpx.Client(base_url=server.url, timeout=30) as client:
        for what, body in uploads.items():
            for kind in ("image/png", "image/jpeg", "application/octet-stream"):
                answer = client.post(CLASSIFY, content=body, headers={"content-type": kind})
                assert answer.status_code == 422, (what, answer.text)
                assert answer.headers["content-type"] == "application/problem+json"
            answer = client.post(CLASSIFY, files={"file": ("f", body, "image/png")})
            assert answer.status_code == 422, (what, answer.text)
        answer = client.post(CLASSIFY, content=png(250), headers={"content-type": "image/jpg"})
        assert answer.json()["predictions"][0]["label"] == "bright"  # what it is, not its name
    assert server.workers() == workers


def test_pipelined_requests_are_answered_in_order_on_one_connection(server: Server) -> None:
    with connect(server) as connection:
        requests = [
            post(png(level), f"X-Request-ID: number-{number}")
            for number, level in enumerate((250, 3, 250))
        ]
        last = post(png(3), "X-Request-ID: number-3", "Connection: close")
        connection.sendall(b"".join([*requests, last]))
        data = everything(connection)
    assert data.count(b"HTTP/1.1 200") == 4
    ids = [data.index(b"number-%d" % number) for number in range(4)]
    assert ids == sorted(ids)


def test_a_half_sent_body_is_408_and_the_connection_ends(server: Server) -> None:
    with connect(server) as connection:
        whole = post(png(250))
        connection.sendall(whole[:-10])
        began = time.monotonic()
        data = everything(connection)
        assert time.monotonic() - began < BODY_TIMEOUT_S + 10
    assert data.startswith(b"HTTP/1.1 408")
    assert b"connection: close" in data.lower()


@pytest.mark.parametrize("half", [b"", b"GET /livez HTTP/1.1\r\nHost: vitrine\r\n"])
def test_a_head_that_never_ends_ends_the_connection(server: Server, half: bytes) -> None:
    with connect(server) as connection, connect(server) as other:
        connection.sendall(half)
        whole = b"GET /livez HTTP/1.1\r\nHost: vitrine\r\n\r\n"
        other.sendall(whole)
        assert other.recv(65536).startswith(b"HTTP/1.1 200")
        other.sendall(half)  # after a whole request it is the same
        assert everything(connection) == everything(other) == b""


def test_a_body_over_the_limit_is_413_before_it_is_sent(server: Server) -> None:
    with connect(server) as connection:
        head = f"POST {CLASSIFY} HTTP/1.1\r\nHost: v\r\nContent-Length: 99999999999\r\n\r\n"
        connection.sendall(head.encode())
        data = everything(connection)
    assert data.startswith(b"HTTP/1.1 413")
    assert b"connection: close" in data.lower()


def test_a_body_in_chunks_over_the_limit_is_cut_off(server: Server) -> None:
    with connect(server) as connection:
        head = f"POST {CLASSIFY} HTTP/1.1\r\nHost: v\r\nTransfer-Encoding: chunked\r\n\r\n"
        connection.sendall(head.encode())
        sent = 0
        piece = b"100000\r\n" + bytes(0x100000) + b"\r\n"
        with contextlib.suppress(ConnectionError):
            while sent < 64 * 0x100000:
                connection.sendall(piece)
                sent += 0x100000
    assert sent < 40 * 0x100000  # what the buffers of both ends take, and no more


def test_a_few_thousand_fuzzed_requests_hurt_nobody(server: Server) -> None:
    report = fuzz(server.url, requests=2000, seed=7, pids=server.workers())
    assert report.unexpected == []
    assert report.answered > 1500
    assert report.dead == []
    # Hundreds of them were malformed: a worker says so once, and once a minute.
    minutes = server.log.read_text().count("Invalid HTTP request received")
    assert 1 <= minutes <= 20


def test_a_second_server_disturbs_nothing_and_ends_as_a_lame_duck(
    server: Server, tmp_path: Path
) -> None:
    before = settled(server, "vitrine_requests_total", surface="v1", status="200")
    with serving(tmp_path, workers=1, VITRINE_LAME_DUCK_S="3") as other:
        assert httpx.post(other.url + CLASSIFY, content=png(250)).status_code == 200
        assert settled(other, "vitrine_requests_total", surface="v1", status="200") == 1
        assert settled(server, "vitrine_requests_total", surface="v1", status="200") == before
        server.wait_for_metric("vitrine_workers_ready 2.0")

        (worker,) = other.workers()
        status = Path(f"/proc/{worker}/status").read_text()
        supervisor = int(status.partition("PPid:")[2].split()[0])
        os.kill(supervisor, signal.SIGTERM)
        end = time.monotonic() + 3
        while (answer := httpx.get(f"{other.url}/readyz")).status_code == 200:
            assert time.monotonic() < end
        assert answer.json()["status"] == "draining"
        answer = httpx.post(other.url + CLASSIFY, content=png(250))
        assert (answer.status_code, answer.headers["connection"]) == (200, "close")
        end = time.monotonic() + 20
        while other.workers():
            assert time.monotonic() < end
            time.sleep(0.05)
    assert httpx.post(server.url + CLASSIFY, content=png(250)).status_code == 200


def test_a_killed_worker_is_replaced_and_metrics_stay_right(server: Server) -> None:
    """The last of these tests: it takes up to ten seconds."""
    for _ in range(20):
        assert httpx.post(server.url + CLASSIFY, content=png(250)).status_code == 200
    name, labels = "vitrine_requests_total", {"surface": "v1", "status": "200"}
    counted = settled(server, name, **labels)
    killed, kept = server.workers()
    os.kill(killed, signal.SIGKILL)
    end = time.monotonic() + 30
    while metric(server, "vitrine_workers_ready") == 2 and killed in server.workers():
        assert time.monotonic() < end
    server.wait_for(2)
    assert kept in server.workers()
    while metric(server, "vitrine_workers_ready") != 2:
        assert time.monotonic() < end
        time.sleep(0.05)
    assert metric(server, name, **labels) == counted
    live = metric(server, "vitrine_live_version", model="toy")
    assert live == 2
