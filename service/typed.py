"""BentoML's typed endpoint, for bentoml.SyncHTTPClient and its kin: files in, labels out.

BentoML's own reading of a form would write every file to disk, fetch the URLs that a client names,
and call a broken image a fault of the server; so the form is read here, as everywhere else.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import orjson

from service.classifier import Classifier, Failed, Query
from service.forms import parse_multipart
from service.http import JSON, Problem, Request, Response
from service.records import BadRecord, parse_json
from service.settings import Settings

ANSWER = "vitrine.answer"  # where the endpoint finds, in the ASGI scope, what answers it
FIELDS = ("images", "model", "top_k", "preprocess")


class Typed:
    """`POST /classify`, a form: `images` (files), `model`, `top_k`, `preprocess`."""

    def __init__(self, classifier: Classifier, settings: Settings) -> None:
        self._classifier = classifier
        self._settings = settings

    async def classify(self, request: Request) -> Response:
        """The same answer as `POST /v1/classify/{model}` with the files. Raises Problem."""
        kind = request.headers.get(b"content-type", b"")
        if not kind.lower().startswith(b"multipart/form-data"):
            raise Problem(
                415,
                "expected multipart/form-data with the images as files; URLs are not fetched",
            )
        body = await request.body()
        request.allow(self._settings.deadline_s)
        images, values = await self._classifier.decoder.parsed(partial(self._form, kind), body)
        name = values.get("model")
        if not isinstance(name, str):
            raise Problem(422, "model is missing or no string, expected a model's or task's name")
        query = _query(values)
        live = await self._classifier.live(name)
        request.model = live.name
        found = await self._classifier.classify_each(live, images, query, request)
        failures = [entry.status for entry in found if isinstance(entry, Failed)]
        # The client's fault unless it is all ours.
        status = min(failures) if len(failures) == len(found) else 200
        entries = [e.record() if isinstance(e, Failed) else e for e in found]
        record = {"model": live.name, "version": live.version, "predictions": entries}
        return Response(status, orjson.dumps(record), [JSON])

    def _form(self, kind: bytes, body: bytes) -> tuple[list[bytes], dict[str, Any]]:
        """The files of `images`, and the values of the other fields, which come as JSON."""
        limit = self._settings.max_images
        images: list[bytes] = []
        values: dict[str, Any] = {}
        for part in parse_multipart(kind, body, limit + len(FIELDS)):
            name = part.name.decode("latin-1")
            if name not in FIELDS:
                raise Problem(422, f"unknown field {name[:40]!r}; known: {', '.join(FIELDS)}")
            if name == "images":
                if part.filename is None:
                    raise Problem(422, "images holds text, expected files; URLs are not fetched")
                images.append(part.data)
                continue
            try:
                values[name] = parse_json(part.data)
            except BadRecord:
                values[name] = part.data.decode("utf-8", "replace")  # curl -F model=digits
        if not 1 <= len(images) <= limit:
            status = 413 if images else 422
            raise Problem(status, f"{len(images)} images in the form, expected 1 to {limit}")
        return images, values


def _query(values: dict[str, Any]) -> Query:
    top_k, preprocess = values.get("top_k", 3), values.get("preprocess", "auto")
    if type(top_k) is not int or not 1 <= top_k <= 1000:
        raise Problem(422, "top_k is not a whole number from 1 to 1000")
    if preprocess not in ("auto", "raw"):
        raise Problem(422, "preprocess is not auto or raw")
    return Query(top_k=top_k, preprocess=preprocess)
