"""What a run needs from the registry, as folders: data sets and checkpoints."""

import asyncio
import os
import shutil
from pathlib import Path

from pydantic import BaseModel
from sqlalchemy.ext.asyncio import AsyncEngine

from kshot.contracts.checkpoints import Manifest
from kshot.contracts.datasets import DATASET_FILE, DatasetManifest
from kshot.storage.checkpoints import get_checkpoint
from kshot.storage.datasets import get_dataset
from kshot.storage.objects import ObjectStore

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
        stored = await get_dataset(connection, dataset_id)
    manifest = stored.manifest
    await asyncio.to_thread(_lay, objects, stored.object_key, manifest.file, data / dataset_id, DATASET_FILE, manifest)
    return manifest


async def lay_checkpoint(database: AsyncEngine, objects: ObjectStore, checkpoint_id: str, folder: Path) -> Manifest:
    """Make ``folder`` a checkpoint's: its manifest and its weights. Raises NotFound; OSError as above."""
    async with database.connect() as connection:
        stored = await get_checkpoint(connection, checkpoint_id)
    await asyncio.to_thread(_lay, objects, stored.object_key, _WEIGHTS, folder, _MANIFEST, stored.manifest)
    return stored.manifest


def _lay(
    objects: ObjectStore, key: str | None, name: str | None, folder: Path, manifest_name: str, manifest: BaseModel
) -> None:
    """The object as ``folder / name``, then the manifest: whoever sees that finds all of it."""
    folder.mkdir(parents=True, exist_ok=True)
    if key is not None and name is not None:
        _link(objects.file(key), folder / name)
    (folder / manifest_name).write_text(manifest.model_dump_json(indent=1))


def _link(source: Path, file: Path) -> None:
    """A second name for a stored object, which nobody ever writes to; a copy where the folder lies on another disk."""
    file.unlink(missing_ok=True)
    try:
        os.link(source, file)
    except OSError:
        shutil.copyfile(source, file)
