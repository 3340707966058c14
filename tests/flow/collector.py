"""A stand-in for an OpenTelemetry collector: takes OTLP over HTTP on loopback, and keeps the spans."""

import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest


@dataclass(frozen=True)
class Seen:
    """One span. ``id``, ``trace``, ``parent`` and ``links`` (ids) in hexadecimal; ``parent`` is empty for the first."""

    service: str
    name: str
    id: str
    trace: str
    parent: str
    links: tuple[str, ...]
    attributes: dict[str, Any]
    failed: bool
    began: int
    ended: int


@dataclass
class Collector:
    """What came so far; ``raw``: each request's body."""

    url: str
    raw: list[bytes] = field(default_factory=list)

    def spans(self, trace: str) -> list[Seen]:
        """Of one trace."""
        return [span for body in list(self.raw) for span in _spans(body) if span.trace == trace]

    def until(self, trace: str, *names: str) -> list[Seen]:
        """The trace's spans, once there are as many of each of these names."""
        deadline = time.monotonic() + 120
        while True:
            found = self.spans(trace)
            if Counter(names) <= Counter(span.name for span in found):
                return found
            assert time.monotonic() < deadline, sorted(span.name for span in found)
            time.sleep(0.1)


@contextmanager
def collecting() -> Iterator[Collector]:
    """A collector on a free port."""
    bodies: list[bytes] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            bodies.append(self.rfile.read(int(self.headers["Content-Length"])))
            self.send_response(200 if self.path == "/v1/traces" else 404)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Quiet."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield Collector(f"http://127.0.0.1:{server.server_address[1]}", bodies)
        server.shutdown()


def _spans(body: bytes) -> Iterator[Seen]:
    for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
        service = _values(resource.resource.attributes)["service.name"]
        for span in (span for scope in resource.scope_spans for span in scope.spans):
            yield Seen(
                service,
                span.name,
                span.span_id.hex(),
                span.trace_id.hex(),
                span.parent_span_id.hex(),
                tuple(link.span_id.hex() for link in span.links),
                _values(span.attributes),
                span.status.code == 2,
                span.start_time_unix_nano,
                span.end_time_unix_nano,
            )


def _values(attributes: Any) -> dict[str, Any]:
    return {one.key: getattr(one.value, one.value.WhichOneof("value")) for one in attributes}
