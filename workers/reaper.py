"""Housekeeping that any worker may do at any time."""

import asyncio

import structlog
from sqlalchemy.ext.asyncio import AsyncEngine

from kshot.storage import idempotency, tasks
from kshot.storage.expiry import erase_expired
from kshot.storage.objects import ObjectStore, state_keys
from kshot.storage.workers import forget_workers

_FORGET_WORKERS_S = 300.0
_ERASED_AT_ONCE = 50

_log = structlog.get_logger()


async def reap(database: AsyncEngine, objects: ObjectStore) -> None:
    """Fail the tasks that ended their worker at every attempt; forget old idempotency keys and workers long gone."""
    async with database.begin() as connection:
        poisoned = await tasks.reap(connection)
    for task_id in poisoned:
        _log.error("task_poisoned", task_id=task_id)
    await asyncio.to_thread(_delete_states, objects, poisoned)
    async with database.begin() as connection:
        await idempotency.sweep(connection)
        await forget_workers(connection, _FORGET_WORKERS_S)


async def erase(database: AsyncEngine, objects: ObjectStore) -> None:
    """Erase what expired models leave, a few in each transaction.

    The states go before the transaction ends: where one of them cannot be deleted, the next turn finds it again.
    """
    erased = _ERASED_AT_ONCE
    while erased == _ERASED_AT_ONCE:
        async with database.begin() as connection:
            attempts = await erase_expired(connection, _ERASED_AT_ONCE)
            await asyncio.to_thread(_delete_states, objects, attempts)
        erased = len(attempts)
        if erased:
            _log.info("models_erased", count=erased)


def _delete_states(objects: ObjectStore, attempts: dict[str, int]) -> None:
    for task_id, made in attempts.items():
        for key in state_keys(task_id, made):
            objects.delete(key)
