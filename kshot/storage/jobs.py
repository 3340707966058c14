"""Meta-training jobs as callers see and steer them. Their queue is their table; :mod:`kshot.storage.job_runs` is the
trainer's side of it."""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Select, func, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.engine import Row
from sqlalchemy.ext.asyncio import AsyncConnection

from kshot.contracts.checkpoints import EvaluationRow, Manifest
from kshot.contracts.errors import Conflict, NotFound
from kshot.contracts.jobs import EventKind, JobEvent, JobSpec, JobStatus
from kshot.contracts.tasks import Failure
from kshot.storage.checkpoints import hold_checkpoint
from kshot.storage.job_events import insert_events
from kshot.storage.tables import checkpoints
from kshot.storage.training_tables import training_jobs

_RESTING = ("cancelled", "succeeded", "failed")


@dataclass(frozen=True)
class NewJob:
    """A job to record. ``request``: the body as it was sent. ``trace``: of its request (`kshot.tracing`)."""

    tenant: str
    base_checkpoint: str | None
    request: dict[str, Any]
    spec: JobSpec
    request_id: str | None
    trace: str | None = None


@dataclass(frozen=True)
class StoredJob:
    """A job as its row tells it; ``evaluation`` is that of the checkpoint it made."""

    id: str
    name: str
    dataset: str
    base_checkpoint: str | None
    request: dict[str, Any]
    spec: JobSpec
    status: JobStatus
    attempt: int
    phase: str
    step: int
    total: int | None
    steps_per_s: float | None
    saved_step: int
    last_seq: int
    failure: Failure | None
    checkpoint: str | None
    evaluation: list[EvaluationRow]
    heartbeat_at: datetime | None
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None

    @property
    def is_finished(self) -> bool:
        """Whether nothing will happen to it any more."""
        return self.status in _RESTING


async def insert_job(connection: AsyncConnection, job: NewJob) -> None:
    """Record a job as queued, with its first event.

    Its base checkpoint stays as long as it is open. Raises NotFound and Expired as `hold_checkpoint`.
    """
    spec = job.spec
    if job.base_checkpoint is not None:
        await hold_checkpoint(connection, job.base_checkpoint)
    await connection.execute(
        insert(training_jobs).values(
            id=spec.job,
            tenant_id=job.tenant,
            name=spec.recipe.name,
            dataset_id=spec.dataset,
            base_checkpoint_id=job.base_checkpoint,
            request=job.request,
            spec=spec.model_dump(mode="json"),
            total=None if spec.minutes is not None else spec.recipe.training.steps,
            last_seq=1,
            request_id=job.request_id,
            trace=job.trace,
        )
    )
    await insert_events(connection, spec.job, 0, 1, [JobEvent(kind="queued")])


async def get_job(connection: AsyncConnection, id: str) -> StoredJob:
    """One job. Raises NotFound."""
    row = (await connection.execute(_all().where(training_jobs.c.id == id))).one_or_none()
    if row is None:
        raise NotFound("no training job with this id")
    return _job(row)


async def list_jobs(
    connection: AsyncConnection,
    *,
    limit: int,
    after: str | None,
    statuses: Collection[str] = (),
    name: str | None = None,
    dataset: str | None = None,
) -> list[StoredJob]:
    """Newest first, ``after`` exclusive. Of these ``statuses``, of checkpoints of this ``name``, on the data set of
    this id, where they are given."""
    query = _all() if after is None else _all().where(training_jobs.c.id < after)
    if statuses:
        query = query.where(training_jobs.c.status.in_(statuses))
    if name is not None:
        query = query.where(training_jobs.c.name == name)
    if dataset is not None:
        query = query.where(training_jobs.c.dataset_id == dataset)
    rows = await connection.execute(query.order_by(training_jobs.c.id.desc()).limit(limit))
    return [_job(row) for row in rows]


async def cancel_job(connection: AsyncConnection, id: str) -> None:
    """Ask for the end of a job; one that nobody runs has ended with this. Asking twice is asking once.

    Raises NotFound, and Conflict where it has ended in another way.
    """
    status, is_run = await _locked(connection, id)
    if status in ("succeeded", "failed"):
        raise Conflict(f"the job has {status}; there is nothing left to cancel")
    if status == "cancelled" or (status == "cancelling" and is_run):
        return
    if is_run:
        await _move(connection, id, "cancelling")
    else:
        await _move(connection, id, "cancelled", "cancelled", finished_at=func.clock_timestamp(), lease_until=None)


async def pause_job(connection: AsyncConnection, id: str) -> None:
    """Ask a queued or running job to save its state and wait; one that nobody runs waits from now on. Asking twice is
    asking once.

    Raises NotFound, and Conflict in any other status.
    """
    status, is_run = await _locked(connection, id)
    if status == "paused" or (status == "pausing" and is_run):
        return
    if status not in ("queued", "running", "pausing"):
        raise Conflict(f"only a queued or running job can be paused; this one is {status}")
    if is_run:
        await _move(connection, id, "pausing")
    else:
        await _move(connection, id, "paused", "paused", lease_until=None)


async def resume_job(connection: AsyncConnection, id: str) -> None:
    """Queue a paused job again. Raises NotFound, and Conflict in any other status."""
    status, _ = await _locked(connection, id)
    if status != "paused":
        raise Conflict(f"only a paused job can be resumed; this one is {status}")
    await _move(connection, id, "queued", "queued", barren=0)


async def _locked(connection: AsyncConnection, id: str) -> tuple[JobStatus, bool]:
    """A job's status, and whether a trainer holds it; the row is locked until the transaction ends."""
    held = func.coalesce(training_jobs.c.lease_until > func.clock_timestamp(), False).label("held")
    row = (
        await connection.execute(
            select(training_jobs.c.status, held).where(training_jobs.c.id == id).with_for_update()
        )
    ).one_or_none()  # fmt: skip
    if row is None:
        raise NotFound("no training job with this id")
    return row.status, row.held


async def _move(
    connection: AsyncConnection, id: str, status: JobStatus, event: EventKind | None = None, **values: Any
) -> None:
    """Give a locked job a status and, where ``event`` names one, an event."""
    events = [] if event is None else [JobEvent(kind=event)]
    row = (
        await connection.execute(
            update(training_jobs)
            .where(training_jobs.c.id == id)
            .values(status=status, last_seq=training_jobs.c.last_seq + len(events), **values)
            .returning(training_jobs.c.attempt, training_jobs.c.last_seq)
        )
    ).one()
    await insert_events(connection, id, row.attempt, row.last_seq, events)


def _all() -> Select[Any]:
    joined = training_jobs.outerjoin(checkpoints, checkpoints.c.id == training_jobs.c.checkpoint_id)
    return select(training_jobs, checkpoints.c.manifest.label("made")).select_from(joined)


def _job(row: Row[Any]) -> StoredJob:
    return StoredJob(
        id=row.id,
        name=row.name,
        dataset=row.dataset_id,
        base_checkpoint=row.base_checkpoint_id,
        request=row.request,
        spec=JobSpec.model_validate(row.spec),
        status=row.status,
        attempt=row.attempt,
        phase=row.phase,
        step=row.step,
        total=row.total,
        steps_per_s=row.steps_per_s,
        saved_step=row.state_step,
        last_seq=row.last_seq,
        failure=None if row.failure is None else Failure.model_validate(row.failure),
        checkpoint=row.checkpoint_id,
        evaluation=[] if row.made is None else list(Manifest.model_validate(row.made).evaluation),
        heartbeat_at=row.heartbeat_at,
        created_at=row.created_at,
        started_at=row.started_at,
        finished_at=row.finished_at,
    )
