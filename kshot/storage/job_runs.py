"""The trainer's side of meta-training jobs: claim, report, save, end.

A job is held by (attempt, worker). Whatever a trainer writes later is conditional on that pair still holding it, so one
that was stopped past its lease touches nothing.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ARRAY, ColumnElement, Text, and_, any_, case, func, literal, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from kshot.contracts.errors import Poison
from kshot.contracts.jobs import OPEN_STATUSES, EventKind, JobEvent, JobSpec, JobStatus
from kshot.contracts.tasks import Failure
from kshot.storage.job_events import insert_events
from kshot.storage.tables import checkpoints, seconds_from_now
from kshot.storage.training_tables import training_jobs

MAX_DEATHS_AT_ONCE, MAX_DEATHS = 5, 20
"""Attempts in a row that may die before their first step, or before they save a new one; then the job is given up. The
first kind says more: whoever is killed for other reasons, more often than it saves, still gets to train."""

_AT_ONCE = MAX_DEATHS // MAX_DEATHS_AT_ONCE

_HELD = ("running", "pausing", "cancelling")
_POISON = Failure(
    code=Poison.code,
    message="training died again and again without getting any further, and did not say why; if it ran out of memory, "
    "a smaller meta_batch, smaller pictures or a smaller encoder helps; the trainer's log tells the operator more",
)
_PROGRESS: dict[str, tuple[str, ...]] = {
    "total": ("total",), "step": ("step", "steps_per_s"), "saved": ("step",), "resumed": ("step",), "phase": ("phase",),
}  # fmt: skip
"""What an event says about the job as a whole: names in its data and columns of the job."""


@dataclass(frozen=True)
class JobClaim:
    """The right to work on a job until the lease ends, where it goes on, and the request that it comes from."""

    job: str
    attempt: int
    worker: str
    spec: JobSpec
    state_key: str | None
    state_step: int
    request_id: str | None = None
    trace: str | None = None


@dataclass(frozen=True)
class SavedState:
    """A run's saved state in the object store."""

    key: str
    step: int


async def claim_job(connection: AsyncConnection, worker: str, lease_s: float) -> JobClaim | None:
    """Claim the oldest job that is queued, or whose trainer has lost its lease; None where there is none.

    What needs no trainer any more is ended on the way, or it would be claimed: see `end_unheld`.
    """
    await end_unheld(connection)
    picked = (
        select(training_jobs.c.id).where(_unheld("running")).order_by(training_jobs.c.created_at).limit(1)
        .with_for_update(skip_locked=True).scalar_subquery()
    )  # fmt: skip
    row = (
        await connection.execute(
            update(training_jobs)
            .where(training_jobs.c.id == picked)
            .values(
                status="running",
                attempt=training_jobs.c.attempt + 1,
                barren=training_jobs.c.barren + _AT_ONCE,
                step=training_jobs.c.state_step,
                worker=worker,
                lease_until=seconds_from_now(lease_s),
                heartbeat_at=func.clock_timestamp(),
                started_at=func.coalesce(training_jobs.c.started_at, func.clock_timestamp()),
                last_seq=training_jobs.c.last_seq + 1,
            )
            .returning(training_jobs)
        )
    ).one_or_none()
    if row is None:
        return None
    await insert_events(connection, row.id, row.attempt, row.last_seq, [JobEvent(kind="started")])
    spec = JobSpec.model_validate(row.spec)
    where = row.state_key, row.state_step
    return JobClaim(row.id, row.attempt, worker, spec, *where, row.request_id, row.trace)


async def report(
    connection: AsyncConnection,
    claim: JobClaim,
    lease_s: float,
    events: Sequence[JobEvent] = (),
    saved: SavedState | None = None,
) -> JobStatus | None:
    """Extend the lease; add events, and the state saved with them. Returns the job's status: ``pausing`` or
    ``cancelling`` is a wish. None: the job is another's by now, or nobody's, and nothing was written."""
    job, values = training_jobs.c, progress_of(events)
    if any(event.kind == "step" or event.data.get("phase") == "evaluating" for event in events):
        first = job.step == job.state_step  # of this attempt, which cost as much as one that dies at once
        values["barren"] = case((first, func.greatest(job.barren - _AT_ONCE + 1, 0)), else_=job.barren)
    if saved is not None:
        values |= {"state_key": saved.key, "state_step": saved.step}
        values["barren"] = case((saved.step > job.state_step, 0), else_=values.get("barren", job.barren))
    values |= {"lease_until": seconds_from_now(lease_s), "heartbeat_at": func.clock_timestamp()}
    return await _write(connection, claim, events, values)


async def succeed(connection: AsyncConnection, claim: JobClaim, checkpoint: str) -> bool:
    """The job has made this checkpoint, registered in the same transaction. False: it is not ours, or cancelled."""
    ended = JobEvent(kind="succeeded", data={"checkpoint": checkpoint})
    values = {**_ended("succeeded"), "checkpoint_id": checkpoint}
    return await _write(connection, claim, [ended], values, ("running", "pausing")) is not None


async def fail(connection: AsyncConnection, claim: JobClaim, failure: Failure) -> bool:
    """The job has failed for good. False: it is not ours, or cancelled."""
    ended = JobEvent(kind="failed", data=failure.model_dump())
    values = {**_ended("failed"), "failure": failure.model_dump()}
    return await _write(connection, claim, [ended], values, ("running", "pausing")) is not None


