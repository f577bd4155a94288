"""Which handler answers which path; nothing a client chose is remembered."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from service.http import NOTHING, Problem, Response
from service.keys import Guard
from service.process import Process

Handler = Callable[..., Awaitable[Response]]


@dataclass(frozen=True, slots=True)
class Route:
    """What answers a path: one handler for each method; `surface` names it in metrics.

    `guard` is asked first, where the path is not open to everybody.
    """

    surface: str
    methods: dict[str, Handler]
    guard: Guard | None = None


class Routes:
    """Every path that is ours, apart from those in `exact`, which the caller answers itself."""

    def __init__(self, process: Process, exact: dict[str, Route]) -> None:
        v1, v2, repository, page = process.v1, process.v2, process.repository, process.page
        keys = process.keys
        self._exact: dict[str, Route] = {
            "/": Route("page", {"GET": page.index}),
            "/docs": Route("page", {"GET": process.docs.docs}),
            "/openapi.json": Route("page", {"GET": process.docs.openapi}),
            "/v1/models": Route("v1", {"GET": v1.models}),
            "/v1/feedback": Route("feedback", {"POST": process.feedback.post}, keys.predictions),
            "/v2": Route("v2", {"GET": v2.server}),
            "/v2/": Route("v2", {"GET": v2.server}),
            "/v2/health/live": Route("v2", {"GET": v2.server_live}),
            "/v2/health/ready": Route("v2", {"GET": v2.server_ready}),
            "/v2/models/stats": Route("v2", {"GET": v2.stats}),
            "/v2/repository/index": Route("v2", {"POST": repository.index}),
            **exact,
        }
        self._page = Route("page", {"GET": page.file})
        self._classify = Route("v1", {"POST": v1.classify}, keys.predictions)
        self._model = Route("v1", {"GET": v1.model})
        self._accuracy = Route("feedback", {"GET": process.feedback.accuracy})
        self._v2_infer = Route("v2", {"POST": v2.infer}, keys.predictions)
        self._v2_model = Route("v2", {"GET": v2.model})
        self._v2_of_model = {
            "ready": Route("v2", {"GET": v2.model_ready}),
            "config": Route("v2", {"GET": v2.config}),
            "stats": Route("v2", {"GET": v2.stats}),
        }
        self._v2_change = {
            "load": Route("v2", {"POST": repository.load}, keys.admin),
            "unload": Route("v2", {"POST": repository.unload}, keys.admin),
        }
        # Under /v2 even what is not there is refused in the protocol's manner.
        self._v2_nothing = Route("v2", dict.fromkeys(("GET", "POST"), v2.nothing))

    def find(self, path: str) -> tuple[Route, str | None]:
        """A path's route, and the part of it that names a model or file. Raises Problem 404."""
        if path.startswith("/v1/classify/"):
            return self._classify, path[13:]
        if path.startswith("/v2/models/") and path.endswith("/infer"):
            return self._v2_infer, path[11:-6]
        route = self._exact.get(path)
        if route is not None:
            return route, None
        if path.startswith("/v2/"):
            return self._find_v2(path)
        if path.startswith("/v1/models/") and "/" not in path[11:]:
            return self._model, path[11:]
        if path.startswith("/v1/models/") and path.endswith("/accuracy"):
            return self._accuracy, path[11:-9]
        if path.startswith("/ui/"):
            return self._page, path[4:]
        raise Problem(404, NOTHING)

    def _find_v2(self, path: str) -> tuple[Route, str | None]:
        if path.startswith("/v2/models/"):
            subject, _, last = path[11:].rpartition("/")
            route = self._v2_of_model.get(last)
            return (self._v2_model, path[11:]) if route is None else (route, subject)
        if path.startswith("/v2/repository/models/"):
            name, _, last = path[22:].rpartition("/")
            route = self._v2_change.get(last)
            if route is not None:
                return route, name
        return self._v2_nothing, None
