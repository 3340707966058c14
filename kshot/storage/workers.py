"""Which workers are alive, by the database's clock."""

from dataclasses import dataclass
from typing import Literal

from sqlalchemy import delete, func, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from kshot.contracts.worker_stats import WorkerStats
from kshot.storage.tables import seconds_from_now, workers

Kind = Literal["adaptation", "trainer"]


@dataclass(frozen=True)
class LiveWorker:
    """A worker or trainer seen lately."""

    id: str
    kind: Kind
    device: str


async def worker_seen(
    connection: AsyncConnection, id: str, device: str, kind: Kind = "adaptation", stats: WorkerStats | None = None
) -> None:
    """Note that a worker is alive, and what it has counted."""
    counted = None if stats is None else stats.model_dump(mode="json")
    await connection.execute(
        insert(workers)
        .values(id=id, kind=kind, device=device, stats=counted)
        .on_conflict_do_update(index_elements=[workers.c.id], set_={"seen_at": func.now(), "stats": counted})
    )


async def worker_gone(connection: AsyncConnection, id: str) -> None:
    """Note that a worker left in good order."""
    await connection.execute(delete(workers).where(workers.c.id == id))


async def live_workers(connection: AsyncConnection, within_s: float) -> list[LiveWorker]:
    """Workers and trainers seen within the last ``within_s`` seconds."""
    rows = await connection.execute(
        select(workers.c.id, workers.c.kind, workers.c.device).where(workers.c.seen_at > seconds_from_now(-within_s))
    )
    return [LiveWorker(row.id, row.kind, row.device) for row in rows]


async def forget_workers(connection: AsyncConnection, unseen_s: float) -> None:
    """Drop the rows of workers that ended without saying so."""
    await connection.execute(delete(workers).where(workers.c.seen_at < seconds_from_now(-unseen_s)))
