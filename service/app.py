"""The BentoML service: configuration and typed API. The only file that knows BentoML.

The supervisor imports this module too, and never serves: what is heavy is imported by workers only.
"""

from __future__ import annotations

import logging
import os
from typing import Any

import bentoml

from service.settings import BadSetting, Settings

try:
    SETTINGS = Settings.from_env(os.environ)
except BadSetting as error:
    raise SystemExit(f"vitrine: {error}") from None

logging.getLogger("vitrine").setLevel(logging.INFO)


class Front(bentoml.Service[Any]):  # type: ignore[misc]
    """BentoML's service with our dispatch ahead of its application."""

    def to_asgi(self, is_main: bool = True) -> Any:
        """The worker's ASGI application."""
        from service.dispatch import Dispatch
        from service.process import Process

        return Dispatch(Process(SETTINGS), super().to_asgi(is_main=is_main))


@bentoml.service(
    service_class=Front,
    name="vitrine",
    workers=SETTINGS.workers,
    backlog=4096,
    traffic={"timeout": 10},
    metrics={"enabled": False},
    logging={"access": {"enabled": False}},
    tracing={"excluded_urls": ".*"},
)
class Vitrine:
    """Small image classifiers over HTTP."""

    @bentoml.api(route="/classify")  # type: ignore[untyped-decorator]
    def classify(self) -> str:
        return "todo"
