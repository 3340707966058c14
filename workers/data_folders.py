"""What a run needs from the registry, as folders: data sets and checkpoints."""

import asyncio
import hashlib
import os
import shutil
from pathlib import Path
from uuid import uuid4

import structlog
from pydantic import BaseModel
from sqlalchemy.ext.asyncio import AsyncEngine

from kshot.contracts.checkpoints import MANIFEST_FILE, WEIGHTS_FILE, Manifest
from kshot.contracts.datasets import DATASET_FILE, DatasetManifest
from kshot.contracts.errors import NotFound
from kshot.episodes.recorded import recorded_models
from kshot.storage.checkpoints import get_checkpoint
from kshot.storage.datasets import get_dataset
from kshot.storage.objects import ObjectStore
from kshot.storage.recorded import are_withdrawn
from workers.recorded_tasks import collect, counted

_log = structlog.get_logger()


async def lay_dataset(
    database: AsyncEngine,
    objects: ObjectStore,
    dataset_id: str,
    data: Path,
    keep_as: str | None = None,
    made_of_it: str | None = None,
) -> DatasetManifest:
    """Make ``data / dataset_id``: the manifest and, where something is stored, the file it names.

    ``keep_as``: key in the object store under which recorded tasks, which change from day to day, are kept once they
    were collected, so that a later attempt finds the same bytes; delete it when the run ends for good. Whose tasks may
    be recorded is asked when they are collected, and whether they still may each time the copy is used: where one was
    withdrawn, or there is no copy, they are collected anew, and the object under ``made_of_it``, which the run made of
    the copy, is deleted before that. Raises NotFound; Invalid where too few tasks are recorded, or too many; OSError
    where the store cannot be read.
    """
    async with database.connect() as connection:
        stored = await get_dataset(connection, dataset_id)
    manifest = stored.manifest
    if manifest.recorded is not None:
        assert manifest.file is not None
        file = data / dataset_id / manifest.file
        await _lay_recorded(database, objects, manifest, file, keep_as, made_of_it)
        return await asyncio.to_thread(_counted, manifest, file)
    await asyncio.to_thread(_lay, objects, stored.object_key, manifest.file, data / dataset_id, DATASET_FILE, manifest)
    return manifest


async def lay_checkpoint(database: AsyncEngine, objects: ObjectStore, checkpoint_id: str, folder: Path) -> Manifest:
    """Make ``folder`` a checkpoint's: its manifest and its weights. Raises NotFound; OSError as above."""
    async with database.connect() as connection:
        stored = await get_checkpoint(connection, checkpoint_id)
    await asyncio.to_thread(_lay, objects, stored.object_key, WEIGHTS_FILE, folder, MANIFEST_FILE, stored.manifest)
    return stored.manifest


async def _lay_recorded(
    database: AsyncEngine,
    objects: ObjectStore,
    manifest: DatasetManifest,
    file: Path,
    keep_as: str | None,
    made_of_it: str | None,
) -> None:
    """Collect the tasks, or take those that an earlier attempt collected."""
    if keep_as is not None and await is_withdrawn(database, objects, keep_as):
        _log.info("recorded_tasks_withdrawn", copy=keep_as)
        await asyncio.to_thread(_delete, objects, made_of_it, keep_as)
    if not await asyncio.to_thread(_take, objects, keep_as, file):
        await asyncio.to_thread(_delete, objects, made_of_it)
        await collect(database, manifest, file)
        await asyncio.to_thread(_keep, objects, keep_as, file)


async def is_withdrawn(database: AsyncEngine, objects: ObjectStore, copy: str) -> bool:
    """Whether somebody whose tasks are in this copy has deleted their model since, or lets us record no more. False
    where there is no such copy."""
    try:
        models = await asyncio.to_thread(_models_in, objects, copy)
    except NotFound:
        return False
    async with database.connect() as connection:
        return await are_withdrawn(connection, models)


def _models_in(objects: ObjectStore, copy: str) -> list[str]:
    with objects.file(copy) as file:
        return recorded_models(file)


def _delete(objects: ObjectStore, *keys: str | None) -> None:
    for key in keys:
        if key is not None:
            objects.delete(key)


def _take(objects: ObjectStore, keep_as: str | None, file: Path) -> bool:
    """Whether there was something to take."""
    file.parent.mkdir(parents=True, exist_ok=True)
    if keep_as is None:
        return False
    try:
        with objects.file(keep_as) as stored:
            _link(stored, file)
    except NotFound:
        return False
    return True


def _keep(objects: ObjectStore, keep_as: str | None, file: Path) -> None:
    """Keep the file for later attempts; where one collected it in the meantime, that is what counts."""
    if keep_as is None or _take(objects, keep_as, file):
        return
    staged = objects.staging() / uuid4().hex
    shutil.copyfile(file, staged)
    objects.adopt(keep_as, staged)


def _counted(manifest: DatasetManifest, file: Path) -> DatasetManifest:
    with file.open("rb") as opened:
        digest = hashlib.file_digest(opened, "sha256").hexdigest()
    laid = counted(manifest, file, digest)
    (file.parent / DATASET_FILE).write_text(laid.model_dump_json(indent=1))
    return laid


def _lay(
    objects: ObjectStore, key: str | None, name: str | None, folder: Path, manifest_name: str, manifest: BaseModel
) -> None:
    """The object as ``folder / name``, then the manifest: whoever sees that finds all of it."""
    folder.mkdir(parents=True, exist_ok=True)
    if key is not None and name is not None:
        with objects.file(key) as stored:
            _link(stored, folder / name)
    (folder / manifest_name).write_text(manifest.model_dump_json(indent=1))


def _link(source: Path, file: Path) -> None:
    """A second name for a stored object, which nobody ever writes to; a copy where the folder lies on another disk."""
    file.unlink(missing_ok=True)
    try:
        os.link(source, file)
    except OSError:
        shutil.copyfile(source, file)
