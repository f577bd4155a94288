"""The model repository extension: what there is to serve, load and unload while serving.

Loading and unloading write the catalog, which every worker follows on its own; the answer comes
once all of this host's workers do.
"""

from __future__ import annotations

import asyncio
import logging
import time
from typing import Any

import orjson

from artifacts.manifest import BadArtifact
from artifacts.store import Live, NotFound, ReadOnly, Store
from service.http import JSON, Problem, Request, Response, retry_after
from service.models import Models
from service.records import BadRecord, parse_json

log = logging.getLogger("vitrine.repository")

CONFIRM_S = 30.0  # for the workers to load, verify and warm a version


class Repository:
    """`index`, `load` and `unload`; who may is decided before."""

    def __init__(self, models: Models, store: Store, confirm_s: float = CONFIRM_S) -> None:
        self._models = models
        self._store = store
        self._confirm_s = confirm_s

    async def index(self, request: Request) -> Response:
        """Every published model and whether it answers; with {"ready": true} those that do."""
        only_ready = _object(await request.body()).get("ready", False)
        if type(only_ready) is not bool:
            raise Problem(400, "ready is not true or false")
        names = await asyncio.to_thread(self._store.models)
        records = [self._record(name) for name in sorted({*names, *self._models.catalog.live})]
        if only_ready:
            records = [record for record in records if record["state"] == "READY"]
        return Response(200, orjson.dumps(records), [JSON])

    async def load(self, request: Request, name: str) -> Response:
        """Make a model answer: the version of parameter `version`, else its live or latest one."""
        parameters = _parameters(await request.body(), {"version"})
        version = parameters.get("version")
        if version is not None and type(version) is not str:
            raise Problem(400, "parameter version is not a string")
        model = self._models.catalog.tasks.get(name, name)
        live = await self._written(self._activate, model, version)
        await self._confirmed(model, live.version)
        return Response(200, b"", [])

    async def unload(self, request: Request, name: str) -> Response:
        """Let a model answer no more; it stays published."""
        _parameters(await request.body(), {"unload_dependents"})
        model = self._models.catalog.tasks.get(name, name)
        await self._written(self._store.deactivate, model)
        await self._confirmed(model, None)
        return Response(200, b"", [])

    def _activate(self, model: str, version: str | None) -> Live:
        if version is None:
            entry = self._store.catalog().live.get(model, Live(None))
            version = entry.version or entry.previous or self._store.versions(model)[-1]
        return self._store.activate(model, version)

    async def _written(self, write: Any, *arguments: Any) -> Live:
        """The catalog's new entry. Raises Problem 404 or 503."""
        try:
            live: Live = await asyncio.to_thread(write, *arguments)
        except NotFound as error:
            raise Problem(404, str(error)) from error
        except (ReadOnly, BadArtifact) as error:
            log.error("the catalog cannot be written: %s", error)  # with its path: not for clients
            raise Problem(
                503, "the catalog cannot be written; see the server's log", reason="catalog"
            ) from error
        return live

    async def _confirmed(self, model: str, version: str | None) -> None:
        """Wait for every worker; raises Problem 503 with how many do not follow, and why."""
        end = time.monotonic() + self._confirm_s
        while True:
            behind, workers = await self._models.lagging(model, version, wait_s=0.5)
            if not behind:
                return
            why = self._models.failures.get(model) if version is not None else None
            if why or time.monotonic() > end:
                break
        detail = f"{behind} of {workers} workers have not followed"
        raise Problem(503, f"{detail}: {why}" if why else detail, [retry_after(5.0)])

    def _record(self, model: str) -> dict[str, Any]:
        entry = self._models.catalog.live.get(model, Live(None))
        served = self._models.get(model)
        version = served.version if served is not None else entry.version
        record: dict[str, Any] = {"name": model, "version": version or entry.previous or ""}
        failure = self._models.failures.get(model)
        if entry.version is None:
            return record | {"state": "UNAVAILABLE", "reason": "unloaded"}
        if served is None and failure:
            return record | {"state": "UNAVAILABLE", "reason": failure}
        # What is not in memory yet is loaded by the first request for it.
        return record | {"state": "READY", "reason": failure or ""}


def _object(body: bytes) -> dict[str, Any]:
    """The JSON object of a body, which may be empty."""
    if not body:
        return {}
    try:
        record = parse_json(body)
    except BadRecord as error:
        raise Problem(400, f"the body {error}") from error
    if type(record) is not dict:
        raise Problem(400, "the body is not a JSON object")
    return record


def _parameters(body: bytes, known: set[str]) -> dict[str, Any]:
    """Raises Problem 400 for a parameter that asks for what is not offered."""
    parameters = _object(body).get("parameters")
    if parameters is None:
        return {}
    if type(parameters) is not dict:
        raise Problem(400, "parameters is not an object")
    if unknown := sorted(parameters.keys() - known):
        raise Problem(
            400,
            f"parameter {unknown[0][:40]!r} is not offered; a published version is served as it "
            f"is (known: {', '.join(sorted(known))})",
        )
    return parameters
