"""What happened to meta-training jobs, numbered 1, 2, ... per job in the order of commit."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from kshot.contracts.jobs import JobEvent
from kshot.storage.training_tables import job_events


@dataclass(frozen=True)
class StoredEvent:
    """One event of a job."""

    seq: int
    at: datetime
    attempt: int
    kind: str
    data: dict[str, Any]


async def insert_events(
    connection: AsyncConnection, job: str, attempt: int, last_seq: int, events: Sequence[JobEvent]
) -> None:
    """Number these events up to ``last_seq``: to be called in the transaction that raised the job's own counter to
    it, whose lock on the job's row makes readers see events in order."""
    if not events:
        return
    first = last_seq - len(events) + 1
    rows = [
        {"job_id": job, "seq": first + i, "attempt": attempt, "kind": event.kind, "data": event.data}
        for i, event in enumerate(events)
    ]
    await connection.execute(insert(job_events), rows)


async def list_events(connection: AsyncConnection, job: str, *, after: int, limit: int) -> list[StoredEvent]:
    """Oldest first, ``after`` (a number) exclusive."""
    rows = await connection.execute(
        select(job_events).where(job_events.c.job_id == job, job_events.c.seq > after).order_by(job_events.c.seq)
        .limit(limit)
    )  # fmt: skip
    return [StoredEvent(row.seq, row.at, row.attempt, row.kind, row.data) for row in rows]
