"""True labels over HTTP: `POST /v1/feedback`, and what they add up to, `GET .../accuracy`."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any, NamedTuple
from urllib.parse import parse_qsl

import orjson

from artifacts import manifest as contract
from artifacts.manifest import BadArtifact, Manifest
from artifacts.store import NotFound, Store
from service.accuracy import summarise
from service.clerk import Clerk
from service.http import JSON, Problem, Request, Response, retry_after
from service.ledger import SOURCES, Label, Total, Unavailable
from service.models import Models
from service.receipts import Expired, Forged, Receipt, Signer
from service.records import BadRecord, parse_json

MAX_LABELS = 1000  # in one request
RETRY_S = 5.0
WINDOWS_S = {"hour": 3600.0, "day": 86400.0, "all": None}
_FIELDS = frozenset({"id", "label", "source"})


class Accepted(NamedTuple):
    """A well-formed label, ready for the ledger, and the manifest its classes are named in."""

    label: Label
    manifest: Manifest

    def record(self) -> dict[str, Any]:
        """The answer, the same whenever the same label is sent."""
        label, classes = self.label, self.manifest.classes
        return {
            "id": label.receipt,
            "model": label.model,
            "version": label.version,
            "label": classes[label.true_class],
            "predicted": classes[label.predicted_class],
            "correct": label.true_class == label.predicted_class,
            "source": label.source,
        }


class Versions:
    """The manifest of any version that is still kept, live or not."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._found: dict[str, Manifest] = {}

    def get(self, version: str) -> Manifest | None:
        """None when no folder of that version can be read; then it is looked for each time."""
        found = self._found.get(version)
        if found is None:
            for model in self._store.models():
                try:
                    found = contract.read(self._store.folder(model, version))
                except (NotFound, BadArtifact):
                    continue
                self._found[version] = found
                break
        return found


