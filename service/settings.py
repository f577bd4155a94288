"""The environment, read once into a frozen value; the only place that reads it."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, cast
from urllib.parse import urlsplit

PREFIX = "VITRINE_"
CHECKOUT = Path(__file__).resolve().parent.parent
# Names other rooms own (training, scoring through a service): setting them is no error here.
ELSEWHERE = frozenset({"VITRINE_DATA", "VITRINE_API_KEY"})
# What Kubernetes injects for a Service called vitrine; never ours.
_KUBERNETES = re.compile(r"VITRINE_(PORT|SERVICE_)\w*")


# As browsers send it: no path, no slash at the end.
_ORIGIN = re.compile(r"https?://[a-z0-9.:\[\]-]+", re.ASCII)


class BadSetting(Exception):
    """A variable of the environment that is unknown, or whose value is not what was expected."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Everything an operator can set. The variable of `deadline_s` is VITRINE_DEADLINE_S."""

    state: Path | None = CHECKOUT / ".vitrine"  # the only folder written at run time; "" for none
    execution_provider: Literal["auto", "cpu", "cuda"] = "auto"
    workers: int | None = None  # processes; None: see service.placement
    models: tuple[str, ...] = ()  # loaded at start beside the tasks' models
    max_loaded: int = 16  # models in memory, for one worker

    deadline_s: float = 2.0  # from the request's head to its answer
    head_timeout_s: float = 10.0  # for a request's head to arrive whole
    body_timeout_s: float = 10.0  # for a body to arrive whole
    max_body_bytes: int = 16 * 1024 * 1024  # after inflating, too
    max_inflight_bytes: int = 256 * 1024 * 1024  # bodies held at once, for one worker
    max_images: int = 256  # in one request
    max_pixels: int = 50_000_000  # in one image
    max_batch: int = 32  # rows in one run of a model
    max_queue: int = 1024  # rows waiting for one model

    api_keys: tuple[str, ...] = field(
        default=(), repr=False
    )  # predictions and feedback; none: open
    admin_keys: tuple[str, ...] = field(default=(), repr=False)  # load, unload; none: off
    secret: str = field(default="", repr=False)  # signs receipts; empty: generated into the state
    old_secrets: tuple[str, ...] = field(default=(), repr=False)  # still accepted, for rotation
    receipt_days: float = 30.0  # how long a receipt can be answered with a label
    ledger_url: str = field(default="", repr=False)  # empty: SQLite in the state folder
    capture: float = 0.0  # share of predictions whose pixels are kept, 0..1
    capture_max_bytes: int = 1024 * 1024 * 1024  # of all that are kept; the oldest go first
    capture_days: float = 30.0  # how long they are kept

    cors_origins: tuple[str, ...] = ()
    lame_duck_s: float = 0.0  # answers go on for so long after SIGTERM, not ready
    access_log: bool = False
    tracing: bool = False  # whether OpenTelemetry's own variables name an exporter

    @staticmethod
    def variables() -> frozenset[str]:
        """The names of all variables that are read."""
        return frozenset(PREFIX + name.upper() for name in _PARSERS)

    @classmethod
    def from_env(cls, environ: Mapping[str, str]) -> Settings:
        """The settings in `environ`. Raises BadSetting naming the variable and what it may be."""
        known = {PREFIX + name.upper(): name for name in _PARSERS}
        values: dict[str, Any] = {}
        for variable, text in environ.items():
            if not variable.startswith(PREFIX) or _KUBERNETES.fullmatch(variable):
                continue
            if variable in ELSEWHERE:
                continue
            name = known.get(variable)
            if name is None:
                near = difflib.get_close_matches(variable, known, 1)
                hint = f"; did you mean {near[0]}?" if near else f"; known: {', '.join(known)}"
                raise BadSetting(f"{variable} is not a setting{hint}")
            parse, expected = _PARSERS[name]
            try:
                values[name] = parse(text.strip())
            except ValueError as error:
                shown = "a secret value" if name in _SECRET else repr(text)
                raise BadSetting(f"{variable} is {shown}, expected {expected}") from error
        return cls(**values, tracing=traces_wanted(environ))


