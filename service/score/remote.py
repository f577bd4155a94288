"""Scoring through a running service: many images a request, few requests at once."""

from __future__ import annotations

import http.client
import json
import os
import queue
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

import orjson

from artifacts import manifest as contract
from artifacts.manifest import BadArtifact, Manifest
from service.score import shards, storage
from service.score.job import Job, Misuse
from service.score.pool import WorkersFailed
from service.score.rows import Row
from service.score.shards import Done, Shard

KEY = "VITRINE_API_KEY"  # the environment's variable with the key a service may ask for
IMAGES = 64  # in one request
BYTES = 4 * 1024 * 1024  # in one request, unless a single image is larger
TIMEOUT_S = 60.0
PATIENCE_S = 300.0  # how long a service may refuse or be away before the run gives up
LONGEST_WAIT_S = 30.0

# Refused before anything was done, or cut off: a prediction changes nothing, so asking again is
# safe. Other statuses mean the same the second time.
_AGAIN = frozenset({408, 429, 502, 503, 504})


class Refused(Exception):
    """A status that asking again does not change, with the service's own words."""

    def __init__(self, status: int, detail: str) -> None:
        super().__init__(f"the service answers {status}: {detail}")
        self.status = status
        self.detail = detail


class Service:
    """One kept-open connection to a running service. Not for several threads at once."""

    def __init__(self, url: str, *, patience_s: float = PATIENCE_S) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise Misuse(f"{url} is no address of a service; expected http://host:port")
        self.host, self.port = parts.hostname, parts.port
        self._secure = parts.scheme == "https"
        self._path = parts.path.rstrip("/")
        self._patience_s = patience_s
        self._connection: http.client.HTTPConnection | None = None
        key = os.environ.get(KEY, "")
        self._headers = {"authorization": f"Bearer {key}"} if key else {}

    def manifest(self, name: str) -> Manifest:
        """The manifest of the live version that a model's or task's name stands for."""
        try:
            return contract.from_record(self._ask("GET", f"/v1/models/{quote(name)}", b"", {}))
        except BadArtifact as error:
            raise Misuse(f"what answers there is no Vitrine of this release: {error}") from error
        except Refused as error:
            raise Misuse(str(error)) from error

    def classify(self, name: str, images: list[bytes], query: dict[str, Any]) -> dict[str, Any]:
        """The service's answer for some images. Raises Refused, WorkersFailed."""
        boundary = os.urandom(16).hex()
        head = (
            f'--{boundary}\r\ncontent-disposition: form-data; name="image"; filename="image"\r\n'
            "content-type: application/octet-stream\r\n\r\n"
        ).encode()
        body = b"".join(part for data in images for part in (head, data, b"\r\n"))
        body += f"--{boundary}--\r\n".encode()
        kind = {"content-type": f"multipart/form-data; boundary={boundary}"}
        path = f"/v1/classify/{quote(name)}?{urlencode(query)}"
        # Past its deadline, many images would be so again; fewer may not. One is asked for again.
        final = frozenset({504}) if len(images) > 1 else frozenset[int]()
        record: dict[str, Any] = self._ask("POST", path, body, kind, final)
        return record

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _ask(
        self,
        method: str,
        path: str,
        body: bytes,
        headers: dict[str, str],
        final: frozenset[int] = frozenset(),
    ) -> Any:
        """One answer, asked for as often as it is worth; a status in `final` is Refused at once."""
        give_up, wait_s = time.monotonic() + self._patience_s, 0.1
        while True:
            advised: float | None = None
            try:
                status, advised, content = self._once(method, path, body, headers)
                if status not in _AGAIN or status in final:
                    return self._read(status, content)
                trouble = f"it answers {status}: {_detail(content)}"
            except ssl.SSLError as error:
                raise WorkersFailed(f"no secure connection to {self.host}: {error}") from error
            except (OSError, http.client.HTTPException) as error:
                self.close()
                trouble = str(error) or type(error).__name__
            pause_s = min(wait_s if advised is None else advised, LONGEST_WAIT_S)
            if time.monotonic() + pause_s > give_up:
                raise WorkersFailed(
                    f"the service at {self.host}:{self.port} is of no use: {trouble}; what is "
                    "scored is kept, the same command goes on"
                )
            time.sleep(pause_s)
            wait_s = min(wait_s * 2, LONGEST_WAIT_S)

    def _once(
        self, method: str, path: str, body: bytes, headers: dict[str, str]
    ) -> tuple[int, float | None, bytes]:
        """Status, the Retry-After in seconds, and body."""
        if self._connection is None:
            kind = http.client.HTTPSConnection if self._secure else http.client.HTTPConnection
            self._connection = kind(self.host, self.port, timeout=TIMEOUT_S)
            self._connection.connect()
            self._connection.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._connection.request(method, self._path + path, body, {**self._headers, **headers})
        response = self._connection.getresponse()
        content = response.read()
        advised = response.getheader("retry-after")
        if response.will_close:
            self.close()
        seconds = float(advised) if advised and advised.replace(".", "", 1).isdigit() else None
        return response.status, seconds, content

    def _read(self, status: int, content: bytes) -> Any:
        try:
            record = orjson.loads(content)
        except orjson.JSONDecodeError:
            record = None
        if status == 200 and isinstance(record, dict):
            return record
        if status == 422 and isinstance(record, dict) and "predictions" in record:
            return record  # every image of the request is bad, each with its own reason
        raise Refused(status, _detail(content))


