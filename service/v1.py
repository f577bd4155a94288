"""Our own HTTP surface: images in, labels out."""

from __future__ import annotations

import asyncio
import base64
import binascii
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any, NamedTuple
from urllib.parse import parse_qsl

import numpy as np
import orjson
from numpy.typing import NDArray

from artifacts.canonical import Placed
from artifacts.classify import Preprocess, answer, prepare
from artifacts.decision import conformal_set
from artifacts.images import BadImage, Limits
from artifacts.manifest import Manifest
from artifacts.store import NotFound
from service.batcher import Late, Ran, Refused, RowFailed
from service.forms import Part, parse_multipart
from service.http import JSON, Problem, Request, Response, retry_after
from service.models import Live, Models, NotReady
from service.receipts import Signer
from service.settings import Settings

# A small PNG decodes in less time than it takes to hand it to a thread. Its header tells its size.
INLINE_BYTES = 16 * 1024
INLINE_PIXELS = 256 * 256
_PNG = b"\x89PNG\r\n\x1a\n"
_JSON_TYPES = ("application/json",)
_IMAGE_TYPES = ("image/", "application/octet-stream")


@dataclass(frozen=True)
class Query:
    """What the query string asks for."""

    top_k: int = 3
    preprocess: Preprocess = "auto"
    level: float | None = None  # of the conformal set; None for no set

    @classmethod
    def parse(cls, text: bytes) -> Query:
        """Raises Problem 400 naming the parameter, what was found and what was expected."""
        if not text:
            return _NO_QUERY
        values: dict[str, Any] = {}
        for name, value in parse_qsl(text.decode("latin-1"), keep_blank_values=True):
            if name == "top_k":
                if not (value.isascii() and value.isdigit() and 1 <= int(value[:6]) <= 1000):
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
            else:
                raise Problem(
                    400, f"unknown query parameter {name[:40]!r}; known: top_k, preprocess, set"
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
    """Bytes of images -> predictions, for every surface that takes images.

    Decoding runs inline when it is short, else on one of two threads, so that a photo never holds
    up the other requests and few of them are in memory at once.
    """

    def __init__(self, models: Models, settings: Settings, signer: Signer) -> None:
        self.models = models
        self.settings = settings
        self.signer = signer
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

    async def ran(self, live: Live, rows: NDArray[np.uint8], deadline: float) -> Ran:
        """The model's outputs for the rows. Raises Problem 429, 500 or 504."""
        try:
            return await live.batcher.submit(rows, deadline)
        except Refused as refusal:
            raise Problem(
                429,
                f"refused: {refusal.reason}",
                [retry_after(refusal.retry_after_s)],
                reason="queue",
            ) from refusal
        except Late:
            raise _late() from None
        except RowFailed as failure:
            raise Problem(500, str(failure), reason="model") from failure

    async def classify(
        self, live: Live, data: bytes, query: Query, deadline: float
    ) -> dict[str, Any]:
        """One image's entry in `predictions`. Raises BadImage, Problem."""
        placed = await self.decoded(live, data, query.preprocess, deadline)
        candidates = placed.candidates
        rows = candidates[0][None] if len(candidates) == 1 else np.stack(candidates)
        ran = await self.ran(live, rows, deadline)
        return self._entry(live, placed, ran, query)

    async def classify_each(
        self, live: Live, images: list[bytes], query: Query, deadline: float
    ) -> list[dict[str, Any] | Failed]:
        """Entries for many images, in order; a bad one fails alone. Raises Problem for them all."""

        async def one(data: bytes) -> dict[str, Any] | Failed:
            try:
                return await self.classify(live, data, query, deadline)
            except BadImage as error:
                return Failed(422, str(error))

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
        entry = {
            "id": self.signer.sign(live.version, said.index, said.confidence, time.time()),
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
        return entry


class V1:
    """`POST /v1/classify/{model}` and `GET /v1/models`."""

    def __init__(self, classifier: Classifier, settings: Settings) -> None:
        self._classifier = classifier
        self._models = classifier.models
        self._settings = settings

    async def classify(self, request: Request, name: str) -> Response:
        """Images in any of the three forms -> labels."""
        query = Query.parse(request.scope["query_string"])
        live = await self._classifier.live(name)
        request.model = live.name
        deadline = request.started + self._settings.deadline_s
        kind = (
            request.headers.get(b"content-type", b"")
            .partition(b";")[0]
            .strip()
            .lower()
            .decode("latin-1")
        )
        form = self._form(kind)
        body = await request.body()
        # The deadline is for our part: a client on a slow line has its own, for the body.
        deadline = max(deadline, time.perf_counter() + self._settings.deadline_s / 2)
        if form is None:
            if not body:
                raise Problem(422, "the body is empty, expected the bytes of an image")
            try:
                entries: list[Any] = [await self._classifier.classify(live, body, query, deadline)]
            except BadImage as error:
                raise Problem(422, str(error)) from error
            status = 200
        else:
            images = form(request, body)
            self._check_count(len(images))
            found = await self._classifier.classify_each(live, images, query, deadline)
            status = 422 if all(isinstance(entry, Failed) for entry in found) else 200
            entries = [e.record() if isinstance(e, Failed) else e for e in found]
        record = {"model": live.name, "version": live.version, "predictions": entries}
        return Response(status, orjson.dumps(record), [JSON])

    async def models(self, request: Request) -> Response:
        """Every model that is published: what answers, what waits, what failed."""
        catalog = self._models.catalog
        records = []
        for model, entry in sorted(catalog.live.items()):
            live = self._models.get(model)
            records.append(
                {
                    "name": model,
                    "version": entry.version if live is None else live.version,
                    "previous": entry.previous,
                    "tasks": sorted(t for t, m in catalog.tasks.items() if m == model),
                    "loaded": live is not None,
                    "execution_provider": None if live is None else live.provider,
                    "failure": self._models.failures.get(model),
                    **({} if live is None else _headline(live.manifest)),
                }
            )
        body = {
            "models": records,
            "execution_provider_asked": self._settings.execution_provider,
        }
        return Response(200, orjson.dumps(body), [JSON])

    async def model(self, request: Request, name: str) -> Response:
        """A live model's manifest, and what it runs on."""
        live = await self._classifier.live(name)
        record = {**asdict(live.manifest), "execution_provider": live.provider}
        return Response(200, orjson.dumps(record), [JSON])

    def _form(self, kind: str) -> Callable[[Request, bytes], list[bytes]] | None:
        """How images are taken from the body; None when the body is the image."""
        if kind.startswith(_IMAGE_TYPES) or not kind:
            return None
        if kind in _JSON_TYPES:
            return self._from_json
        if kind == "multipart/form-data":
            return self._from_multipart
        raise Problem(
            415,
            f"content-type is {kind[:60]!r}, expected image/*, application/octet-stream, "
            "multipart/form-data or application/json",
        )

    def _check_count(self, count: int) -> None:
        if not count:
            raise Problem(422, "there is no image in the request, expected at least one")
        if count > self._settings.max_images:
            raise Problem(
                413, f"{count} images in one request, at most {self._settings.max_images} may be"
            )

    def _from_multipart(self, request: Request, body: bytes) -> list[bytes]:
        parts: list[Part] = parse_multipart(
            request.headers.get(b"content-type", b""), body, self._settings.max_images
        )
        return [part.data for part in parts]

    def _from_json(self, request: Request, body: bytes) -> list[bytes]:
        try:
            record = orjson.loads(body)
        except orjson.JSONDecodeError as error:
            raise Problem(400, "the body is not JSON") from error
        texts = record.get("images") if isinstance(record, dict) else None
        if not isinstance(texts, list):
            raise Problem(400, 'expected {"images": ["<base64>", ...]}')
        self._check_count(len(texts))
        try:
            return [base64.b64decode(text, validate=True) for text in texts]
        except (binascii.Error, TypeError, ValueError) as error:
            raise Problem(400, "an element of images is not a string of base64") from error


def _headline(manifest: Manifest) -> dict[str, Any]:
    return {
        "labels": manifest.labels,
        "input": asdict(manifest.input),
        "accuracy": manifest.test.get("accuracy"),
        "parameters": manifest.parameters,
        "macs": manifest.macs,
    }


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
