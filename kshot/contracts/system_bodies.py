"""The state of the whole installation over HTTP."""

from datetime import datetime
from typing import Literal

from pydantic import Field

from kshot.contracts.api import Answer
from kshot.contracts.tasks import Failure


class WorkerState(Answer):
    """A worker or trainer that has not signed off. Its counts are since it started."""

    object: Literal["worker"] = "worker"
    id: str
    kind: str = Field(description="`adaptation` or `trainer`; may grow")
    device: str
    alive: bool = Field(description="Seen lately; one that is not has died, and is forgotten after five minutes")
    started_at: datetime
    seen_at: datetime
    batches: int = 0
    succeeded: int = Field(default=0, description="Items computed")
    failed: int = 0


class QueueState(Answer):
    """Tasks that are not over. ``replays`` follow a moved alias, and nobody waits for them."""

    queued: int
    running: int
    replays: int
    oldest_seconds: float = Field(description="Age of the oldest queued task; 0 where there is none")


class BatchClass(Answer):
    """How many batches held up to ``at_most`` items, and more than the class before; null: any number."""

    at_most: int | None
    batches: int


class CacheState(Answer):
    """One tier of one cache, over all workers. ``hit_rate`` is null until something was asked of it."""

    cache: str = Field(description="`states`, `embeddings`, `supports`, `checkpoints`; may grow")
    tier: str = Field(description="`device` (a GPU's memory) or `host`; may grow")
    hits: int
    misses: int
    evictions: int
    bytes: int
    entries: int
    hit_rate: float | None


class FailureSeen(Answer):
    """Something that failed in the last 24 hours. ``id``: of the adapted model, training job or promotion."""

    object: Literal["failure"] = "failure"
    of: str = Field(description="`task`, `training_job` or `promotion`; may grow")
    id: str
    at: datetime
    error: Failure


class System(Answer):
    """`GET /v1/system`. Counts of workers are those of the workers listed, since each started; they write them down
    every two seconds."""

    object: Literal["system"] = "system"
    version: str
    at: datetime
    workers: list[WorkerState]
    queue: QueueState
    batches: list[BatchClass]
    caches: list[CacheState]
    jobs: dict[str, int] = Field(description="Training jobs on record, by status")
    failures: list[FailureSeen] = Field(description="The latest first, at most 50 of each kind")
