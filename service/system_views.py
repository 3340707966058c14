"""The installation's figures as the API shows them."""

from collections import Counter
from collections.abc import Iterable
from datetime import UTC, datetime

from kshot import __version__
from kshot.contracts.system_bodies import (
    BatchClass,
    CacheState,
    FailureSeen,
    QueueState,
    System,
    WorkerState,
)
from kshot.contracts.worker_stats import BATCH_ITEMS, CacheCount
from kshot.storage.system import RecentFailure, SeenWorker
from service.figures import Figures

_SUMMED = ("hits", "misses", "evictions", "bytes", "entries")


def system(figures: Figures, failures: list[RecentFailure]) -> System:
    """All of it."""
    stats = [worker.stats for worker in figures.workers if worker.stats is not None]
    return System(
        version=__version__,
        at=datetime.now(UTC),
        workers=[_worker(worker, figures.alive_s) for worker in figures.workers],
        queue=_queue(figures),
        batches=_batches(one.batch_items.counts for one in stats),
        caches=_caches(cache for one in stats for cache in one.caches),
        jobs=figures.jobs,
        failures=[FailureSeen(of=one.object, id=one.id, at=one.at, error=one.failure) for one in failures],
    )


def _worker(worker: SeenWorker, alive_s: float) -> WorkerState:
    ended: Counter[str] = Counter()
    for one in () if worker.stats is None else worker.stats.tasks:
        ended[one.outcome] += one.count
    return WorkerState(
        id=worker.id,
        kind=worker.kind,
        device=worker.device,
        alive=worker.age_s <= alive_s,
        started_at=worker.started_at,
        seen_at=worker.seen_at,
        batches=0 if worker.stats is None else worker.stats.batches,
        succeeded=ended["succeeded"],
        failed=ended["failed"],
    )


def _queue(figures: Figures) -> QueueState:
    now = {(one.kind, one.status): one.count for one in figures.waiting}
    return QueueState(
        queued=now.get(("adapt", "queued"), 0),
        running=now.get(("adapt", "running"), 0),
        replays=sum(count for (kind, _), count in now.items() if kind == "replay"),
        oldest_seconds=round(figures.oldest_s, 3),
    )


def _batches(counts: Iterable[tuple[int, ...]]) -> list[BatchClass]:
    """Of all workers together; one that counts in other classes (another version) is left out."""
    n = len(BATCH_ITEMS) + 1
    sums = [sum(column) for column in zip([0] * n, *(own for own in counts if len(own) == n), strict=True)]
    bounds = [*map(int, BATCH_ITEMS), None]
    return [BatchClass(at_most=bound, batches=count) for bound, count in zip(bounds, sums, strict=True)]


def _caches(counts: Iterable[CacheCount]) -> list[CacheState]:
    sums: dict[tuple[str, str], Counter[str]] = {}
    for one in counts:
        own = sums.setdefault((one.cache, one.tier), Counter())
        own.update({field: getattr(one, field) for field in _SUMMED})
    return [
        CacheState(cache=cache, tier=tier, hit_rate=_rate(own), **{field: own[field] for field in _SUMMED})
        for (cache, tier), own in sorted(sums.items())
    ]


def _rate(own: Counter[str]) -> float | None:
    asked = own["hits"] + own["misses"]
    return round(own["hits"] / asked, 4) if asked else None
