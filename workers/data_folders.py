"""What a run needs from the registry, as folders: data sets and checkpoints."""

import asyncio
from pathlib import Path

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncEngine

from kshot.contracts.checkpoints import Manifest
from kshot.contracts.datasets import DATASET_FILE, DatasetManifest
from kshot.contracts.errors import NotFound
from kshot.storage.checkpoints import get_checkpoint
from kshot.storage.objects import ObjectStore
from kshot.storage.training_tables import datasets

_MANIFEST, _WEIGHTS = "manifest.json", "weights.safetensors"


async def lay_dataset(
    database: AsyncEngine, objects: ObjectStore, dataset_id: str, data: Path, keep_as: str | None = None
) -> DatasetManifest:
    """Make ``data / dataset_id``: the manifest and, where something is stored, the file it names.

    ``keep_as``: key in the object store under which recorded tasks, which change from day to day, are kept once they
    were collected, so that a later attempt finds the same bytes; delete it when the run ends for good. Raises NotFound;
    OSError where the store cannot be read.
    """
    async with database.connect() as connection:
        row = (
            await connection.execute(
                select(datasets.c.manifest, datasets.c.object_key).where(datasets.c.id == dataset_id)
            )
        ).one_or_none()
    if row is None:
        raise NotFound("no data set with this id", param="dataset")
    manifest = DatasetManifest.model_validate(row.manifest)
    folder = data / dataset_id
    folder.mkdir(parents=True, exist_ok=True)
    if manifest.file is not None and row.object_key is not None:
        await asyncio.to_thread(_lay_file, objects, row.object_key, folder / manifest.file)
    (folder / DATASET_FILE).write_text(manifest.model_dump_json(indent=1))
    return manifest


async def lay_checkpoint(database: AsyncEngine, objects: ObjectStore, checkpoint_id: str, folder: Path) -> Manifest:
    """Make ``folder`` a checkpoint's: its manifest and its weights. Raises NotFound; OSError as above."""
    async with database.connect() as connection:
        stored = await get_checkpoint(connection, checkpoint_id)
    folder.mkdir(parents=True, exist_ok=True)
    await asyncio.to_thread(_lay_file, objects, stored.object_key, folder / _WEIGHTS)
    (folder / _MANIFEST).write_text(stored.manifest.model_dump_json(indent=1))
    return stored.manifest


def _lay_file(objects: ObjectStore, key: str, file: Path) -> None:
    file.unlink(missing_ok=True)
    file.write_bytes(objects.get(key))
