"""Feedback under load: are labels lost or counted twice, and do predictions notice?

Two workers, SQLite. Predictions are sent at a fixed rate, in turns alone, beside 500 health checks
a second (what any 500 requests cost, with the client's own work on the same cores) and beside 500
labels a second; a request's latency counts from when it was due. p99 beside labels may be a tenth
above p99 beside health checks. Afterwards the ledger must hold every label that was answered 200,
once. Before that, a million receipts are verified and ten thousand tampered ones refused.
Exit status: 0 when all of it holds, 1 otherwise.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import contextlib
import json
import random
import statistics
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from benchmarks.drift import service
from benchmarks.images import load
from service.database import LEDGER_FILE
from service.ledger import Ledger
from service.receipts import Forged, Signer, load_keys

PREDICTIONS = 200  # a second
LABELS = 500  # a second
CONNECTIONS = 16  # for each kind
TURNS = 5  # of each kind
MOST = 1.10  # p99 beside labels over p99 beside health checks
KINDS = ("alone", "beside health checks", "beside labels")


def main(argv: Sequence[str] | None = None) -> int:
    """Run it; see the module's own words."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        epilog="example: python -m benchmarks.feedback --seconds 10",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--model", default="digits", help="a model's or a task's name")
    parser.add_argument("--seconds", type=float, default=10, help="length of a turn (%(default)s)")
    parser.add_argument("--receipts", type=int, default=1_000_000, help="receipts to verify")
    arguments = parser.parse_args(argv)
    receipts = _receipts(arguments.receipts)
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="vitrine-feedback-")))
        url = stack.enter_context(service(folder, None))
        load_ = asyncio.run(_measure(url, arguments.model, arguments.seconds))
        ledger = Ledger("sqlite:///" + str(folder / "state" / LEDGER_FILE))
        kept = sum(total.count for total in ledger.totals())
        ledger.close()
    print(f"labels answered 200: {load_.accepted}, in the ledger: {kept}, others: {load_.refused}")
    print("p99 of predictions, ms, by turn:")
    for kind, values in zip(KINDS, load_.p99_ms, strict=True):
        turns = " ".join(f"{value:7.2f}" for value in values)
        print(f"  {kind:<22}{turns}   median {statistics.median(values):.2f}")
    # Turn by turn, since what else a machine does changes more from minute to minute.
    ratios = [labels / checks for _, checks, labels in zip(*load_.p99_ms, strict=True)]
    moved = statistics.median(ratios)
    print(f"labels over health checks, median of the turns' ratios: {moved:.2f}")
    good = receipts and kept == load_.accepted and not load_.refused and moved <= MOST
    print("all of it holds" if good else "not all of it holds")
    return 0 if good else 1


def _receipts(count: int) -> bool:
    signer = Signer(load_keys("a secret of this benchmark", None))
    now = time.time()
    began = time.perf_counter()
    tokens = [signer.sign("3f2a9c0d11e2", 7, 0.998, now) for _ in range(count)]
    signed = time.perf_counter()
    for token in tokens:
        signer.verify(token, now)
    verified = time.perf_counter()
    refused = 0
    chance = random.Random(7)
    for token in tokens[:10_000]:
        raw = bytearray(base64.urlsafe_b64decode(token))
        raw[chance.randrange(len(raw))] ^= 1 << chance.randrange(8)
        try:
            signer.verify(base64.urlsafe_b64encode(raw).decode(), now)
        except Forged:
            refused += 1
    print(
        f"{count} receipts: {(signed - began) / count * 1e6:.2f} us to sign, "
        f"{(verified - signed) / count * 1e6:.2f} us to verify, {len(set(tokens))} different; "
        f"{refused} of {len(tokens[:10_000])} tampered ones refused"
    )
    return len(set(tokens)) == count and refused == len(tokens[:10_000])


@dataclass
class _Load:
    """What came of all turns."""

    p99_ms: tuple[list[float], ...] = field(default_factory=lambda: ([], [], []))  # as KINDS
    accepted: int = 0
    refused: int = 0


async def _measure(url: str, model: str, seconds: float) -> _Load:
    images = load(1000).files
    predictions = [
        _post(f"/v1/classify/{model}", "image/png", images[n % len(images)])
        for n in range(int(PREDICTIONS * seconds))
    ]
    checks = [b"GET /livez HTTP/1.1\r\nhost: x\r\n\r\n"] * int(LABELS * seconds)
    found = _Load()
    await _run(url, predictions, PREDICTIONS)  # nobody measures a cold server
    for _ in range(TURNS):
        labels = _labels(url, model, images, int(LABELS * seconds))
        for values, others in zip(found.p99_ms, ([], checks, labels), strict=True):
            (latencies, _), (_, statuses) = await asyncio.gather(
                _run(url, predictions, PREDICTIONS), _run(url, others, LABELS)
            )
            values.append(_p99(latencies))
        found.accepted += statuses.count(200)
        found.refused += len(statuses) - statuses.count(200)
    return found


def _labels(url: str, model: str, images: list[bytes], count: int) -> list[bytes]:
    """Requests that label predictions, all different."""
    texts = [base64.b64encode(image).decode() for image in images[:250]]
    bodies: list[bytes] = []
    with httpx.Client(base_url=url, timeout=60) as client:
        while len(bodies) < count:
            answer = client.post(f"/v1/classify/{model}", json={"images": texts})
            bodies += [
                json.dumps({"id": one["id"], "label": one["label"]}).encode()
                for one in answer.raise_for_status().json()["predictions"]
                if "id" in one
            ]
    return [_post("/v1/feedback", "application/json", body) for body in bodies[:count]]


async def _run(url: str, requests: list[bytes], rate: float) -> tuple[list[float], list[int]]:
    """Send each request when it is due; (milliseconds since then, status) of each."""
    host, _, port = url.removeprefix("http://").partition(":")
    latencies: list[float] = []
    statuses: list[int] = []
    numbers = iter(range(len(requests)))
    began = time.perf_counter()

    async def connection() -> None:
        reader, writer = await asyncio.open_connection(host, int(port))
        for number in numbers:
            due = began + number / rate
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            writer.write(requests[number])
            head = await reader.readuntil(b"\r\n\r\n")
            length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
            await reader.readexactly(length)
            latencies.append((time.perf_counter() - due) * 1000)
            statuses.append(int(head[9:12]))
        writer.close()
        await writer.wait_closed()

    await asyncio.gather(*(connection() for _ in range(CONNECTIONS)))
    return latencies, statuses


def _post(path: str, kind: str, body: bytes) -> bytes:
    head = f"POST {path} HTTP/1.1\r\nhost: x\r\ncontent-type: {kind}\r\ncontent-length: {len(body)}"
    return head.encode() + b"\r\n\r\n" + body


def _p99(latencies: list[float]) -> float:
    return statistics.quantiles(latencies, n=100)[98]


if __name__ == "__main__":
    raise SystemExit(main())
