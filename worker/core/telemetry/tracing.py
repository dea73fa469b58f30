"""Trace a chunk from its sending to its settled rows by OpenTelemetry, where a collector is named.

Without one nothing of it is loaded. Spans carry what lines of the log carry: names of runs, ids, and codes of errors.
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

STANDARD = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
PREFIX = "fundus."


class Tracing:
    """The traces of one process; threads start when there is a first span."""

    def __init__(self, otlp_url: str | None, *, service: str) -> None:
        """Raises SettingsError where a collector is asked for and the extra `tracing` is not installed."""
        self._url = otlp_url
        self._service = service
        is_wanted = otlp_url is not None or any(os.environ.get(name) for name in STANDARD)
        self.on = is_wanted and _is_installed()
        if otlp_url is not None and not self.on:
            raise SettingsError("FUNDUS_OTLP_URL: install the extra `tracing`, or leave it out")

    @contextmanager
    def sending(self, what: str = "chunk", **about: str | int) -> Iterator[dict[str, str]]:
        """A span, the first of its trace, around the sending of a message: the headers that take it along."""
        headers: dict[str, str] = {}
        if not self.on:
            yield headers
            return
        from opentelemetry.trace import SpanKind
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        with self._span(f"send {what}", SpanKind.PRODUCER, None, about):
            TraceContextTextMapPropagator().inject(headers)
            yield headers

    @contextmanager
    def grading(self, traceparent: str | None, **about: str | int) -> Iterator[None]:
        """A span around the grading of a chunk, in the trace of its sender; lines of the log name the trace."""
        if not self.on:
            yield
            return
        from opentelemetry.trace import SpanKind, format_trace_id
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        sender = TraceContextTextMapPropagator().extract({TRACE_HEADER: traceparent}) if traceparent else None
        with (
            self._span("grade chunk", SpanKind.CONSUMER, sender, about) as span,
            bound_contextvars(trace=format_trace_id(span.get_span_context().trace_id)),
        ):
            yield

    def stage(self, name: str, began: float, ended: float) -> None:
        """A span between two moments of the monotonic clock, about what the log's context is about."""
        if not self.on:
            return
        epoch_ns = time_ns() - int(monotonic() * 1e9)
        about = {PREFIX + key: value for key, value in get_contextvars().items() if key != "trace"}
        span = self._tracer.start_span(str(name), attributes=about, start_time=epoch_ns + int(began * 1e9))
        span.end(epoch_ns + int(ended * 1e9))

    @contextmanager
    def _span(self, name: str, kind: SpanKind, context: Context | None, about: dict[str, str | int]) -> Iterator[Span]:
        from opentelemetry.trace import StatusCode

        with self._tracer.start_as_current_span(
            name,
            context=context,
            kind=kind,
            attributes={PREFIX + key: value for key, value in about.items()},
            # The words of an error may name a file, and with it a person.
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
        # What is not sent yet is sent when the process ends; without a collector, its end waits that long.
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
