"""The Open Inference Protocol (V2): tensors in, tensors out, for the clients of Triton and KServe.

A task's name is accepted and the model's answered. Only the live version is served; its
name is a hexadecimal number, and is understood in decimal too.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable
from functools import partial

import numpy as np
import orjson

from artifacts.classify import Answer, answer
from artifacts.decision import decide
from artifacts.images import BadImage
from artifacts.manifest import Manifest
from artifacts.model import Outputs
from service import VERSION
from service.answers import Answers
from service.classifier import Classifier
from service.decoding import INLINE_PARSED
from service.http import JSON, NOTHING, Header, Problem, Request, Response
from service.live import Live
from service.runner import Pixels
from service.settings import Settings
from service.statistics import collect, numbered, statistics
from service.tensors import Inference, Signature
from service.wire import Malformed

LENGTH = b"inference-header-content-length"  # bytes of JSON at the head of a body
EXTENSIONS = (
    "binary_tensor_data",
    "classification",
    "model_configuration",
    "model_repository",
    "parameters",
    "statistics",
)
_BINARY: Header = (b"content-type", b"application/octet-stream")


class V2:
    """The handlers. `subject` is what stands after /v2/models/: NAME or NAME/versions/VERSION."""

    def __init__(
        self, classifier: Classifier, settings: Settings, ready: Callable[[], bool]
    ) -> None:
        self._ready = ready
        self._classifier = classifier
        self._models = classifier.models
        self._settings = settings
        self._signatures: dict[Live, Signature] = {}
        self._models.on_swap.append(self._forget)
        self._server = orjson.dumps(
            {
                "name": "vitrine",
                "version": VERSION,
                "extensions": EXTENSIONS,
            }
        )

    async def infer(self, request: Request, subject: str) -> Response:
        """One inference: JSON, or JSON with binary tensors behind it, or a bare tensor."""
        live = self._models.get(subject) or await self._live(subject)
        request.model = live.name
        signature = self._signatures.get(live) or self._signature(live)
        self._classifier.admit(live)
        body = await request.body()
        now = time.perf_counter()
        request.allow(self._settings.deadline_s)
        try:
            length = request.headers.get(LENGTH)
            if len(body) > INLINE_PARSED and (length is None or len(length) > 4):  # JSON, mostly
                read = partial(_read, signature, length, body)
                asked, rows, images = await self._classifier.decoder.beside(read)
            else:
                asked, rows, images = _read(signature, length, body)
            request.deadline = min(request.deadline, now + asked.timeout_s)
            if rows is None:
                answers = await self._classified(live, asked, images, request)
            else:
                ran = await self._classifier.ran(live, rows, request)
                live.meter.answered(ran.outputs)
                answers = self._answers(live, asked, rows, ran.outputs)
        except Malformed as error:
            raise Problem(400, str(error)) from error
        data, json_bytes = signature.writer.write(asked.id, asked.head, asked.outputs, answers)
        if json_bytes is None:
            return Response(200, data, [JSON])
        return Response(200, data, [_BINARY, (LENGTH, b"%d" % json_bytes)])

    async def server(self, request: Request) -> Response:
        """What this server is and can do."""
        return Response(200, self._server, [JSON])

    async def server_live(self, request: Request) -> Response:
        """The server hears."""
        return Response(200, b'{"live":true}', [JSON])

    async def server_ready(self, request: Request) -> Response:
        """Every task's model answers, and the server is not about to stop."""
        ready = self._ready()
        return Response(200 if ready else 503, b'{"ready":%s}' % _word(ready), [JSON])

    async def model_ready(self, request: Request, subject: str) -> Response:
        """This model answers; 404 or 503 where it does not."""
        live = await self._live(subject)
        return Response(200, orjson.dumps({"name": live.name, "ready": True}), [JSON])

    async def model(self, request: Request, subject: str) -> Response:
        """The model's inputs and outputs."""
        signature = self._signature(await self._live(subject))
        return Response(200, orjson.dumps(signature.metadata()), [JSON])

    async def config(self, request: Request, subject: str) -> Response:
        """The model's configuration, as the extension names it."""
        signature = self._signature(await self._live(subject))
        return Response(200, orjson.dumps(signature.config(self._settings.max_batch)), [JSON])

    async def stats(self, request: Request, subject: str | None = None) -> Response:
        """What all workers of this server did for a model, or for each, since it was started."""
        lives = self._models.live() if subject is None else [await self._live(subject)]
        counted = await asyncio.to_thread(collect)
        records = [statistics(counted, live.name, live.version) for live in lives]
        return Response(200, orjson.dumps({"model_stats": records}), [JSON])

    async def nothing(self, request: Request) -> Response:
        """Raises Problem 404, which is worded as the protocol wants it here."""
        raise Problem(404, NOTHING)

    async def _live(self, subject: str) -> Live:
        """Raises Problem 404 for what is no live version's name, 503 for one that does not load."""
        name, slash, rest = subject.partition("/")
        if not slash:
            return await self._classifier.live(name)
        word, _, version = rest.partition("/")
        if word != "versions" or not version or "/" in version:
            raise Problem(404, NOTHING)
        live = await self._classifier.live(name)
        if version not in (live.version, numbered(live.version)):
            raise Problem(
                404, f"only the live version of {live.name} is served, which is {live.version}"
            )
        return live

    def _signature(self, live: Live) -> Signature:
        signature = self._signatures.get(live)
        if signature is None:
            settings = self._settings
            signature = self._signatures[live] = Signature(
                live.manifest, max_rows=settings.max_queue, max_images=settings.max_images
            )
        return signature

    def _forget(self) -> None:
        """Keep the signatures of what is still live."""
        kept = set(self._models.live())
        self._signatures = {live: s for live, s in self._signatures.items() if live in kept}

    def _answers(self, live: Live, asked: Inference, rows: Pixels, outputs: Outputs) -> Answers:
        """The answers for rows of pixels, one each."""
        probabilities, energy = outputs.probabilities, outputs.energy
        if asked.head is not None:  # nothing but the numbers was asked for
            return Answers(probabilities, energy, (), (), _no_receipts)
        indices = probabilities.argmax(1).tolist()
        confidences = probabilities.max(1).tolist()
        energies = [None] * len(indices) if energy is None else energy.tolist()
        decisions = [
            decide(live.manifest, confidence, level)
            for confidence, level in zip(confidences, energies, strict=True)
        ]
        receipts = partial(self._receipts, live, rows, indices, confidences)
        return Answers(probabilities, energy, indices, decisions, receipts)

    async def _classified(
        self, live: Live, asked: Inference, images: list[bytes], request: Request
    ) -> Answers:
        """The answers for whole image files, one each. Raises Malformed naming the bad one."""
        placed = []
        decoder = self._classifier.decoder
        found = await decoder.each(live, images, asked.preprocess, request.deadline)
        for number, one in enumerate(found):
            if isinstance(one, BadImage):
                raise Malformed(f"image {number}: {one}") from one
            placed.append(one)
        rows = [row for each in placed for row in each.candidates]
        ran = await self._classifier.ran(live, np.stack(rows), request)
        said: list[Answer] = []
        begin = 0
        for each in placed:
            end = begin + len(each.candidates)
            what = answer(live.manifest, ran.outputs[begin:end], each)
            live.meter.predicted(what.index, what.confidence, what.decision)
            said.append(what)
            begin = end
        seen = [each.candidates[s.candidate] for each, s in zip(placed, said, strict=True)]
        return self._columns(live, seen, said)

    def _columns(self, live: Live, seen: list[Pixels], said: list[Answer]) -> Answers:
        indices = [one.index for one in said]
        energies = [one.energy for one in said]
        return Answers(
            np.stack([one.probabilities for one in said]),
            np.array(energies, np.float32) if _has_energy(live.manifest) else None,
            indices,
            [one.decision for one in said],
            partial(self._receipts, live, seen, indices, [one.confidence for one in said]),
        )

    def _receipts(
        self, live: Live, seen: Iterable[Pixels], indices: list[int], confidences: list[float]
    ) -> list[str]:
        """A receipt for each image; only whoever asks for one can send a label."""
        now, sign = time.time(), self._classifier.signer.sign
        receipts = [
            sign(live.version, index, confidence, now)
            for index, confidence in zip(indices, confidences, strict=True)
        ]
        capture = self._classifier.capture
        if capture is not None:
            for receipt, pixels in zip(receipts, seen, strict=True):
                capture.offer(receipt, pixels)
        return receipts


def _read(
    signature: Signature, length: bytes | None, body: bytes
) -> tuple[Inference, Pixels | None, list[bytes]]:
    """The request with its pixels, or else its image files. Raises Malformed."""
    if length is None:
        start = len(body)
        asked = signature.read(body, tail=None)
    elif not length.isdigit() or len(length) > 12 or (start := int(length)) > len(body):
        raise Malformed(
            "Inference-Header-Content-Length is not a number of bytes within the body "
            f"({len(body)} bytes, any content encoding undone)"
        )
    elif start:
        asked = signature.read(body[:start], tail=len(body) - start)
    else:
        asked = signature.read_raw(len(body))
    if asked.encoded:
        return asked, None, signature.images(asked, body, start)
    return asked, signature.pixels(asked, body, start), []


def _no_receipts() -> list[str]:
    raise AssertionError("a receipt was not asked for")


def _has_energy(manifest: Manifest) -> bool:
    return "energy" in manifest.outputs


def _word(truth: bool) -> bytes:
    return b"true" if truth else b"false"
