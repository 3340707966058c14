"""What an administrator wants to know of the whole installation, as the database has it now."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from pydantic import ValidationError
from sqlalchemy import Float, Select, case, cast, func, literal, select, union_all
from sqlalchemy.ext.asyncio import AsyncConnection

from kshot.contracts.jobs import OPEN_STATUSES
from kshot.contracts.tasks import Failure
from kshot.contracts.worker_stats import WorkerStats
from kshot.storage.tables import OPEN_TASK, seconds_from_now, tasks, workers
from kshot.storage.training_tables import job_events, promotions, training_jobs
from kshot.storage.workers import Kind

Failing = Literal["task", "training_job", "promotion"]


@dataclass(frozen=True)
class SeenWorker:
    """A worker or trainer that has not signed off, seen ``age_s`` seconds ago. ``stats``: None where it counts nothing,
    or in another version's form."""

    id: str
    kind: Kind
    device: str
    started_at: datetime
    seen_at: datetime
    age_s: float
    stats: WorkerStats | None


@dataclass(frozen=True)
class Waiting:
    """Open tasks of one kind (``adapt``; ``replay``: nobody waits for them) and status, and the age of the oldest."""

    kind: str
    status: str
    count: int
    oldest_s: float


@dataclass(frozen=True)
class OpenJob:
    """A meta-training job that has not ended. ``loss``: as its trainer reported last. ``heartbeat_s``: since it was
    heard of."""

    id: str
    status: str
    step: int
    total: int | None
    loss: float | None
    steps_per_s: float | None
    heartbeat_s: float | None


@dataclass(frozen=True)
class RecentFailure:
    """A task, job or promotion that failed. ``id`` is the adapted model's where a task failed: what callers know."""

    object: Failing
    id: str
    at: datetime
    failure: Failure


async def seen_workers(connection: AsyncConnection) -> list[SeenWorker]:
    """All that are on record, the oldest first; those that died without a word stay for some minutes."""
    age = func.extract("epoch", func.clock_timestamp() - workers.c.seen_at).label("age")
    rows = await connection.execute(select(workers, age).order_by(workers.c.started_at, workers.c.id))
    return [
        SeenWorker(
            row.id, row.kind, row.device, row.started_at, row.seen_at, max(0.0, float(row.age)), _stats(row.stats)
        )
        for row in rows
    ]


async def open_tasks(connection: AsyncConnection) -> list[Waiting]:
    """By kind and status; what is not there has no entry."""
    kind = case((tasks.c.background, "replay"), else_="adapt").label("kind")
    age = func.extract("epoch", func.clock_timestamp() - func.min(tasks.c.created_at)).label("age")
    rows = await connection.execute(
        select(kind, tasks.c.status, func.count().label("n"), age)
        .where(tasks.c.status.in_(OPEN_TASK))
        .group_by(kind, tasks.c.status)
    )
    return [Waiting(row.kind, row.status, row.n, max(0.0, float(row.age))) for row in rows]


async def count_jobs(connection: AsyncConnection) -> dict[str, int]:
    """Meta-training jobs on record, by status."""
    status = training_jobs.c.status
    rows = await connection.execute(select(status, func.count().label("n")).group_by(status))
    return {row.status: row.n for row in rows}


async def open_jobs(connection: AsyncConnection) -> list[OpenJob]:
    """The oldest first."""
    job = training_jobs.c
    since = func.extract("epoch", func.clock_timestamp() - job.heartbeat_at)
    loss = (
        select(job_events.c.data["loss"].as_float())
        .where(job_events.c.job_id == job.id, job_events.c.kind == "step")
        .order_by(job_events.c.seq.desc()).limit(1).scalar_subquery()
    )  # fmt: skip
    age = case((since < 0, 0.0), else_=cast(since, Float))
    query = select(job.id, job.status, job.step, job.total, loss, job.steps_per_s, age)
    rows = await connection.execute(query.where(job.status.in_(OPEN_STATUSES)).order_by(job.id))
    return [OpenJob(*row) for row in rows]


async def recent_failures(connection: AsyncConnection, within_s: float, limit: int) -> list[RecentFailure]:
    """What failed lately, the latest first, at most ``limit`` of each kind of object."""
    query = union_all(
        *(part.order_by(part.selected_columns.at.desc()).limit(limit).subquery().select() for part in _failed(within_s))
    )
    rows = await connection.execute(query)
    found = [RecentFailure(row.object, row.id, row.at, Failure.model_validate(row.failure)) for row in rows]
    return sorted(found, key=lambda one: one.at, reverse=True)


async def count_failures(connection: AsyncConnection, within_s: float) -> dict[Failing, int]:
    """How many of each kind of object failed lately."""
    counts = [select(part.subquery().c.object) for part in _failed(within_s)]
    every = union_all(*counts).subquery()
    rows = await connection.execute(select(every.c.object, func.count().label("n")).group_by(every.c.object))
    return {row.object: row.n for row in rows}


def _failed(within_s: float) -> list[Select[Any]]:
    kinds: list[tuple[Failing, Any, Any]] = [
        ("task", tasks, tasks.c.adapted_model_id),
        ("training_job", training_jobs, training_jobs.c.id),
        ("promotion", promotions, promotions.c.id),
    ]
    return [
        select(literal(name).label("object"), shown.label("id"), table.c.finished_at.label("at"), table.c.failure)
        .where(table.c.status == "failed", table.c.finished_at > seconds_from_now(-within_s))
        .where(table.c.failure.is_not(None))
        for name, table, shown in kinds
    ]


def _stats(stored: dict[str, Any] | None) -> WorkerStats | None:
    """A worker of another version may count other things: while a deployment rolls, it is shown without."""
    try:
        return None if stored is None else WorkerStats.model_validate(stored)
    except ValidationError:
        return None