def score(
    job: Job, partial: Path, todo: Iterator[Shard], requests: int, patience_s: float = PATIENCE_S
) -> Iterator[Done]:
    """Score every shard of `todo` through the service, `requests` at a time."""
    given: queue.SimpleQueue[Shard | None] = queue.SimpleQueue()
    results: queue.SimpleQueue[Done | Exception] = queue.SimpleQueue()

    def work() -> None:
        service = Service(job.url, patience_s=patience_s)
        try:
            while (shard := given.get()) is not None:
                rows = score_shard(service, job, shard)
                results.put(shards.write(partial, shard, rows, job.table))
        except Exception as error:  # raised again by the main thread
            results.put(error)
        finally:
            service.close()

    threads = [threading.Thread(target=work, daemon=True) for _ in range(requests)]
    for thread in threads:
        thread.start()
    waiting = 0
    try:
        for shard in todo:
            if waiting == requests:
                yield _result(results.get())
            else:
                waiting += 1
            given.put(shard)
        for _ in range(waiting):
            yield _result(results.get())
    finally:
        for _ in threads:
            given.put(None)


def score_shard(service: Service, job: Job, shard: Shard) -> list[Row]:
    """The rows of a shard, in order; files that cannot be read are not sent."""
    rows = [Row(path) for path in shard.paths]
    if shard.truths is not None:
        rows = [row._replace(truth=t) for row, t in zip(rows, shard.truths, strict=True)]
    places: list[int] = []
    images: list[bytes] = []
    size = 0
    for place, path in enumerate(shard.paths):
        try:
            data = storage.read(storage.join(job.source.root, path))
        except storage.Unreadable as error:
            rows[place] = rows[place]._replace(error=str(error))
            continue
        if images and (len(images) == IMAGES or size + len(data) > BYTES):
            _send(service, job, rows, places, images)
            places, images, size = [], [], 0
        places.append(place)
        images.append(data)
        size += len(data)
    if images:
        _send(service, job, rows, places, images)
    return rows


def _send(
    service: Service, job: Job, rows: list[Row], places: list[int], images: list[bytes]
) -> None:
    """Fill in the rows of some images; fewer at a time if they are too much for one request."""
    query: dict[str, Any] = {"preprocess": job.preprocess, "top_k": 1}
    if job.table.probabilities:
        query["top_k"] = len(job.manifest.classes)
    try:
        record = service.classify(job.manifest.name, images, query)
    except Refused as refusal:
        if refusal.status not in (413, 504):
            raise WorkersFailed(str(refusal)) from refusal
        if len(images) == 1:
            rows[places[0]] = rows[places[0]]._replace(error=refusal.detail)
            return
        half = len(images) // 2
        _send(service, job, rows, places[:half], images[:half])
        _send(service, job, rows, places[half:], images[half:])
        return
    if record.get("version") != job.manifest.version:
        raise WorkersFailed(
            f"the service went over from version {job.manifest.version} to "
            f"{record.get('version')}; what is scored is kept: roll back to go on, or --restart"
        )
    for place, found in zip(places, record["predictions"], strict=True):
        rows[place] = _row(rows[place], found, probabilities=job.table.probabilities)


def _row(row: Row, found: dict[str, Any], *, probabilities: bool) -> Row:
    if "error" in found:
        return row._replace(error=found["error"]["detail"])
    each = None
    if probabilities:
        ranked = sorted(found["top"], key=lambda entry: entry["index"])
        each = [entry["probability"] for entry in ranked]
    return row._replace(
        label=found["label"],
        index=found["index"],
        confidence=found["confidence"],
        decision=found["decision"],
        probabilities=each,
    )


def _result(found: Done | Exception) -> Done:
    if isinstance(found, Exception):
        raise found
    return found


def _detail(content: bytes) -> str:
    """The service's own words, or the beginning of whatever a proxy said."""
    try:
        detail = json.loads(content)["detail"]
    except (ValueError, KeyError, TypeError):
        return content[:200].decode("utf-8", "replace")
    return str(detail)
