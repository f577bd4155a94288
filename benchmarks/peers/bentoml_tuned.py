"""Tuned BentoML: a raw ASGI application with a batcher of its own, mounted inside BentoML.

This is what an expert gets without leaving BentoML's middleware: access log off, uvloop and
httptools installed, no typed parameters, orjson, batches formed from whatever has arrived.
"""

from __future__ import annotations

import asyncio
import io
import os
from typing import Any

import bentoml
import numpy as np
import onnxruntime
import orjson
from PIL import Image

MAX_BATCH = 64


class Batcher:
    """Runs what arrived in one turn of the event loop as one batch."""

    def __init__(self) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(os.environ["BENCH_MODEL"], options)
        self.waiting: list[tuple[np.ndarray, asyncio.Future[np.ndarray]]] = []

    def submit(self, row: np.ndarray) -> asyncio.Future[np.ndarray]:
        loop = asyncio.get_running_loop()
        future: asyncio.Future[np.ndarray] = loop.create_future()
        self.waiting.append((row, future))
        if len(self.waiting) == 1:
            loop.call_soon(self.run)
        return future

    def run(self) -> None:
        batch, self.waiting = self.waiting[:MAX_BATCH], self.waiting[MAX_BATCH:]
        if self.waiting:
            asyncio.get_running_loop().call_soon(self.run)
        rows = np.stack([row for row, _ in batch])
        answers = self.session.run(["probabilities"], {"images": rows})[0]
        for (_, future), answer in zip(batch, answers, strict=True):
            if not future.done():
                future.set_result(answer)


BATCHER: list[Batcher] = []


async def classify(scope: dict[str, Any], receive: Any, send: Any) -> None:
    """PNG bytes in, probabilities out."""
    assert scope["type"] == "http"
    body, more = b"", True
    while more:
        message = await receive()
        body += message.get("body", b"")
        more = message.get("more_body", False)
    if not BATCHER:
        BATCHER.append(Batcher())
    image = Image.open(io.BytesIO(body))
    answer = await BATCHER[0].submit(np.asarray(image.convert("L"), dtype=np.uint8))
    data = orjson.dumps(answer, option=orjson.OPT_SERIALIZE_NUMPY)
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(data))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": data})


@bentoml.asgi_app(classify, path="/raw")
@bentoml.service(name="tuned", workers=1, logging={"access": {"enabled": False}})
class Tuned:
    """Nothing of its own: the mounted application answers."""
