"""From a request for a meta-training job to what runs."""

from sqlalchemy.ext.asyncio import AsyncConnection

from kshot.contracts.errors import KshotError
from kshot.contracts.job_bodies import NewJobRequest
from kshot.contracts.jobs import JobSpec
from kshot.planning.plan import minutes, plan
from kshot.storage.checkpoints import StoredCheckpoint, resolve
from kshot.storage.datasets import get_dataset


async def job_spec(
    connection: AsyncConnection, id: str, wanted: NewJobRequest
) -> tuple[JobSpec, StoredCheckpoint | None]:
    """What will run, and the checkpoint whose encoder it begins at. Raises what says that it cannot."""
    try:
        dataset = await get_dataset(connection, wanted.dataset, hold=True)
    except KshotError as error:
        error.param = "dataset"
        raise
    base = None if wanted.base_checkpoint is None else await _base(connection, wanted.base_checkpoint)
    recipe = plan(wanted, dataset.manifest, None if base is None else base.manifest)
    spec = JobSpec(
        job=id,
        recipe=recipe,
        dataset=dataset.id,
        dataset_name=dataset.name,
        base_checkpoint=None if base is None else base.id,
        minutes=minutes(wanted, recipe),
        workers=wanted.workers_per_job,
    )
    return spec, base


async def _base(connection: AsyncConnection, reference: str) -> StoredCheckpoint:
    try:
        base, _ = await resolve(connection, reference)
    except KshotError as error:
        error.param = "base_checkpoint"
        raise
    return base
