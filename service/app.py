"""The BentoML service: configuration and typed API. The only file that knows BentoML.

The supervisor imports this module too, and never serves: what is heavy is imported by workers only.
"""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Any, cast

import bentoml

from service import placement
from service.settings import BadSetting, Settings

try:
    SETTINGS = Settings.from_env(os.environ)
except BadSetting as error:
    raise SystemExit(f"vitrine: {error}") from None
if SETTINGS.execution_provider == "cuda":  # refused here, where it is one line and no worker began
    from artifacts.model import NoProvider, providers_for

    try:
        providers_for("cuda")
    except NoProvider as error:
        raise SystemExit(f"vitrine: {error}") from None

logging.getLogger("vitrine").setLevel(logging.INFO)
GPUS = placement.count_gpus(SETTINGS)
_TIMEOUT = "TimeoutMiddleware"


class Front(bentoml.Service[Any]):  # type: ignore[misc]
    """BentoML's service with our dispatch ahead of its application."""

    def to_asgi(self, is_main: bool = True) -> Any:
        """The worker's ASGI application."""
        from service.dispatch import Dispatch
        from service.process import Process

        device = placement.device_of(bentoml.server_context.worker_index, GPUS)
        application = super().to_asgi(is_main=is_main)
        # It keeps each request's timer, and with it the request, for all of `traffic.timeout`. Ours
        # have deadlines of their own.
        application.user_middleware = [
            part for part in application.user_middleware if part.cls.__name__ != _TIMEOUT
        ]
        return Dispatch(Process(SETTINGS, device=device), application)


class Form(bentoml.IODescriptor):  # type: ignore[misc]
    """What the typed client sends. The server's own reading of it is in service.typed."""

    images: list[Path]
    model: str
    top_k: int = 3
    preprocess: str = "auto"

    @classmethod
    async def from_http_request(cls, request: Any, serde: Any) -> Form:
        """Nothing: the body is left to the endpoint, for BentoML would write files of it."""
        return cast(Form, cls.model_construct(images=[], model=""))


@bentoml.service(
    service_class=Front,
    name="vitrine",
    workers=placement.count_workers(SETTINGS, GPUS),
    backlog=4096,
    traffic={"timeout": 10},
    metrics={"enabled": False},
    logging={"access": {"enabled": False}},
    tracing={"excluded_urls": ".*"},
)
class Vitrine:
    """Small image classifiers over HTTP."""

    @bentoml.api(route="/classify", input_spec=Form)  # type: ignore[untyped-decorator]
    async def classify(
        self,
        images: list[Path],
        model: str,
        top_k: int,
        preprocess: str,
        ctx: bentoml.Context,
    ) -> dict[str, Any]:
        """Classify the images, each a file, by a model's or a task's name.

        The answer is that of POST /v1/classify/{model}.
        """
        from starlette.responses import Response

        answer = await ctx.request.scope["vitrine.answer"]()
        ctx.response.status_code = answer.status
        whole = Response(answer.body, answer.status)
        whole.raw_headers.extend(answer.headers)
        return cast("dict[str, Any]", whole)  # BentoML passes a Response on as it is
