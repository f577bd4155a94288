"""Bytes of images -> predictions, for every surface that takes images."""

from __future__ import annotations

import asyncio
import base64
import io
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any, NamedTuple
from urllib.parse import parse_qsl

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from artifacts.canonical import Placed
from artifacts.classify import Preprocess, answer, prepare
from artifacts.decision import conformal_set
from artifacts.images import BadImage, Limits
from artifacts.store import NotFound
from service.batcher import Late, Ran, Refused, RowFailed, TooManyRows
from service.capture import Capture
from service.http import Problem, retry_after
from service.models import Live, Models, NotReady
from service.receipts import Signer
from service.settings import Settings

# A small PNG decodes in less time than it takes to hand it to a thread. Its header tells its size.
INLINE_BYTES = 16 * 1024
INLINE_PIXELS = 256 * 256
_PNG = b"\x89PNG\r\n\x1a\n"


@dataclass(frozen=True)
class Query:
    """What the query string asks for."""

    top_k: int = 3
    preprocess: Preprocess = "auto"
    level: float | None = None  # of the conformal set; None for no set
    seen: bool = False  # add the pixels the model looked at, as a PNG in a data: URL
    timing: bool = False  # add a Server-Timing header

    @classmethod
    @lru_cache(maxsize=256)
    def parse(cls, text: bytes) -> Query:
        """Raises Problem 400 naming the parameter, what was found and what was expected."""
        if not text:
            return _NO_QUERY
        values: dict[str, Any] = {}
        for name, value in parse_qsl(text.decode("latin-1"), keep_blank_values=True):
            if name == "top_k":
                if not (
                    value.isascii()
                    and value.isdigit()
                    and len(value) < 5
                    and 1 <= int(value) <= 1000
                ):
                    raise _bad_parameter(name, value, "a whole number from 1 to 1000")
                values["top_k"] = int(value)
            elif name == "preprocess":
                if value not in ("auto", "raw"):
                    raise _bad_parameter(name, value, "auto or raw")
                values["preprocess"] = value
            elif name == "set":
                if value not in _LEVELS:
                    raise _bad_parameter(name, value, "0.90, 0.95 or 0.99")
                values["level"] = _LEVELS[value]
            elif name in ("seen", "timing"):
                if value not in ("0", "1"):
                    raise _bad_parameter(name, value, "0 or 1")
                values[name] = value == "1"
            else:
                raise Problem(
                    400,
                    f"unknown query parameter {name[:40]!r}; known: top_k, preprocess, set, "
                    "seen, timing",
                )
        return cls(**values)


_NO_QUERY = Query()
_LEVELS = {"0.9": 0.9, "0.90": 0.9, "0.95": 0.95, "0.99": 0.99}


class Failed(NamedTuple):
    """Why one image of a request has no answer."""

    status: int
    detail: str

    def record(self) -> dict[str, Any]:
        """What stands in the image's place."""
        return {"error": Problem(self.status, self.detail).record()}