async def let_go(
    connection: AsyncConnection, claim: JobClaim, *, spent: bool, reason: str | None = None
) -> JobStatus | None:
    """This attempt is over and the job is not: it is paused or cancelled where that was wished for, else queued again.

    ``spent``: the attempt counts, because the training died (``reason`` says how); one that was stopped does not.
    Returns the job's status. None: it was not ours any more.
    """
    status = await _write(connection, claim, [], {})  # locks the row: the wish cannot change below us
    if status is None:
        return None
    after, kind = _AFTERWARDS[status]
    said = JobEvent(kind=kind, data={} if reason is None else {"reason": reason})
    values: dict[str, Any] = _ended(after) if after == "cancelled" else {"status": after, "lease_until": None}
    if not spent:
        cost = case((training_jobs.c.step > training_jobs.c.state_step, 1), else_=_AT_ONCE)
        values["barren"] = func.greatest(training_jobs.c.barren - cost, 0)
    return await _write(connection, claim, [said], values)


async def is_succeeded(connection: AsyncConnection, claim: JobClaim) -> bool:
    """Whether this very attempt has succeeded: Postgres may commit that and go away before it says so."""
    row = (
        await connection.execute(
            select(training_jobs.c.status, training_jobs.c.attempt).where(training_jobs.c.id == claim.job)
        )
    ).one()
    return bool(row.status == "succeeded" and row.attempt == claim.attempt)


async def open_jobs(connection: AsyncConnection) -> set[str]:
    """The ids of all jobs that may still need what they left in the object store."""
    found = await connection.execute(select(training_jobs.c.id).where(training_jobs.c.status.in_(OPEN_STATUSES)))
    return set(found.scalars())


async def weights_named(connection: AsyncConnection, keys: Sequence[str]) -> set[str]:
    """Those of the keys in the object store at which a checkpoint has its weights."""
    asked = literal(list(keys), ARRAY(Text))
    found = await connection.execute(select(checkpoints.c.object_key).where(checkpoints.c.object_key == any_(asked)))
    return set(found.scalars())


def progress_of(events: Sequence[JobEvent]) -> dict[str, Any]:
    """The columns that these events, oldest first, bring up to date."""
    return {
        name: event.data[name]
        for event in events
        for name in _PROGRESS.get(event.kind, ())
        if event.data.get(name) is not None
    }


_AFTERWARDS: dict[JobStatus, tuple[JobStatus, EventKind]] = {
    "running": ("queued", "released"),
    "pausing": ("paused", "paused"),
    "cancelling": ("cancelled", "cancelled"),
}


def _ended(status: JobStatus) -> dict[str, Any]:
    return {"status": status, "finished_at": func.clock_timestamp(), "lease_until": None, "steps_per_s": None}


def _unheld(*statuses: str) -> ColumnElement[bool]:
    """Queued, or of these statuses with a lease that has ended."""
    lost = and_(training_jobs.c.status.in_(statuses), training_jobs.c.lease_until < func.now())
    return or_(training_jobs.c.status == "queued", lost)


async def end_unheld(connection: AsyncConnection) -> None:
    """End what needs no trainer any more: jobs to be paused or cancelled that nobody holds, and those whose attempts
    die too often. A trainer that has a job of its own does this beside it: nobody else may be there."""
    job = training_jobs.c
    wished = and_(job.status.in_(["pausing", "cancelling"]), job.lease_until < func.now())
    given_up = and_(_unheld("running"), job.barren >= MAX_DEATHS)
    rows = await connection.execute(
        select(job.id, job.attempt, job.status).where(or_(wished, given_up)).with_for_update(skip_locked=True)
    )
    for row in rows.all():
        event, values = _unheld_end(row.status)
        statement = update(training_jobs).where(job.id == row.id).values(last_seq=job.last_seq + 1, **values)
        last_seq = (await connection.execute(statement.returning(job.last_seq))).scalar_one()
        await insert_events(connection, row.id, row.attempt, last_seq, [event])


def _unheld_end(status: JobStatus) -> tuple[JobEvent, dict[str, Any]]:
    """How a job of this status ends when no trainer is there to do it."""
    if status == "pausing":
        return JobEvent(kind="paused"), {"status": "paused", "lease_until": None}
    if status == "cancelling":
        return JobEvent(kind="cancelled"), _ended("cancelled")
    return JobEvent(kind="failed", data=_POISON.model_dump()), {**_ended("failed"), "failure": _POISON.model_dump()}


async def _write(
    connection: AsyncConnection,
    claim: JobClaim,
    events: Sequence[JobEvent],
    values: Mapping[str, Any],
    statuses: Sequence[str] = _HELD,
) -> JobStatus | None:
    """Change the row and add the events where the claim still holds; returns the status then, else None."""
    row = (
        await connection.execute(
            update(training_jobs)
            .where(
                training_jobs.c.id == claim.job,
                training_jobs.c.attempt == claim.attempt,
                training_jobs.c.worker == claim.worker,
                training_jobs.c.status.in_(statuses),
            )
            .values(last_seq=training_jobs.c.last_seq + len(events), **values)
            .returning(training_jobs.c.status, training_jobs.c.last_seq)
        )
    ).one_or_none()
    if row is None:
        return None
    await insert_events(connection, claim.job, claim.attempt, row.last_seq, events)
    status: JobStatus = row.status
    return status
