"""The life of an adapt task: accept, claim (kshot/storage/claiming.py), heartbeat, complete or fail, reap ("Delivery",
ARCHITECTURE.md).

A task is claimed by (attempt, worker). Whatever a worker writes later is conditional on that pair still holding
the lease, so a worker that was stopped past its lease touches nothing.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import and_, func, select, tuple_, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from kshot.contracts.errors import Poison
from kshot.contracts.tasks import PAYLOAD_VERSION, Failure
from kshot.storage.results import NewResult, insert_result
from kshot.storage.tables import adapted_models, results, seconds_from_now, tasks

_REAPER_LOCK = 0x6B73686F74  # "kshot"


@dataclass(frozen=True)
class NewTask:
    """A task to record; its adapted model is inserted in the same transaction. ``checkpoint`` None: one of the
    payload's candidates, to be chosen by the worker, and so is then the learner. ``query``: what was asked with the
    support, as a payload of its own, so that it can be erased alone. ``trace``: of its request (`kshot.tracing`)."""

    id: str
    tenant: str
    adapted_model: str
    checkpoint: str | None
    learner: str | None
    payload: bytes
    reply_to: str | None
    request_id: str | None
    query: bytes | None = None
    trace: str | None = None


@dataclass(frozen=True)
class Claim:
    """The right to work on a task until the lease ends. Without ``checkpoint`` and ``learner`` the payload's
    candidates have them. ``background``: a replay (storage/following.py), for which nobody waits. ``received``: when it
    was claimed, by this process' clock."""

    task_id: str
    attempt: int
    worker: str
    tenant: str
    adapted_model: str
    checkpoint: str | None
    learner: str | None
    payload: bytes
    reply_to: str | None
    request_id: str | None
    queue_ms: float
    background: bool = False
    query: bytes | None = None
    trace: str | None = None
    received: float = field(default_factory=time.monotonic, compare=False)

    @property
    def bytes(self) -> int:
        """What it brings, encoded."""
        return len(self.payload) + len(self.query or b"")


@dataclass(frozen=True)
class Ended:
    """A task that ended: with a failure, or with a result row (``kept``). Neither: a replay whose state was no better
    than the one that answers already."""

    failure: Failure | None
    kept: bool


@dataclass(frozen=True)
class Poisoned:
    """A task that ended its worker at each of ``attempts``, and was given up."""

    task_id: str
    adapted_model: str
    checkpoint: str | None
    attempts: int
    background: bool


async def insert_task(connection: AsyncConnection, task: NewTask) -> None:
    """Record a task as queued."""
    await connection.execute(
        insert(tasks).values(
            id=task.id,
            tenant_id=task.tenant,
            adapted_model_id=task.adapted_model,
            checkpoint_id=task.checkpoint,
            learner=task.learner,
            payload=task.payload,
            payload_version=PAYLOAD_VERSION,
            query=task.query,
            reply_to=task.reply_to,
            request_id=task.request_id,
            trace=task.trace,
        )
    )


async def heartbeat(connection: AsyncConnection, claims: Sequence[Claim], lease_s: float) -> set[str]:
    """Extend the leases still held; returns the task ids among them. A claim that is missing must be dropped."""
    if not claims:
        return set()
    held = await connection.execute(
        update(tasks)
        .where(
            tuple_(tasks.c.id, tasks.c.attempt, tasks.c.worker).in_([(c.task_id, c.attempt, c.worker) for c in claims]),
            tasks.c.status == "running",
        )
        .values(lease_until=seconds_from_now(lease_s))
        .returning(tasks.c.id)
    )
    return set(held.scalars())


async def complete(connection: AsyncConnection, claim: Claim, result: NewResult) -> bool:
    """Mark the task succeeded and insert its one result row. False: the lease was lost, and nothing was written.

    Of a replay more is to be done: `storage.revisions`.
    """
    kept = {} if result.payload is None else {"payload": result.payload, "payload_version": PAYLOAD_VERSION}
    if not await finish(connection, claim, status="succeeded", failure=None, **kept):
        return False
    await insert_result(connection, claim.task_id, claim.adapted_model, result)
    return True


