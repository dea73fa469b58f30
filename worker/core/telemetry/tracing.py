"""OpenTelemetry traces of a chunk, from its message to its settled rows.

Without a collector, OpenTelemetry is not imported. Spans carry the same facts as the logs: run names, ids, error codes.
"""

from __future__ import annotations

import os
from contextlib import contextmanager
from functools import cached_property
from importlib.util import find_spec
from time import monotonic, time_ns
from typing import TYPE_CHECKING

from structlog.contextvars import bound_contextvars, get_contextvars

from worker.core.errors import FundusError, SettingsError
from worker.core.messages import TRACE_HEADER

if TYPE_CHECKING:
    from collections.abc import Iterator

    from opentelemetry.context import Context
    from opentelemetry.trace import Span, SpanKind, Tracer

OTLP_VARIABLES = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
"""OpenTelemetry's own variables that name a collector."""
PREFIX = "fundus."
"""Prefix of span attributes."""
NOT_IN_SPANS = ("trace", "file")
"""Variables of the log's context that are no span attributes: a file name may contain the name of a patient."""


class Tracing:
    """Tracer of one process. The exporter's thread starts with the first span."""

    def __init__(self, otlp_url: str | None, *, service: str) -> None:
        """Enable tracing if `otlp_url` or an OTLP_VARIABLES names a collector; `service` names this process in traces.

        Raises SettingsError if `otlp_url` is given and the extra `tracing` is not installed.
        """
        self._url = otlp_url
        self._service = service
        is_wanted = otlp_url is not None or any(os.environ.get(name) for name in OTLP_VARIABLES)
        self.is_enabled = is_wanted and _is_installed()
        if otlp_url is not None and not self.is_enabled:
            raise SettingsError("FUNDUS_OTLP_URL needs the extra `tracing`; install it or unset the variable")

    @contextmanager
    def trace_send(self, subject: str = "chunk", **attributes: str | int) -> Iterator[dict[str, str]]:
        """Start a trace with a span around the sending of a message; yields the headers that propagate the trace."""
        headers: dict[str, str] = {}
        if not self.is_enabled:
            yield headers
            return
        from opentelemetry.trace import SpanKind
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        with self._span(f"send {subject}", SpanKind.PRODUCER, None, attributes):
            TraceContextTextMapPropagator().inject(headers)
            yield headers

    @contextmanager
    def trace_grading(self, traceparent: str | None, **attributes: str | int) -> Iterator[None]:
        """Add a span around the grading of a chunk to the sender's trace, and the trace id to the logs."""
        if not self.is_enabled:
            yield
            return
        from opentelemetry.trace import SpanKind, format_trace_id
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        sender = TraceContextTextMapPropagator().extract({TRACE_HEADER: traceparent}) if traceparent else None
        with (
            self._span("grade chunk", SpanKind.CONSUMER, sender, attributes) as span,
            bound_contextvars(trace=format_trace_id(span.get_span_context().trace_id)),
        ):
            yield

    def record_stage(self, name: str, started: float, ended: float) -> None:
        """Add a span between two times of `time.monotonic`, with the variables of the log's context as attributes."""
        if not self.is_enabled:
            return
        epoch_ns = time_ns() - int(monotonic() * 1e9)
        attributes = {PREFIX + key: value for key, value in get_contextvars().items() if key not in NOT_IN_SPANS}
        span = self._tracer.start_span(str(name), attributes=attributes, start_time=epoch_ns + int(started * 1e9))
        span.end(epoch_ns + int(ended * 1e9))

    @contextmanager
    def _span(self, name: str, kind: SpanKind, context: Context | None, facts: dict[str, str | int]) -> Iterator[Span]:
        from opentelemetry.trace import StatusCode

        with self._tracer.start_as_current_span(
            name,
            context=context,
            kind=kind,
            attributes={PREFIX + key: value for key, value in facts.items()},
            # An error message may contain a file name, and with it personal data.
            record_exception=False,
            set_status_on_exception=False,
        ) as span:
            try:
                yield span
            except Exception as error:
                span.set_status(StatusCode.ERROR, error.code if isinstance(error, FundusError) else "unexpected")
                raise

    @cached_property
    def _tracer(self) -> Tracer:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import SERVICE_NAME, Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor

        service = os.environ.get("OTEL_SERVICE_NAME") or self._service
        # Pending spans are sent when the process exits; if the collector is down, the exit waits this long.
        os.environ.setdefault("OTEL_EXPORTER_OTLP_TIMEOUT", "3")
        provider = TracerProvider(resource=Resource.create({SERVICE_NAME: service}))
        address = None if self._url is None else f"{self._url.rstrip('/')}/v1/traces"
        provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(address)))
        return provider.get_tracer("fundus")


def _is_installed() -> bool:
    try:
        return find_spec("opentelemetry.exporter.otlp.proto.http") is not None
    except ModuleNotFoundError:
        return False
