"""Prometheus metrics of what the API serves. No label names a tenant.

Several processes behind one port share their counts: `service.processes` names a folder in the environment, each
writes into files of its own there (prometheus_client's multiprocess mode), and whichever is scraped adds them up. The
counts of a process that ended stay.
"""

import os
from typing import Literal, get_args

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector

FOLDER = "PROMETHEUS_MULTIPROC_DIR"
"""The variable that prometheus_client reads when it is imported."""
Dropped = Literal["refused", "expired", "abandoned"]
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class Metrics:
    """One registry per app, so that tests can run several."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self.requests = Counter(
            "kshot_http_requests", "Requests answered", ["method", "route", "status"], registry=self._registry
        )
        self.seconds = Histogram(
            "kshot_http_request_seconds",
            "Time from the first byte of the headers' end to the last of the answer",
            ["method", "route"],
            registry=self._registry,
            buckets=(0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30, 60),
        )
        self.in_flight = Gauge(
            "kshot_http_requests_in_flight",
            "Requests being answered",
            registry=self._registry,
            multiprocess_mode="livesum",
        )
        self._dropped = Counter(
            "kshot_calls_dropped",
            "Calls that came to nothing: refused at the door, their deadline passed, or their caller left",
            ["reason"],
            registry=self._registry,
        )
        for reason in get_args(Dropped):
            self._dropped.labels(reason)
        self._found: dict[tuple[str, str, int], tuple[Counter, Histogram]] = {}

    def seen(self, method: str, route: str, status: int, seconds: float) -> None:
        """Count one answered request. ``route`` is a template, so there are few."""
        label = (method, route, status)
        if label not in self._found:
            self._found[label] = self.requests.labels(method, route, str(status)), self.seconds.labels(method, route)
        requests, durations = self._found[label]
        requests.inc()
        durations.observe(seconds)

    def dropped(self, reason: Dropped) -> None:
        """Count one call that was not answered for this reason."""
        self._dropped.labels(reason).inc()

    def render(self) -> bytes:
        """The text exposition format: of this process, or of all that share the port."""
        folder = os.environ.get(FOLDER)
        if folder is None:
            return generate_latest(self._registry)
        together = CollectorRegistry()
        MultiProcessCollector(together, path=folder)  # type: ignore[no-untyped-call]
        return generate_latest(together)
