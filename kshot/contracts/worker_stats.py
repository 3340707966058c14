"""What an adaptation worker counts, as it says it with every heartbeat: since its start, by this process alone."""

from bisect import bisect_left
from typing import Literal

from kshot.contracts.checkpoints import Stored

CacheName = Literal["states", "embeddings", "supports", "checkpoints"]
Tier = Literal["device", "host"]
Unwanted = Literal["expired", "abandoned"]
"""Why a call is dropped before it is computed: its deadline passed, or its caller left."""

BATCH_ITEMS = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0)
"""Upper bounds of the classes that batches are counted in."""
SECONDS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0)
"""Upper bounds for times in the queue and in computation."""


class Histogram(Stored):
    """``counts[i]``: observations up to ``bounds[i]`` and above the bound before; the last one: above all bounds."""

    bounds: tuple[float, ...]
    counts: tuple[int, ...]
    sum: float


class TaskCount(Stored):
    """Items that ended. ``kind``: ``adapt``, ``replay``, ``predict``, ``oneshot``; ``outcome``: ``succeeded``,
    ``failed``, and of what was not computed, since nobody waited any more, ``expired`` and ``abandoned``."""

    kind: str
    outcome: str
    count: int


class CacheCount(Stored):
    """One tier of one cache. ``bytes`` and ``entries`` are as of now, the others since the worker's start."""

    cache: CacheName
    tier: Tier
    hits: int
    misses: int
    evictions: int
    bytes: int
    entries: int


class WorkerStats(Stored):
    """All of it. ``retried``: claims of tasks whose lease was lost before. Times are in seconds, by kind of item: from
    arrival to the begin of its batch, and of its batch."""

    batches: int
    batch_items: Histogram
    tasks: tuple[TaskCount, ...]
    queue_seconds: dict[str, Histogram]
    compute_seconds: dict[str, Histogram]
    caches: tuple[CacheCount, ...]
    retried: int = 0


class Tally:
    """A histogram that grows."""

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self._bounds = bounds
        self._counts = [0] * (len(bounds) + 1)
        self._sum = 0.0

    def add(self, value: float) -> None:
        """Count one observation."""
        self._counts[bisect_left(self._bounds, value)] += 1
        self._sum += value

    def histogram(self) -> Histogram:
        """As it is now."""
        return Histogram(bounds=self._bounds, counts=tuple(self._counts), sum=round(self._sum, 6))