def traces_wanted(environ: Mapping[str, str]) -> bool:
    """Whether OpenTelemetry's variables ask for spans to be sent."""
    sent_by_default = "otlp" if "OTEL_EXPORTER_OTLP_ENDPOINT" in environ else "none"
    exporter = environ.get("OTEL_TRACES_EXPORTER", sent_by_default)
    return exporter == "otlp" and environ.get("OTEL_SDK_DISABLED", "").lower() != "true"


_SECRET = frozenset({"api_keys", "admin_keys", "secret", "old_secrets", "ledger_url"})
_Parser = tuple[Callable[[str], Any], str]


def _integer(low: int, high: int) -> _Parser:
    def parse(text: str) -> int:
        value = int(text)
        if not low <= value <= high:
            raise ValueError
        return value

    return parse, f"a whole number from {low} to {high}"


def _number(low: float, high: float, unit: str) -> _Parser:
    def parse(text: str) -> float:
        value = float(text)
        if not low <= value <= high:  # NaN too
            raise ValueError
        return value

    return parse, f"a number from {low:g} to {high:g}{unit}"


def _one_of(*choices: str) -> _Parser:
    def parse(text: str) -> str:
        if text not in choices:
            raise ValueError
        return text

    return parse, "one of " + ", ".join(choices)


def _listed(item: str, least: int = 1) -> _Parser:
    def parse(text: str) -> tuple[str, ...]:
        items = tuple(part.strip() for part in text.split(",") if part.strip())
        if any(len(part) < least for part in items):
            raise ValueError
        return items

    return parse, f"{item}, separated by commas"


def _origins(text: str) -> tuple[str, ...]:
    origins = _listed("origins")[0](text)
    for origin in origins:
        if origin != "*" and not _ORIGIN.fullmatch(origin):
            raise ValueError
    return cast("tuple[str, ...]", origins)


def _truth(text: str) -> bool:
    if text not in ("0", "1", "true", "false"):
        raise ValueError
    return text in ("1", "true")


def _secret(text: str) -> str:
    if text and len(text) < 16:
        raise ValueError
    return text


def _ledger_url(text: str) -> str:
    parts = urlsplit(text)
    if text and parts.scheme not in ("postgresql", "postgres", "postgresql+psycopg", "sqlite"):
        raise ValueError
    if parts.port == 0:  # reading it raises ValueError where it is no number
        raise ValueError
    return text


_MEGABYTE = 1024 * 1024
_PARSERS: dict[str, _Parser] = {
    "state": (lambda text: Path(text) if text else None, "a folder"),
    "execution_provider": _one_of("auto", "cpu", "cuda"),
    "workers": _integer(1, 256),
    "models": _listed("names of models"),
    "max_loaded": _integer(1, 1000),
    "deadline_s": _number(0.001, 600, " seconds"),
    "head_timeout_s": _number(0.1, 600, " seconds"),
    "body_timeout_s": _number(0.1, 600, " seconds"),
    "max_body_bytes": _integer(1024, 1024 * _MEGABYTE),
    "max_inflight_bytes": _integer(_MEGABYTE, 1024 * 1024 * _MEGABYTE),
    "max_images": _integer(1, 100_000),
    "max_pixels": _integer(784, 1_000_000_000),
    "max_batch": _integer(1, 4096),
    "max_queue": _integer(16, 1_000_000),
    "api_keys": _listed("keys of at least 16 characters", 16),
    "admin_keys": _listed("keys of at least 16 characters", 16),
    "secret": (_secret, "at least 16 characters"),
    "old_secrets": _listed("secrets of at least 16 characters", 16),
    "receipt_days": _number(0.001, 3650, " days"),
    "ledger_url": (_ledger_url, "postgresql://user@host/database or sqlite:///file"),
    "capture": _number(0, 1, ""),
    "capture_max_bytes": _integer(_MEGABYTE, 1024 * 1024 * _MEGABYTE),
    "capture_days": _number(0.001, 3650, " days"),
    "cors_origins": (_origins, "origins such as https://example.org, separated by commas, or *"),
    "lame_duck_s": _number(0, 600, " seconds"),
    "access_log": (_truth, "0 or 1"),
}
