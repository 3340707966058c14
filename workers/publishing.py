"""Checkpoint folders into the registry. Several processes may publish the same folder at once, and again later."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import structlog
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from kshot.contracts.checkpoints import MANIFEST_FILE, WEIGHTS_FILE, Manifest
from kshot.contracts.errors import Invalid
from kshot.contracts.ids import is_id, new_id
from kshot.contracts.selection import AUTO
from kshot.storage.aliases import alias_history, get_alias, move_alias
from kshot.storage.checkpoints import PRODUCTION, get_checkpoint, register
from kshot.storage.database import take_time
from kshot.storage.job_runs import JobClaim, is_succeeded, succeed
from kshot.storage.objects import ObjectStore, sha256

_log = structlog.get_logger()


def checkpoint_folders(root: Path) -> Iterator[Path]:
    """``root`` itself where it is a checkpoint, else the checkpoints right below it, by name."""
    if (root / MANIFEST_FILE).is_file():
        yield root
    else:
        yield from sorted(file.parent for file in root.glob(f"*/{MANIFEST_FILE}"))


async def publish(database: AsyncEngine, objects: ObjectStore, folder: Path) -> str:
    """Register one checkpoint folder; returns the checkpoint's id.

    ``name@production`` moves to content that is new, as long as publishing alone has moved it: once an administrator
    promoted a checkpoint there, another one has to pass the same gate. Content known already moves nothing, so that a
    restart undoes nothing, and brings back nothing that was deleted. Raises Invalid where the folder holds no sound
    checkpoint.
    """
    manifest, manifest_json, weights = _checked(folder)
    content = sha256(manifest_json + weights)
    key = f"checkpoints/{manifest.name}/{content}.safetensors"
    async with database.begin() as connection:
        await take_time(connection)
        fresh = new_id("ckpt")
        known = await register(connection, fresh, manifest, content, key, len(weights))
        if known == fresh:
            _check_whole(manifest_json, weights)
        if (await get_checkpoint(connection, known, even_deleted=True)).deleted_at is not None:
            _log.info("stays_deleted", checkpoint=known, name=manifest.name)
            return known
        await asyncio.to_thread(objects.put, key, weights)  # known ones too: the store may have been lost
        if await _may_move(connection, manifest.name, new=known == fresh):
            await move_alias(connection, manifest.name, PRODUCTION, known, "publish")
    _log.info("published", checkpoint=known, name=manifest.name, new=known == fresh)
    return known


async def _may_move(connection: AsyncConnection, name: str, *, new: bool) -> bool:
    """Whether publishing may point ``name@production`` at what it published; nobody else moves it meanwhile."""
    if await get_alias(connection, name, PRODUCTION, lock=True) is None:
        return True
    last = next(iter(await alias_history(connection, name, PRODUCTION)), None)
    promoted = last is not None and last.reason != "publish"
    if new and promoted:
        _log.warning("production_stays", name=name)
    return new and not promoted


async def publish_job(database: AsyncEngine, objects: ObjectStore, folder: Path, claim: JobClaim) -> bool:
    """Register the checkpoint that a job made, in the transaction in which the job succeeds; no alias moves.

    False: the job is not ours any more, or is to be cancelled, and nothing was registered. The network is not built
    here: the process that trained has just used it. Raises Invalid as `publish` does.
    """
    manifest, manifest_json, weights = _checked(folder)
    if manifest.name != claim.spec.recipe.name:
        raise Invalid("the checkpoint has another name than the job gave it")
    key, content = weights_key(claim), sha256(manifest_json + weights)
    await asyncio.to_thread(objects.put, key, weights)
    async with database.connect() as connection:
        fresh = new_id("ckpt")
        known = await register(connection, fresh, manifest, content, key, len(weights), job=claim.job)
        if await succeed(connection, claim, known):
            await connection.commit()
            needed = known == fresh  # else the same content lies under another key
            done = True
        else:
            await connection.rollback()
            needed = done = await is_succeeded(connection, claim)
    if not needed:
        await asyncio.to_thread(objects.delete, key)
    return done


def weights_key(claim: JobClaim) -> str:
    """Where an attempt puts its weights: a key of its own, so that no two attempts write one object."""
    return f"checkpoints/{claim.spec.recipe.name}/{claim.job}-{claim.attempt}.safetensors"


def made_by(key: str) -> str | None:
    """The job that put weights there; None where no job did."""
    job, _, _ = key.rpartition("/")[2].partition("-")
    return job if is_id(job, "job") else None


def _checked(folder: Path) -> tuple[Manifest, bytes, bytes]:
    """A folder's manifest, as JSON too, and weights. Raises Invalid where they do not belong together."""
    manifest_json, weights = _read(folder / MANIFEST_FILE), _read(folder / WEIGHTS_FILE)
    manifest = Manifest.model_validate_json(manifest_json)
    if manifest.name == AUTO:
        raise Invalid(f"{folder.name}: no checkpoint may be named {AUTO}, which means a choice among all of them")
    if sha256(weights) != manifest.weights_sha256:
        raise Invalid(f"{folder.name}: the weights are not the ones the manifest names (sha256 differs)")
    return manifest, manifest_json, weights


def _check_whole(manifest_json: bytes, weights: bytes) -> None:
    """Build it once before anyone can use it. Only new content pays for importing torch."""
    from kshot.checkpoints import parse_checkpoint

    parse_checkpoint(manifest_json, weights)


def _read(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise Invalid(f"{file.parent.name} has no readable {file.name}") from error
