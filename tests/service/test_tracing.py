"""Spans of requests, and that nothing is traced when nobody listens."""

from __future__ import annotations

import pytest
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from service.http import Bodies, Request
from service.settings import Settings
from service.tracing import Tracing

CALLER = b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


async def _never() -> dict[str, object]:
    raise AssertionError


def request(*headers: tuple[bytes, bytes]) -> Request:
    scope = {"method": "POST", "headers": list(headers)}
    return Request(scope, _never, Bodies(limit=1, timeout_s=1, max_held=1), 0.0)


def test_a_span_is_a_child_of_the_callers() -> None:
    kept = InMemorySpanExporter()
    tracing = Tracing(kept)
    asked = request((b"traceparent", CALLER))
    asked.model = "toy"
    tracing.end(tracing.begin(asked), asked, "v1", 200)
    tracing.close()
    (span,) = kept.get_finished_spans()
    assert span.name == "POST v1"
    assert span.parent is not None
    assert f"{span.context.trace_id:032x}" == "0af7651916cd43dd8448eb211c80319c"
    assert f"{span.parent.span_id:016x}" == "b7ad6b7169203331"
    assert span.attributes is not None
    assert span.attributes["vitrine.model"] == "toy"
    assert span.attributes["http.response.status_code"] == 200


def test_a_span_without_a_caller_begins_a_trace() -> None:
    kept = InMemorySpanExporter()
    tracing = Tracing(kept)
    asked = request((b"traceparent", b"rubbish"))
    tracing.end(tracing.begin(asked), asked, "v1", 500)
    tracing.close()
    (span,) = kept.get_finished_spans()
    assert span.parent is None
    assert not span.status.is_ok


@pytest.mark.parametrize(
    ("environ", "traced"),
    [
        ({}, False),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:4318"}, True),
        ({"OTEL_TRACES_EXPORTER": "otlp"}, True),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "x", "OTEL_TRACES_EXPORTER": "none"}, False),
        ({"OTEL_TRACES_EXPORTER": "otlp", "OTEL_SDK_DISABLED": "true"}, False),
    ],
)
def test_spans_are_made_only_where_an_exporter_is_configured(
    environ: dict[str, str], traced: bool
) -> None:
    assert Settings.from_env(environ).tracing is traced
