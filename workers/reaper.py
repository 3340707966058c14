"""Housekeeping that any worker may do at any time."""

import asyncio

import structlog
from sqlalchemy.ext.asyncio import AsyncEngine

from kshot.storage import idempotency, tasks
from kshot.storage.expiry import erase_states, erase_supports
from kshot.storage.following import catch_up
from kshot.storage.objects import ObjectStore, state_keys
from kshot.storage.revisions import note_failure
from kshot.storage.workers import forget_workers
from workers.job_sweep import drop_withdrawn

_FORGET_WORKERS_S = 300.0
_ERASED_AT_ONCE = 50

_log = structlog.get_logger()


async def reap(database: AsyncEngine, objects: ObjectStore) -> None:
    """Fail the tasks that ended their worker at every attempt; start what follows an alias and was not started by its
    move; forget old idempotency keys and workers long gone."""
    async with database.begin() as connection:
        poisoned = await tasks.reap(connection)
        for task in poisoned:
            if task.background and task.checkpoint is not None:
                reason = "the replay ended its worker at every attempt"
                await note_failure(connection, task.adapted_model, task.checkpoint, reason)
    for task in poisoned:
        _log.error("task_poisoned", task_id=task.task_id)
    await asyncio.to_thread(_delete_states, objects, {task.task_id: task.attempts for task in poisoned})
    async with database.begin() as connection:
        started = await catch_up(connection)
    if started:
        _log.info("models_follow", count=started)
    async with database.begin() as connection:
        await idempotency.sweep(connection)
        await forget_workers(connection, _FORGET_WORKERS_S)


async def erase(database: AsyncEngine, objects: ObjectStore) -> None:
    """Erase what expired models leave, a few in each transaction; and the copies that jobs keep of what was withdrawn.

    The states go before the transaction ends: where one of them cannot be deleted, the next turn finds it again.
    """
    while True:
        async with database.begin() as connection:
            attempts = await erase_states(connection, _ERASED_AT_ONCE)
            await asyncio.to_thread(_delete_states, objects, attempts)
        if not attempts:
            break
        _log.info("states_erased", tasks=len(attempts))
    erased = _ERASED_AT_ONCE
    while erased == _ERASED_AT_ONCE:
        async with database.begin() as connection:
            erased = await erase_supports(connection, _ERASED_AT_ONCE)
        if erased:
            _log.info("supports_erased", models=erased)
    await drop_withdrawn(database, objects)


def _delete_states(objects: ObjectStore, attempts: dict[str, int]) -> None:
    for task_id, made in attempts.items():
        for key in state_keys(task_id, made):
            objects.delete(key)
