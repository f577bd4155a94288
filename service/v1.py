"""Our own HTTP surface: images in, labels out."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from typing import Any

import orjson

from artifacts.images import BadImage
from artifacts.manifest import Manifest
from service.classifier import Classifier, Failed, Query
from service.forms import Part, parse_multipart
from service.http import JSON, Header, Problem, Request, Response
from service.records import BadRecord, parse_json
from service.settings import Settings

_JSON_TYPES = ("application/json",)
_IMAGE_TYPES = ("image/", "application/octet-stream")


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
        kind = (
            request.headers.get(b"content-type", b"")
            .partition(b";")[0]
            .strip()
            .lower()
            .decode("latin-1")
        )
        form = self._form(kind)
        self._classifier.admit(live)
        body = await request.body()
        request.allow(self._settings.deadline_s)
        if form is None:
            if not body:
                raise Problem(422, "the body is empty, expected the bytes of an image")
            try:
                entries: list[Any] = [await self._classifier.classify(live, body, query, request)]
            except BadImage as error:
                raise Problem(422, str(error)) from error
            status = 200
        else:
            images = await self._classifier.decoder.parsed(partial(form, request), body)
            self._check_count(len(images))
            found = await self._classifier.classify_each(live, images, query, request)
            status = 200
            if all(isinstance(entry, Failed) for entry in found):
                # The client's fault unless it is all ours.
                status = min(entry.status for entry in found if isinstance(entry, Failed))
            entries = [e.record() if isinstance(e, Failed) else e for e in found]
        record = {"model": live.name, "version": live.version, "predictions": entries}
        headers = [JSON, _server_timing(entries)] if query.timing else [JSON]
        return Response(status, orjson.dumps(record), headers)

    async def models(self, request: Request) -> Response:
        """Every model that is published: what answers, what waits, what failed."""
        catalog = self._models.catalog
        records = []
        for model, entry in sorted(catalog.live.items()):
            live, manifest = self._models.get(model), self._models.manifest(model)
            records.append(
                {
                    "name": model,
                    "version": entry.version if live is None else live.version,
                    "previous": entry.previous,
                    "tasks": sorted(t for t, m in catalog.tasks.items() if m == model),
                    "loaded": live is not None,
                    "execution_provider": None if live is None else live.provider,
                    "failure": self._models.failures.get(model),
                    **({} if manifest is None else _headline(manifest)),
                }
            )
        body = {
            "models": records,
            "execution_provider_asked": self._settings.execution_provider,
            "execution_provider_problem": self._models.provider_problem or None,
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
            record = parse_json(body, self._settings.max_images)
        except BadRecord as error:
            raise Problem(400, f"the body {error}") from error
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


def _server_timing(entries: list[dict[str, Any]]) -> Header:
    """The slowest image's stages, in milliseconds, taken out of the entries."""
    stages = [entry.pop("timing") for entry in entries if "timing" in entry]
    slowest = max(stages, key=sum, default=(0.0, 0.0, 0.0))
    named = zip(("decode", "queue", "infer"), slowest, strict=True)
    text = ", ".join(f"{name};dur={1000 * seconds:.3f}" for name, seconds in named)
    return b"server-timing", text.encode()
