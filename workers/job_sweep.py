"""What jobs left in the object store that were ended while nobody ran them, or that they may not keep any more."""

import asyncio

import structlog
from sqlalchemy.ext.asyncio import AsyncEngine

from kshot.storage.job_runs import open_jobs, weights_named
from kshot.storage.objects import ObjectStore
from workers.data_folders import is_withdrawn
from workers.job_folder import data_key, job_of
from workers.publishing import made_by

_log = structlog.get_logger()


async def drop_withdrawn(database: AsyncEngine, objects: ObjectStore) -> None:
    """Delete what jobs keep of recorded tasks that were withdrawn, and the states that were trained on them.

    An attempt under way cannot unlearn what it has read; the next one, finding no copy, begins anew.
    """
    stored = await asyncio.to_thread(objects.keys, "jobs")
    for job in {job_of(key) for key in stored if key == data_key(job_of(key))}:
        if await is_withdrawn(database, objects, data_key(job)):
            for key in (key for key in stored if job_of(key) == job):
                await asyncio.to_thread(objects.delete, key)
            _log.info("recorded_tasks_withdrawn", job=job)


async def sweep_jobs(database: AsyncEngine, objects: ObjectStore) -> None:
    """Delete states and data of jobs that are over, and weights of theirs that never became a checkpoint.

    What is stored is listed first, then which jobs are open, then which weights are named: a job that succeeds
    meanwhile is among the open ones, or its weights among the named.
    """
    stored = {key: job_of(key) for key in await asyncio.to_thread(objects.keys, "jobs")}
    weights = {
        key: job for key in await asyncio.to_thread(objects.keys, "checkpoints") if (job := made_by(key)) is not None
    }
    if not stored and not weights:
        return
    async with database.connect() as connection:
        needed = await open_jobs(connection)
        named = await weights_named(connection, list(weights))
    left = [key for key, job in (stored | weights).items() if job not in needed and key not in named]
    for key in left:
        await asyncio.to_thread(objects.delete, key)
