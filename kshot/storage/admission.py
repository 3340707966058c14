"""How much is waiting: what admission and callers want to know of it. Replays, for which nobody waits, do not count."""

from datetime import datetime

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from kshot.storage.tables import OPEN_TASK, tasks


async def count_open(connection: AsyncConnection, tenant: str) -> tuple[int, int]:
    """Open (queued or running) tasks that callers wait for: of everyone, of this tenant."""
    row = (
        await connection.execute(
            select(func.count(), func.count().filter(tasks.c.tenant_id == tenant)).where(
                tasks.c.status.in_(OPEN_TASK), ~tasks.c.background
            )
        )
    ).one()
    return int(row[0]), int(row[1])


async def queue_position(connection: AsyncConnection, accepted: datetime) -> int:
    """How many callers' tasks accepted before that time are open."""
    position = await connection.scalar(
        select(func.count()).where(tasks.c.status.in_(OPEN_TASK), ~tasks.c.background, tasks.c.created_at < accepted)
    )
    return int(position or 0)
