"""Spans for requests, when OpenTelemetry has somewhere to send them; nothing otherwise.

Configured by OpenTelemetry's own variables (OTEL_EXPORTER_OTLP_ENDPOINT, OTEL_TRACES_EXPORTER,
OTEL_SERVICE_NAME...), which its SDK reads. A `traceparent` (W3C Trace Context) is honoured.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from service.http import Request

if TYPE_CHECKING:
    from opentelemetry.sdk.trace.export import SpanExporter
    from opentelemetry.trace import Span


class Tracing:
    """Begins and ends a span for each request. Costs some 20 us each; made only when wanted."""

    def __init__(self, exporter: SpanExporter | None = None) -> None:
        from opentelemetry.sdk.resources import SERVICE_NAME, Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        if exporter is None:
            from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

            exporter = OTLPSpanExporter()
        # OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES win over this name.
        resource = Resource({SERVICE_NAME: "vitrine"}).merge(Resource.create())
        self._provider = TracerProvider(resource=resource, shutdown_on_exit=False)
        self._provider.add_span_processor(BatchSpanProcessor(exporter))
        self._tracer = self._provider.get_tracer("vitrine")
        self._context = TraceContextTextMapPropagator()

    def begin(self, request: Request) -> Span:
        """A span for a request, a child of the caller's where it names one."""
        from opentelemetry.trace import SpanKind

        carrier = {
            name: value.decode("latin-1")
            for name in ("traceparent", "tracestate")
            if (value := request.headers.get(name.encode()))
        }
        parent = self._context.extract(carrier)
        method = str(request.scope["method"])
        return self._tracer.start_span(
            method, parent, SpanKind.SERVER, {"http.request.method": method}
        )

    def end(self, span: Span, request: Request, surface: str, status: int) -> None:
        """Names follow OpenTelemetry's HTTP conventions; nothing a client chose is among them."""
        span.update_name(f"{request.scope['method']} {surface}")
        span.set_attribute("http.response.status_code", status)
        span.set_attribute("vitrine.request_id", request.id.decode())
        if request.model:
            span.set_attribute("vitrine.model", request.model)
        if status >= 500:
            from opentelemetry.trace import StatusCode

            span.set_status(StatusCode.ERROR)
        span.end()

    def close(self) -> None:
        """Send what is left."""
        self._provider.shutdown()
