"""Bytes of images -> predictions, for every surface that takes images."""

from __future__ import annotations

import asyncio
import base64
import io
import time
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple
from urllib.parse import parse_qsl

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from artifacts.canonical import Placed
from artifacts.classify import Preprocess, answer
from artifacts.decision import conformal_set
from artifacts.images import BadImage
from artifacts.store import NotFound
from service.batcher import Late, Ran, Refused, RowFailed, TooManyRows
from service.capture import Capture
from service.decoding import Decoder, late
from service.http import Disconnected, Problem, Request, retry_after
from service.live import Live
from service.models import Models, NotReady
from service.receipts import Signer
from service.settings import Settings


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
    """Has images decoded, submits their rows and words the answers."""

    def __init__(self, models: Models, settings: Settings, signer: Signer) -> None:
        self.models = models
        self.settings = settings
        self.signer = signer
        self.capture: Capture | None = None
        self.decoder = Decoder(settings)

    def close(self) -> None:
        """End the decoder's threads."""
        self.decoder.close()

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

    def admit(self, live: Live) -> None:
        """Raises Problem 429 when one more request would be refused whatever it holds."""
        try:
            live.batcher.admit()
        except Refused as refusal:
            raise _refused(refusal) from refusal

    async def ran(self, live: Live, rows: NDArray[np.uint8], request: Request) -> Ran:
        """The model's outputs for the rows. Raises Problem 429, 500 or 504, Disconnected."""
        try:
            request.waits_for = future = live.batcher.submit(rows, request.deadline)
            return await future
        except asyncio.CancelledError:
            if request.abandoned:
                raise Disconnected from None
            raise
        except TooManyRows as refusal:
            raise Problem(413, refusal.reason, reason="too_large") from refusal
        except Refused as refusal:
            raise _refused(refusal) from refusal
        except Late:
            raise late() from None
        except RowFailed as failure:
            raise Problem(500, str(failure), reason="model") from failure

    async def classify(
        self, live: Live, data: bytes, query: Query, request: Request
    ) -> dict[str, Any]:
        """One image's entry in `predictions`. Raises BadImage, Problem."""
        began = time.perf_counter()
        placed = await self.decoder.one(live, data, query.preprocess, request.deadline)
        decoded_s = time.perf_counter() - began
        candidates = placed.candidates
        rows = candidates[0][None] if len(candidates) == 1 else np.stack(candidates)
        ran = await self.ran(live, rows, request)
        entry = self._entry(live, placed, ran, query)
        if query.timing:  # taken out again by whoever writes the header
            entry["timing"] = (decoded_s, ran.queued_s, ran.ran_s)
        return entry

    async def classify_each(
        self, live: Live, images: list[bytes], query: Query, request: Request
    ) -> list[dict[str, Any] | Failed]:
        """Entries for many images, in order; a bad one fails alone. Raises Problem for them all."""
        began = time.perf_counter()
        found = await self.decoder.each(live, images, query.preprocess, request.deadline)
        decoded_s = time.perf_counter() - began
        good = [placed for placed in found if isinstance(placed, Placed)]
        runs = iter(await self.ran_each(live, good, request))
        entries: list[dict[str, Any] | Failed] = []
        for placed in found:
            if isinstance(placed, BadImage):
                entries.append(Failed(422, str(placed)))
                continue
            ran = next(runs)
            if isinstance(ran, Problem):
                entries.append(Failed(500, ran.detail))
                continue
            entry = self._entry(live, placed, ran, query)
            if query.timing:  # all of the request's, since its images went together
                entry["timing"] = (decoded_s, ran.queued_s, ran.ran_s)
            entries.append(entry)
        return entries

    async def ran_each(
        self, live: Live, images: list[Placed], request: Request
    ) -> list[Ran | Problem]:
        """The model's outputs for each image's rows; one on which it fails, fails alone.

        Raises Problem 413, 429 or 504 for them all.
        """
        if not images:
            return []
        rows = [row for placed in images for row in placed.candidates]
        try:
            ran = await self.ran(live, np.stack(rows), request)
        except Problem as problem:
            if problem.reason != "model":
                raise
            return [problem] if len(images) == 1 else await self._ran_alone(live, images, request)
        if len(images) == 1:
            return [ran]
        runs: list[Ran | Problem] = []
        begin = 0
        for placed in images:
            end = begin + len(placed.candidates)
            runs.append(Ran(ran.outputs[begin:end], ran.queued_s, ran.ran_s))
            begin = end
        return runs

    async def _ran_alone(
        self, live: Live, images: list[Placed], request: Request
    ) -> list[Ran | Problem]:
        """The rare way: every image for itself, because the model failed on some of them."""
        tasks = [asyncio.ensure_future(self.ran_each(live, [one], request)) for one in images]
        try:
            return [ran for (ran,) in await asyncio.gather(*tasks)]
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


def _bad_parameter(name: str, found: str, expected: str) -> Problem:
    return Problem(400, f"query parameter {name} is {found[:40]!r}, expected {expected}")


def _refused(refusal: Refused) -> Problem:
    return Problem(
        429,
        f"refused: {refusal.reason}",
        [retry_after(refusal.retry_after_s)],
        reason="queue",
    )
