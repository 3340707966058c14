"""Traces, where an operator asks for them: one from the HTTP request through the queue to worker and trainer.

OpenTelemetry's own variables ask: `OTEL_EXPORTER_OTLP_ENDPOINT` (or `..._TRACES_ENDPOINT`) names a collector that takes
OTLP over HTTP. Without it nothing of OpenTelemetry is imported, and a span costs a comparison. What is carried to other
processes is a W3C traceparent: in the row of a task or job, which outlives its doorbell, and beside a predict call in
the stream. A span names ids and figures, never what a caller sent: `kshot.tracing.spans` takes nothing else.
"""

import os
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TYPE_CHECKING, Literal

import structlog

if TYPE_CHECKING:
    from kshot.tracing.spans import Spans

Kind = Literal["internal", "server", "producer", "consumer"]
Value = str | int | float
Note = dict[str, Value]
"""What can be said of a span once it has begun: whoever began it fills it in."""

Stretch = tuple[float, float]
"""Begin and end, by this process' monotonic clock."""

_ENDPOINTS = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
_log = structlog.get_logger()
_spans: "Spans | None" = None


def start_tracing(process: str) -> bool:
    """Trace from here on, where the environment asks for it; whether it does. ``process``: what spans name as their
    service, unless OTEL_SERVICE_NAME says otherwise. Where the extra `tracing` is missing, that is logged, and nothing
    is traced."""
    global _spans  # noqa: PLW0603 - one exporter for the process, as there is one standard output
    if not any(map(os.environ.get, _ENDPOINTS)) or os.environ.get("OTEL_SDK_DISABLED", "").lower() == "true":
        return False
    try:
        from kshot.tracing.spans import Spans
    except ImportError:
        _log.error("tracing_not_installed", remedy="pip install 'kshot[tracing]'")
        return False
    _spans = Spans(process)
    return True


def stop_tracing() -> None:
    """Send what was not sent yet, for some seconds at most."""
    if _spans is not None:
        _spans.close()


def is_on() -> bool:
    """Whether this process traces."""
    return _spans is not None


def span(
    name: str, kind: Kind = "internal", parent: str | None = None, about: Note | None = None
) -> AbstractContextManager[Note]:
    """A span around a block, below ``parent`` (a traceparent) or the span around it. It begins no trace by itself, but
    for one of kind ``server``. An error that leaves the block is named by its type."""
    if _spans is None:
        return nullcontext({})
    return _spans.around(name, kind, parent, about or {})


def carried() -> str | None:
    """The span around us as a traceparent, to be sent along; None where nothing is recorded."""
    return None if _spans is None else _spans.carried()


def record(
    name: str,
    parent: str,
    stretch: Stretch,
    about: Note | None = None,
    *,
    kind: Kind = "internal",
    links: Sequence[str] = (),
    failed: str | None = None,
) -> str:
    """A span that is over; its traceparent. ``failed``: the code of what went wrong. Only to be asked where a
    ``parent`` was carried here: that is the sign that this is traced."""
    if _spans is None:
        return parent
    note = {} if failed is None else {"error.type": failed}
    return _spans.record(name, kind, parent, stretch, links, {**(about or {}), **note})


@contextmanager
def tracing(process: str) -> Iterator[None]:
    """`start_tracing` and `stop_tracing` around a process' work."""
    start_tracing(process)
    try:
        yield
    finally:
        stop_tracing()
