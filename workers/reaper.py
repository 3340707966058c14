"""Housekeeping that any worker may do at any time."""

import structlog
from sqlalchemy.ext.asyncio import AsyncEngine

from kshot.storage import idempotency, tasks
from kshot.storage.workers import forget_workers

_FORGET_WORKERS_S = 300.0

_log = structlog.get_logger()


async def reap(database: AsyncEngine) -> None:
    """Fail the tasks that ended their worker at every attempt; forget old idempotency keys and workers long gone."""
    async with database.begin() as connection:
        poisoned = await tasks.reap(connection)
    for task_id in poisoned:
        _log.error("task_poisoned", task_id=task_id)
    async with database.begin() as connection:
        await idempotency.sweep(connection)
        await forget_workers(connection, _FORGET_WORKERS_S)
