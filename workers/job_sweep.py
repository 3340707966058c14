"""What jobs left in the object store that were ended while nobody ran them."""

import asyncio

from sqlalchemy.ext.asyncio import AsyncEngine

from kshot.storage.job_runs import open_jobs, weights_named
from kshot.storage.objects import ObjectStore
from workers.job_folder import job_of
from workers.publishing import made_by


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
