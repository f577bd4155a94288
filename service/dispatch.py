"""The ASGI front of a worker: sends each path to its room, and refuses the rest.

It stands ahead of BentoML's middleware, which would cost 0.23 ms a request and remember every path
it ever saw. BentoML itself gets its lifespan, its schema and the typed endpoint.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from typing import Any

import orjson

from service import metrics
from service.http import (
    CLOSE,
    JSON,
    PROBLEM,
    REQUEST,
    Disconnected,
    Header,
    Message,
    Problem,
    Receive,
    Request,
    Response,
    Scope,
    Send,
    respond,
)
from service.process import Process
from service.routes import Route, Routes
from service.typed import ANSWER

log = logging.getLogger("vitrine.access")
errors = logging.getLogger("vitrine.dispatch")

App = Callable[[Scope, Receive, Send], Awaitable[None]]

# BentoML's own: its typed endpoint and the schema its client reads.
TYPED_PATH = "/classify"
SCHEMA_PATH = "/schema.json"


class Dispatch:
    """The application a worker serves."""

    def __init__(self, process: Process, bento: App) -> None:
        self._process = process
        self._bento = bento
        settings = process.settings
        self._requests = process.requests
        self._bodies = process.bodies
        self._tracing = process.tracing
        self._access_log = settings.access_log
        self._origins = {origin.encode("latin-1") for origin in settings.cors_origins}
        self._routes = Routes(
            process,
            {
                "/livez": Route("health", {"GET": self._alive}),
                "/readyz": Route("health", {"GET": self._ready}),
                "/healthz": Route("health", {"GET": self._ready}),
                "/metrics": Route("metrics", {"GET": self._metrics}),
            },
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        kind = scope["type"]
        if kind == "http":
            path = scope["path"]
            if path == TYPED_PATH:
                await self._typed(scope, receive, send)
            elif path == SCHEMA_PATH:
                await self._bento(scope, receive, send)
            else:
                await self._answer(scope, receive, send)
        elif kind == "lifespan":
            await self._bento(scope, self._with_start(receive), self._with_stop(send))
        else:  # a WebSocket: nothing here speaks it
            await receive()
            await send({"type": "websocket.close", "code": 1000})

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        started = time.perf_counter()
        requests, surface = self._requests, "other"
        requests.in_flight += 1
        scope[REQUEST] = request = Request(scope, receive, self._bodies, started)
        span = None if self._tracing is None else self._tracing.begin(request)
        status = 499  # as it stays when the client goes away first
        try:
            try:
                route, argument = self._routes.find(scope["path"])
                surface = route.surface
                method = scope["method"]
                handler = route.methods.get("GET" if method == "HEAD" else method)
                if handler is None:
                    response = self._other_method(method, route)
                else:
                    if route.guard is not None:
                        route.guard(request.headers)
                    if argument is None:
                        response = await handler(request)
                    else:
                        response = await handler(request, argument)
            except Problem as problem:
                response = self._problem(problem, surface, request.model)
            except Disconnected:
                return
            except Exception:
                errors.exception("request %s failed", request.id.decode())
                response = self._problem(
                    Problem(500, "the server failed on this request"), surface, request.model
                )
            headers = response.headers
            headers.append((b"x-request-id", request.id))
            if self._origins:
                self._allow_origin(request, headers)
            if self._process.draining:
                headers.append(CLOSE)
            body = b"" if scope["method"] == "HEAD" else response.body
            status = response.status
            await respond(send, status, body, headers)
            ended = time.perf_counter()
            requests.answered(surface, request.model, status, ended - started)
            if self._access_log:
                self._log(request, response, ended - started)
        finally:
            requests.in_flight -= 1
            self._bodies.release(request)
            del scope[REQUEST]
            if span is not None and self._tracing is not None:
                self._tracing.end(span, request, surface, status)

    async def _typed(self, scope: Scope, receive: Receive, send: Send) -> None:
        """BentoML's middleware and endpoint around a handler of ours."""
        started = time.perf_counter()
        scope[REQUEST] = request = Request(scope, receive, self._bodies, started)
        status = 500

        async def answer() -> Response:
            try:
                if self._process.keys.predictions is not None:
                    self._process.keys.predictions(request.headers)
                response = await self._process.typed.classify(request)
            except Problem as problem:
                response = self._problem(problem, "typed", request.model)
            except Disconnected:
                response = Response(400, b"", [])
            response.headers.append((b"x-request-id", request.id))
            return response

        async def watch(message: Message) -> None:
            nonlocal status
            status = message.get("status", status)
            await send(message)

        scope[ANSWER] = answer
        self._requests.in_flight += 1
        try:
            await self._bento(scope, receive, watch)
            self._requests.answered("typed", request.model, status, time.perf_counter() - started)
        finally:
            self._requests.in_flight -= 1
            self._bodies.release(request)
            del scope[REQUEST]

    def _other_method(self, method: str, route: Route) -> Response:
        allowed = sorted({*route.methods, "OPTIONS", *(["HEAD"] if "GET" in route.methods else [])})
        allow: Header = (b"allow", ", ".join(allowed).encode())
        if method == "OPTIONS":
            return Response(204, b"", [allow])
        raise Problem(405, f"this path takes {', '.join(route.methods)}", [allow])

    def _problem(self, problem: Problem, surface: str, model: str) -> Response:
        if problem.reason:
            self._requests.refused(model, problem.reason)
        if surface == "v2":
            body, kind = orjson.dumps({"error": problem.detail}), JSON
        else:
            body, kind = orjson.dumps(problem.record()), PROBLEM
        return Response(problem.status, body, [kind, *problem.headers])

    def _allow_origin(self, request: Request, headers: list[Header]) -> None:
        origin = request.headers.get(b"origin")
        headers.append((b"vary", b"origin"))
        if origin in self._origins or b"*" in self._origins:
            headers += [
                (b"access-control-allow-origin", origin or b"*"),
                (b"access-control-expose-headers", b"x-request-id, retry-after"),
            ]
            if request.scope["method"] == "OPTIONS":
                headers += [
                    (b"access-control-allow-methods", b"GET, POST"),
                    (b"access-control-allow-headers", b"content-type, authorization, x-request-id"),
                    (b"access-control-max-age", b"600"),
                ]

    def _log(self, request: Request, response: Response, seconds: float) -> None:
        record = {
            "id": request.id.decode(),
            "method": request.scope["method"],
            "path": request.scope["path"][:200],
            "model": request.model,
            "status": response.status,
            "bytes": len(response.body),
            "ms": round(seconds * 1000, 3),
        }
        log.info(orjson.dumps(record).decode())

    async def _alive(self, request: Request) -> Response:
        return Response(200, b'{"status":"alive"}', [JSON])

    async def _ready(self, request: Request) -> Response:
        ready, detail = self._process.readiness()
        return Response(200 if ready else 503, orjson.dumps(detail), [JSON])

    async def _metrics(self, request: Request) -> Response:
        self._process.flush()
        body = await asyncio.to_thread(metrics.expose, self._process.collectors)
        return Response(200, body, [(b"content-type", metrics.CONTENT_TYPE)])

    def _with_start(self, receive: Receive) -> Receive:
        async def hear() -> Any:
            message = await receive()
            if message["type"] == "lifespan.startup":
                await self._process.start()
            return message

        return hear

    def _with_stop(self, send: Send) -> Send:
        async def say(message: Any) -> None:
            if message["type"].startswith("lifespan.shutdown"):
                await self._process.stop()
            await send(message)

        return say
