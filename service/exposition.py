"""The installation's figures as Prometheus metrics. Names, labels and how to add them up: docs/how-to/monitoring.md.

A counter carries the id of the worker that counts, which is new at each start: it begins at 0 with its worker, ends
with it, and never falls.
"""

import itertools
from collections.abc import Iterable, Iterator
from typing import get_args

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.metrics_core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

from kshot.contracts.jobs import JobStatus
from kshot.contracts.worker_stats import Histogram, WorkerStats
from kshot.storage.system import Failing, SeenWorker
from kshot.storage.tables import OPEN_TASK
from kshot.storage.workers import Kind
from service.figures import Figures

Counted = list[tuple[SeenWorker, WorkerStats]]


def expose(figures: Figures) -> bytes:
    """The text exposition format."""
    registry = CollectorRegistry()
    registry.register(_Figures(figures))
    return generate_latest(registry)


class _Figures(Collector):
    def __init__(self, figures: Figures) -> None:
        self._figures = figures

    def collect(self) -> Iterator[Metric]:
        figures = self._figures
        counted = [(worker, worker.stats) for worker in figures.workers if worker.stats is not None]
        yield from _queue(figures)
        yield from _workers(figures)
        yield from _batches(counted)
        yield from _tasks(counted)
        yield from _caches(counted)
        yield from _training(figures)
        yield from _disk(figures)
        failures = GaugeMetricFamily("kshot_failures_recent", "What failed in the last hour", labels=["object"])
        for kind in get_args(Failing):
            failures.add_metric([kind], figures.failures.get(kind, 0))
        yield failures


def _queue(figures: Figures) -> Iterator[Metric]:
    depth = GaugeMetricFamily(
        "kshot_queue_depth",
        "Open tasks, of which nobody waits for a replay, and predict calls",
        labels=["kind", "status"],
    )
    open_now = {(one.kind, one.status): one.count for one in figures.waiting}
    for kind, status in itertools.product(("adapt", "replay"), OPEN_TASK):
        depth.add_metric([kind, status], open_now.get((kind, status), 0))
    for status, count in zip(OPEN_TASK, figures.calls or (), strict=False):
        depth.add_metric(["predict", status], count)
    yield depth
    yield GaugeMetricFamily(
        "kshot_queue_oldest_seconds", "Age of the oldest queued task somebody waits for", value=figures.oldest_s
    )


def _workers(figures: Figures) -> Iterator[Metric]:
    alive = GaugeMetricFamily("kshot_workers", "Alive", labels=["kind"])
    for kind in get_args(Kind):
        alive.add_metric([kind], figures.alive(kind))
    age = GaugeMetricFamily(
        "kshot_worker_heartbeat_age_seconds", "Since a worker was last seen", labels=["worker", "kind"]
    )
    for worker in figures.workers:
        age.add_metric([worker.id, worker.kind], worker.age_s)
    yield from (alive, age)


def _batches(counted: Counted) -> Iterator[Metric]:
    batches = CounterMetricFamily("kshot_batches", "Calls of a learner", labels=["worker"])
    items = HistogramMetricFamily("kshot_batch_items", "Items in a batch", labels=["worker"])
    retried = CounterMetricFamily(
        "kshot_tasks_retried", "Claims of tasks whose lease was lost before", labels=["worker"]
    )
    for worker, stats in counted:
        batches.add_metric([worker.id], stats.batches)
        _add(items, [worker.id], stats.batch_items)
        retried.add_metric([worker.id], stats.retried)
    yield from (batches, items, retried)


def _tasks(counted: Counted) -> Iterator[Metric]:
    ended = CounterMetricFamily("kshot_tasks", "Items that ended", labels=["worker", "kind", "outcome"])
    queued = HistogramMetricFamily(
        "kshot_queue_seconds", "From an item's arrival to the begin of its batch", labels=["worker", "kind"]
    )
    computed = HistogramMetricFamily(
        "kshot_compute_seconds", "Time that an item's batch computed", labels=["worker", "kind"]
    )
    for worker, stats in counted:
        for one in stats.tasks:
            ended.add_metric([worker.id, one.kind, one.outcome], one.count)
        for family, histograms in ((queued, stats.queue_seconds), (computed, stats.compute_seconds)):
            for kind, histogram in histograms.items():
                _add(family, [worker.id, kind], histogram)
    yield from (ended, queued, computed)


def _caches(counted: Counted) -> Iterator[Metric]:
    labels = ["worker", "cache", "tier"]
    families: dict[str, Metric] = {
        "hits": CounterMetricFamily("kshot_cache_hits", "Found in memory", labels=labels),
        "misses": CounterMetricFamily("kshot_cache_misses", "Not found in memory", labels=labels),
        "evictions": CounterMetricFamily("kshot_cache_evictions", "Pushed out by newer entries", labels=labels),
        "bytes": GaugeMetricFamily("kshot_cache_bytes", "Held now", labels=labels),
        "entries": GaugeMetricFamily("kshot_cache_entries", "Held now", labels=labels),
    }
    for worker, stats in counted:
        for cache in stats.caches:
            for field, family in families.items():
                family.add_metric([worker.id, cache.cache, cache.tier], getattr(cache, field))  # type: ignore[attr-defined]
    yield from families.values()


def _training(figures: Figures) -> Iterator[Metric]:
    jobs = GaugeMetricFamily("kshot_training_jobs", "Meta-training jobs on record", labels=["status"])
    for status in get_args(JobStatus):
        jobs.add_metric([status], figures.jobs.get(status, 0))
    label = ["training_job"]  # `job` is Prometheus's own
    done = GaugeMetricFamily("kshot_training_step", "Steps that an open job has done", labels=label)
    planned = GaugeMetricFamily("kshot_training_steps", "Steps that it will do in all", labels=label)
    age = GaugeMetricFamily(
        "kshot_training_heartbeat_age_seconds", "Since the trainer of a running job was heard of", labels=label
    )
    loss = GaugeMetricFamily(
        "kshot_training_loss", "Mean loss of the steps that an open job reported last", labels=label
    )
    pace = GaugeMetricFamily(
        "kshot_training_steps_per_second", "Pace of a running job at its last report", labels=label
    )
    for job in figures.open_jobs:
        done.add_metric([job.id], job.step)
        for family, value in ((loss, job.loss), (pace, job.steps_per_s)):
            if value is not None:
                family.add_metric([job.id], value)
        if job.total is not None:
            planned.add_metric([job.id], job.total)
        if job.status == "running" and job.heartbeat_s is not None:
            age.add_metric([job.id], job.heartbeat_s)
    yield from (jobs, done, planned, loss, pace, age)


def _disk(figures: Figures) -> Iterator[Metric]:
    if figures.disk is not None:
        of = "of the file system that objects lie on"
        yield GaugeMetricFamily("kshot_objects_size_bytes", f"Size {of}", value=figures.disk.size)
        yield GaugeMetricFamily("kshot_objects_free_bytes", f"Free space {of}", value=figures.disk.free)


def _add(family: HistogramMetricFamily, labels: list[str], histogram: Histogram) -> None:
    bounds: Iterable[float] = (*histogram.bounds, float("inf"))
    buckets = zip(map(floatToGoString, bounds), itertools.accumulate(histogram.counts), strict=True)
    family.add_metric(labels, list(buckets), histogram.sum)