class Classifier:
    """Decodes, submits and words the answer.

    Decoding runs inline when it is short, else on one of two threads, so that a photo never holds
    up the other requests and few of them are in memory at once.
    """

    def __init__(self, models: Models, settings: Settings, signer: Signer) -> None:
        self.models = models
        self.settings = settings
        self.signer = signer
        self.capture: Capture | None = None
        self._limits = Limits(max_pixels=settings.max_pixels)
        self._threads = ThreadPoolExecutor(2, "decode")
        self._decoding = asyncio.Semaphore(2)

    def close(self) -> None:
        """End the threads."""
        self._threads.shutdown(cancel_futures=True)

    async def live(self, name: str) -> Live:
        """The model of a name, loaded if need be. Raises Problem 404 or 503."""
        live = self.models.get(name)
        if live is not None:
            live.used = time.monotonic()
            return live
        try:
            return await self.models.obtain(name)
        except NotFound as error:
            raise Problem(404, str(error)) from error
        except NotReady as error:
            raise Problem(503, str(error), [retry_after(1.0)], reason="not_ready") from error

    async def decoded(
        self, live: Live, data: bytes, preprocess: Preprocess, deadline: float
    ) -> Placed:
        """The rows for one image. Raises BadImage, Problem 504."""
        began = time.perf_counter()
        if _is_small(data):
            placed = prepare(data, live.manifest, preprocess, self._limits)
        else:
            task = partial(prepare, data, live.manifest, preprocess, self._limits)
            async with self._decoding:
                if time.perf_counter() > deadline:
                    raise _late()
                placed = await asyncio.get_running_loop().run_in_executor(self._threads, task)
        live.meter.decode.observe(time.perf_counter() - began)
        return placed

    def admit(self, live: Live) -> None:
        """Raises Problem 429 when one more request would be refused whatever it holds."""
        try:
            live.batcher.admit()
        except Refused as refusal:
            raise _refused(refusal) from refusal

    async def ran(self, live: Live, rows: NDArray[np.uint8], deadline: float) -> Ran:
        """The model's outputs for the rows. Raises Problem 429, 500 or 504."""
        try:
            return await live.batcher.submit(rows, deadline)
        except TooManyRows as refusal:
            raise Problem(413, refusal.reason, reason="too_large") from refusal
        except Refused as refusal:
            raise _refused(refusal) from refusal
        except Late:
            raise _late() from None
        except RowFailed as failure:
            raise Problem(500, str(failure), reason="model") from failure

    async def classify(
        self, live: Live, data: bytes, query: Query, deadline: float
    ) -> dict[str, Any]:
        """One image's entry in `predictions`. Raises BadImage, Problem."""
        began = time.perf_counter()
        placed = await self.decoded(live, data, query.preprocess, deadline)
        decoded_s = time.perf_counter() - began
        candidates = placed.candidates
        rows = candidates[0][None] if len(candidates) == 1 else np.stack(candidates)
        ran = await self.ran(live, rows, deadline)
        entry = self._entry(live, placed, ran, query)
        if query.timing:  # taken out again by whoever writes the header
            entry["timing"] = (decoded_s, ran.queued_s, ran.ran_s)
        return entry

    async def classify_each(
        self, live: Live, images: list[bytes], query: Query, deadline: float
    ) -> list[dict[str, Any] | Failed]:
        """Entries for many images, in order; a bad one fails alone. Raises Problem for them all."""

        async def one(data: bytes) -> dict[str, Any] | Failed:
            try:
                return await self.classify(live, data, query, deadline)
            except BadImage as error:
                return Failed(422, str(error))
            except Problem as problem:
                if problem.reason != "model":
                    raise
                return Failed(500, problem.detail)

        tasks = [asyncio.ensure_future(one(data)) for data in images]
        try:
            return list(await asyncio.gather(*tasks))
        finally:  # the first Problem ends the request: take the other rows out of the queue
            for task in tasks:
                task.cancel()

    def _entry(self, live: Live, placed: Placed, ran: Ran, query: Query) -> dict[str, Any]:
        manifest = live.manifest
        said = answer(manifest, ran.outputs, placed)
        live.meter.predicted(said.index, said.confidence, said.decision)
        labels = manifest.labels["en"]
        probabilities = said.probabilities.tolist()
        order = sorted(range(len(probabilities)), key=probabilities.__getitem__, reverse=True)
        receipt = self.signer.sign(live.version, said.index, said.confidence, time.time())
        if self.capture is not None:
            self.capture.offer(receipt, placed.candidates[said.candidate])
        entry = {
            "id": receipt,
            "label": labels[said.index],
            "index": said.index,
            "confidence": said.confidence,
            "top": [
                {"label": labels[i], "index": i, "probability": probabilities[i]}
                for i in order[: query.top_k]
            ],
            "decision": said.decision,
            "preprocessing": placed.report,
        }
        if query.level is not None:
            inside = conformal_set(manifest, said.probabilities, query.level)
            entry["set"] = [labels[i] for i in inside]
        if query.seen:
            entry["seen"] = _as_url(placed.candidates[said.candidate])
        return entry


def _as_url(pixels: NDArray[np.uint8]) -> str:
    """uint8[H, W] or uint8[H, W, 3] as a PNG in a data: URL."""
    packed = io.BytesIO()
    Image.fromarray(pixels).save(packed, "PNG")
    return "data:image/png;base64," + base64.b64encode(packed.getvalue()).decode()


def _is_small(data: bytes) -> bool:
    """A PNG that decodes at once: its header, at a fixed place, says how many pixels it has."""
    if len(data) > INLINE_BYTES or data[:8] != _PNG:
        return False
    width, height = int.from_bytes(data[16:20]), int.from_bytes(data[20:24])
    return width * height <= INLINE_PIXELS


def _bad_parameter(name: str, found: str, expected: str) -> Problem:
    return Problem(400, f"query parameter {name} is {found[:40]!r}, expected {expected}")


def _late() -> Problem:
    return Problem(504, "the deadline passed before the answer was there", reason="deadline")


def _refused(refusal: Refused) -> Problem:
    return Problem(
        429,
        f"refused: {refusal.reason}",
        [retry_after(refusal.retry_after_s)],
        reason="queue",
    )