async def fail(connection: AsyncConnection, claim: Claim, failure: Failure) -> bool:
    """Mark the task failed for good. False: the lease was lost, and nothing was written."""
    if claim.background:
        return await finish(connection, claim, status="failed", failure=failure.model_dump())
    # no model, so nothing is to be made from the support any more
    if not await finish(connection, claim, status="failed", failure=failure.model_dump(), payload=None):
        return False
    await _forget_fingerprints(connection, [claim.adapted_model])
    return True


async def was_ended(connection: AsyncConnection, claim: Claim) -> Ended | None:
    """How this very attempt ended the task before; None where it did not, or the model was deleted since."""
    row = (
        await connection.execute(
            select(tasks.c.failure, results.c.task_id.is_not(None).label("kept"))
            .join(adapted_models, adapted_models.c.id == tasks.c.adapted_model_id)
            .outerjoin(results, results.c.task_id == tasks.c.id)
            .where(
                tasks.c.id == claim.task_id,
                tasks.c.attempt == claim.attempt,
                tasks.c.worker == claim.worker,
                tasks.c.status.in_(["succeeded", "failed"]),
                adapted_models.c.deleted_at.is_(None),
            )
        )
    ).one_or_none()
    if row is None:
        return None
    return Ended(None if row.failure is None else Failure.model_validate(row.failure), row.kept)


async def release(connection: AsyncConnection, claims: Sequence[Claim]) -> None:
    """Give claimed tasks back, unspent: a draining worker or one whose object store is full did not try them."""
    for claim in claims:
        await connection.execute(
            update(tasks).where(_held_by(claim)).values(status="queued", attempt=tasks.c.attempt - 1, lease_until=None)
        )


async def reap(connection: AsyncConnection) -> list[Poisoned]:
    """Fail the tasks whose last allowed attempt lost its lease.

    Expired leases with attempts left need nothing: `claim` takes them. One reaper at a time (advisory lock).
    """
    if not await connection.scalar(select(func.pg_try_advisory_xact_lock(_REAPER_LOCK))):
        return []
    failure = Failure(code=Poison.code, message="the task ended its worker at every attempt; change the support set")
    poisoned = await connection.execute(
        update(tasks)
        .where(
            tasks.c.status == "running",
            tasks.c.lease_until < func.now(),
            tasks.c.attempt >= tasks.c.max_attempts,
        )
        .values(status="failed", failure=failure.model_dump(), finished_at=func.now(), payload=None, query=None)
        .returning(tasks.c.id, tasks.c.adapted_model_id, tasks.c.checkpoint_id, tasks.c.attempt, tasks.c.background)
    )
    found = [Poisoned(*row) for row in poisoned]
    await _forget_fingerprints(connection, [task.adapted_model for task in found if not task.background])
    return found


def _held_by(claim: Claim) -> Any:
    return and_(
        tasks.c.id == claim.task_id,
        tasks.c.attempt == claim.attempt,
        tasks.c.worker == claim.worker,
        tasks.c.status == "running",
    )


async def finish(connection: AsyncConnection, claim: Claim, **values: Any) -> bool:
    """End a task that is still ours; nobody needs what was asked any more. False: the lease was lost, and nothing was
    written."""
    ended = {"finished_at": func.clock_timestamp(), "lease_until": None, "query": None}
    done = await connection.execute(update(tasks).where(_held_by(claim)).values(ended | values))
    return done.rowcount == 1


async def _forget_fingerprints(connection: AsyncConnection, models: Sequence[str]) -> None:
    """A failed model must not be handed out when the same support comes again."""
    await connection.execute(update(adapted_models).where(adapted_models.c.id.in_(models)).values(fingerprint=None))