class Feedback:
    """The handlers; `clerk` writes for them."""

    def __init__(self, models: Models, versions: Versions, signer: Signer, clerk: Clerk) -> None:
        self._models = models
        self._versions = versions
        self._signer = signer
        self._clerk = clerk

    async def post(self, request: Request) -> Response:
        """One label or a list of them; answered when they are committed.

        In a list a bad one has its error in its place and the others are recorded; the status is
        200 if any was.
        """
        body = await request.body()
        try:
            given = parse_json(body, 4 * MAX_LABELS)
        except BadRecord as error:
            raise Problem(400, f"the body {error}") from error
        if not isinstance(given, list):
            (entry,) = await self._record([given])
            if isinstance(entry, Problem):
                raise entry
            if self._models.known(entry.label.model) is not None:
                request.model = entry.label.model
            return Response(200, orjson.dumps(entry.record()), [JSON])
        if not 1 <= len(given) <= MAX_LABELS:
            status = 413 if given else 422
            raise Problem(status, f"{len(given)} labels, expected 1 to {MAX_LABELS} in one request")
        entries = await self._record(given)
        failures = {entry.status for entry in entries if isinstance(entry, Problem)}
        if any(isinstance(entry, Accepted) for entry in entries):
            status = 200
        else:
            status = failures.pop() if len(failures) == 1 else 422
        results = [
            {"error": entry.record()} if isinstance(entry, Problem) else entry.record()
            for entry in entries
        ]
        return Response(status, orjson.dumps({"results": results}), [JSON])

    async def accuracy(self, request: Request, name: str) -> Response:
        """What the labels of a model say of its live version, or of the one asked for."""
        model = self._models.known(name)
        if model is None:
            raise Problem(404, "there is no live model or task of that name")
        manifest = self._version(model, request.scope["query_string"])
        now = time.time()

        def query() -> dict[str, list[Total]]:
            return {
                window: self._clerk.ledger.counts(
                    model, manifest.version, None if seconds is None else now - seconds
                )
                for window, seconds in WINDOWS_S.items()
            }

        try:
            counts = await self._clerk.read(query)
        except Unavailable as error:
            raise _unavailable() from error
        request.model = model
        record = {
            "model": model,
            "version": manifest.version,
            "offline": {key: manifest.test.get(key) for key in ("count", "accuracy", "interval")},
            "sources": {
                source: {
                    window: summarise(
                        (total for total in found if total.source == source), manifest.classes
                    )
                    for window, found in counts.items()
                }
                for source in SOURCES
            },
        }
        return Response(200, orjson.dumps(record), [JSON])

    async def _record(self, given: Sequence[object]) -> list[Accepted | Problem]:
        now = time.time()
        entries: list[Accepted | Problem] = []
        for entry in given:
            try:
                entries.append(self._accept(entry, now))
            except Problem as problem:
                entries.append(problem)
        accepted = [entry for entry in entries if isinstance(entry, Accepted)]
        if not accepted:
            return entries
        try:
            outcomes = await self._clerk.record([entry.label for entry in accepted])
        except Unavailable as error:
            raise _unavailable() from error
        contradicted = {
            id(entry)
            for entry, outcome in zip(accepted, outcomes, strict=True)
            if outcome == "contradicted"
        }
        return [
            Problem(409, "another label was given for this prediction before, and stands")
            if id(entry) in contradicted
            else entry
            for entry in entries
        ]

    def _accept(self, entry: object, now: float) -> Accepted:
        """Raises Problem 400, 410 or 422."""
        if not isinstance(entry, dict):
            raise Problem(400, 'a label is not an object, expected {"id": "...", "label": "..."}')
        if unknown := sorted(entry.keys() - _FIELDS):
            raise Problem(
                400, f"unknown field {unknown[0][:40]!r}; known: {', '.join(sorted(_FIELDS))}"
            )
        receipt = self._receipt(entry.get("id"), now)
        manifest = self._versions.get(receipt.version)
        if manifest is None or receipt.index >= len(manifest.classes):
            raise Problem(410, "the version that made this prediction is no longer kept here")
        source = entry.get("source", "user")
        if source not in SOURCES:
            raise Problem(422, f"source is not one of {', '.join(SOURCES)}")
        return Accepted(
            Label(
                receipt=receipt.id,
                source=source,
                model=manifest.name,
                version=receipt.version,
                true_class=_class(entry.get("label"), manifest),
                predicted_class=receipt.index,
                confidence=receipt.confidence,
                predicted_at=receipt.issued,
            ),
            manifest,
        )

    def _receipt(self, token: object, now: float) -> Receipt:
        if not isinstance(token, str):
            raise Problem(400, "id is missing or no text, expected the id of a prediction")
        try:
            return self._signer.verify(token, now)
        except Forged as error:
            raise Problem(400, f"id is {error}") from error
        except Expired as error:
            raise Problem(410, str(error)) from error

    def _version(self, model: str, query: bytes) -> Manifest:
        """The manifest of `?version=`, else of the live version. Raises Problem 400 or 404."""
        version = self._models.catalog.live[model].version
        for name, value in parse_qsl(query.decode("latin-1"), keep_blank_values=True):
            if name != "version":
                raise Problem(400, f"unknown query parameter {name[:40]!r}; known: version")
            version = value
        assert version is not None
        manifest = self._versions.get(version)
        if manifest is None or manifest.name != model:
            raise Problem(404, f"model {model} has no such version")
        return manifest


def _class(label: object, manifest: Manifest) -> int:
    """The class that a label names, in any of the manifest's languages. Raises Problem 422."""
    for names in manifest.labels.values():
        if label in names:
            return names.index(str(label))
    raise Problem(422, f"label is none of {', '.join(manifest.classes)[:500]}")


def _unavailable() -> Problem:
    return Problem(
        503,
        "labels cannot be recorded or read at the moment; predictions go on",
        [retry_after(RETRY_S)],
        reason="ledger",
    )
