"""Spans as OpenTelemetry has them, sent in the background to the collector that the environment names."""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import SERVICE_NAME, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import Link, Span, SpanKind, Status, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from kshot import __version__
from kshot.tracing import Kind, Note, Stretch

_KINDS = {
    "internal": SpanKind.INTERNAL,
    "server": SpanKind.SERVER,
    "producer": SpanKind.PRODUCER,
    "consumer": SpanKind.CONSUMER,
}
_HEADER = "traceparent"
_W3C = TraceContextTextMapPropagator()
_LAST_MS = 5000


class Spans:
    """One per process. Sampling, batching and the collector's address are OTEL_ variables, read by the SDK."""

    def __init__(self, process: str) -> None:
        named = Resource.create({"service.version": __version__})  # OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES
        if str(named.attributes[SERVICE_NAME]).startswith("unknown_service"):
            named = named.merge(Resource({SERVICE_NAME: process}))
        self._provider = TracerProvider(resource=named, shutdown_on_exit=False)
        self._provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
        # Asked once: what follows on one another must not overlap by the time between two clocks' readings.
        self._ahead_ns = time.time_ns() - time.monotonic_ns()
        self._tracer = self._provider.get_tracer("kshot", __version__)

    def close(self) -> None:
        """Send the rest."""
        self._provider.force_flush(_LAST_MS)
        self._provider.shutdown()

    @contextmanager
    def around(self, name: str, kind: Kind, parent: str | None, about: Note) -> Iterator[Note]:
        """See `kshot.tracing.span`."""
        if parent is None and kind != "server" and not trace.get_current_span().get_span_context().is_valid:
            yield {}
            return
        note: Note = {}
        began = self._tracer.start_span(name, _below(parent), _KINDS[kind], about)
        with trace.use_span(began, end_on_exit=True, record_exception=False, set_status_on_exception=False):
            try:
                yield note
            except Exception as error:
                note["error.type"] = type(error).__name__
                raise
            finally:
                _describe(began, note)

    def carried(self) -> str | None:
        """See `kshot.tracing.carried`."""
        return _traceparent(trace.get_current_span())

    def record(self, name: str, kind: Kind, parent: str, stretch: Stretch, links: Sequence[str], about: Note) -> str:
        """See `kshot.tracing.record`."""
        linked = [Link(trace.get_current_span(_below(link)).get_span_context()) for link in links]
        began, ended = (self._ahead_ns + int(moment * 1e9) for moment in stretch)
        span = self._tracer.start_span(name, _below(parent), _KINDS[kind], links=linked, start_time=began)
        _describe(span, about)
        span.end(ended)
        return _traceparent(span) or parent


def _below(parent: str | None) -> Context | None:
    """What spans that begin in it have as their parent; None: the span around us. A damaged one is as none."""
    return None if parent is None else _W3C.extract({_HEADER: parent}, Context())


def _traceparent(span: Span) -> str | None:
    if not span.is_recording() and not span.get_span_context().trace_flags.sampled:
        return None
    carrier: dict[str, str] = {}
    _W3C.inject(carrier, trace.set_span_in_context(span, Context()))
    return carrier.get(_HEADER)


def _describe(span: Span, note: Note) -> None:
    span.set_attributes({key: value for key, value in note.items() if key != "name"})
    if "name" in note:  # as the caller learnt it on the way
        span.update_name(str(note["name"]))
    if "error.type" in note:
        span.set_status(Status(StatusCode.ERROR))
