"""The registry's checkpoints, which never change. The aliases that point at them are in `aliases`."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Select, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.engine import Row
from sqlalchemy.ext.asyncio import AsyncConnection

from kshot.contracts.checkpoints import Manifest
from kshot.contracts.errors import Expired, NotFound
from kshot.contracts.ids import is_id
from kshot.storage.tables import aliases, checkpoints

PRODUCTION = "production"
"""The alias meant where none is named, and the one `auto` chooses among."""


@dataclass(frozen=True)
class StoredCheckpoint:
    """A registered checkpoint; its weights lie in the object store.

    ``deleted_at``: since then nothing is made with it; the row stays, because others' lineage names it. ``bytes``: what
    lies in the store, 0 once that is gone. ``job``: which made it; None where it was published from a folder.
    """

    id: str
    manifest: Manifest
    object_key: str
    bytes: int
    created_at: datetime
    job: str | None = None
    deleted_at: datetime | None = None


async def register(
    connection: AsyncConnection,
    id: str,
    manifest: Manifest,
    content_sha256: str,
    object_key: str,
    n_bytes: int,
    job: str | None = None,
) -> str:
    """Register a checkpoint. The same content under the same name is registered once; returns the id that holds it,
    also where that was deleted since.

    Store the weights after this and before the transaction ends: from here on no sweep can be removing them.
    """
    await connection.execute(
        insert(checkpoints)
        .values(
            id=id,
            name=manifest.name,
            content_sha256=content_sha256,
            manifest=manifest.model_dump(mode="json"),
            object_key=object_key,
            bytes=n_bytes,
            job_id=job,
        )
        .on_conflict_do_nothing()
    )
    same = (checkpoints.c.name == manifest.name, checkpoints.c.content_sha256 == content_sha256)
    found = await connection.scalar(select(checkpoints.c.id).where(*same).with_for_update(key_share=True))
    return str(found)


async def hold_checkpoint(connection: AsyncConnection, id: str) -> None:
    """Before something is written that needs this checkpoint: it is not deleted until the transaction ends, and
    whoever deletes it then sees what was written.

    Raises NotFound; Expired where it was deleted.
    """
    query = select(checkpoints.c.deleted_at).where(checkpoints.c.id == id).with_for_update(read=True, key_share=True)
    row = (await connection.execute(query)).one_or_none()
    if row is None:
        raise _unknown()
    if row.deleted_at is not None:
        raise _deleted()


async def resolve(connection: AsyncConnection, reference: str) -> tuple[StoredCheckpoint, str | None]:
    """The checkpoint meant by ``ckpt_...``, ``name@alias`` or ``name`` (= ``name@production``), and the alias used.

    Raises NotFound; Expired where the checkpoint was deleted, which none is while an alias points at it.
    """
    if is_id(reference, "ckpt"):
        return await get_checkpoint(connection, reference), None
    name, _, alias = reference.partition("@")
    alias = alias or PRODUCTION
    row = (
        await connection.execute(
            _all().join(aliases, aliases.c.checkpoint_id == checkpoints.c.id).where(
                aliases.c.name == name, aliases.c.alias == alias
            )
        )
    ).one_or_none()  # fmt: skip
    if row is None:
        raise _unknown()
    return _checkpoint(row), alias


async def get_checkpoint(connection: AsyncConnection, id: str, *, even_deleted: bool = False) -> StoredCheckpoint:
    """One checkpoint by id. Raises NotFound; Expired where it was deleted, unless ``even_deleted``."""
    row = (await connection.execute(_all().where(checkpoints.c.id == id))).one_or_none()
    if row is None:
        raise _unknown()
    if row.deleted_at is not None and not even_deleted:
        raise _deleted()
    return _checkpoint(row)


async def list_checkpoints(
    connection: AsyncConnection, *, limit: int, after: str | None, name: str | None = None
) -> list[StoredCheckpoint]:
    """Newest first, ``after`` exclusive, without deleted ones; of this ``name``, where one is given."""
    query = _all().where(checkpoints.c.deleted_at.is_(None))
    if name is not None:
        query = query.where(checkpoints.c.name == name)
    if after is not None:
        query = query.where(checkpoints.c.id < after)
    rows = await connection.execute(query.order_by(checkpoints.c.id.desc()).limit(limit))
    return [_checkpoint(row) for row in rows]


async def list_promoted(connection: AsyncConnection) -> list[StoredCheckpoint]:
    """The checkpoints in production (``name@production``), by name; each once."""
    promoted = select(aliases.c.checkpoint_id).where(aliases.c.alias == PRODUCTION)
    rows = await connection.execute(_all().where(checkpoints.c.id.in_(promoted)).order_by(checkpoints.c.name))
    return [_checkpoint(row) for row in rows]


def _all() -> Select[Any]:
    return select(
        checkpoints.c.id,
        checkpoints.c.manifest,
        checkpoints.c.object_key,
        checkpoints.c.bytes,
        checkpoints.c.created_at,
        checkpoints.c.job_id,
        checkpoints.c.deleted_at,
    )


def _checkpoint(row: Row[Any]) -> StoredCheckpoint:
    return StoredCheckpoint(
        id=row.id,
        manifest=Manifest.model_validate(row.manifest),
        object_key=row.object_key,
        bytes=row.bytes,
        created_at=row.created_at,
        job=row.job_id,
        deleted_at=row.deleted_at,
    )


def _unknown() -> NotFound:
    return NotFound("no such checkpoint; GET /v1/checkpoints lists them", param="checkpoint")


def _deleted() -> Expired:
    return Expired("this checkpoint was deleted; GET /v1/checkpoints lists those that serve", param="checkpoint")
