"""The registry: immutable checkpoints, and aliases that point at them."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Select, func, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.engine import Row
from sqlalchemy.ext.asyncio import AsyncConnection

from kshot.contracts.checkpoints import Manifest
from kshot.contracts.errors import NotFound
from kshot.contracts.ids import is_id
from kshot.storage.tables import aliases, checkpoints

PRODUCTION = "production"
"""The alias meant where none is named, and the one `auto` chooses among."""


@dataclass(frozen=True)
class StoredCheckpoint:
    """A registered checkpoint; its weights lie in the object store."""

    id: str
    manifest: Manifest
    object_key: str
    bytes: int
    created_at: datetime


@dataclass(frozen=True)
class Alias:
    """``name@alias`` -> a checkpoint; ``version`` grows with every move."""

    name: str
    alias: str
    checkpoint: str
    version: int
    updated_at: datetime


async def register(
    connection: AsyncConnection, id: str, manifest: Manifest, content_sha256: str, object_key: str, n_bytes: int
) -> str:
    """Register a checkpoint. The same content under the same name is registered once; returns the id that holds it."""
    await connection.execute(
        insert(checkpoints)
        .values(
            id=id,
            name=manifest.name,
            content_sha256=content_sha256,
            manifest=manifest.model_dump(mode="json"),
            object_key=object_key,
            bytes=n_bytes,
        )
        .on_conflict_do_nothing()
    )
    found = await connection.scalar(
        select(checkpoints.c.id).where(
            checkpoints.c.name == manifest.name, checkpoints.c.content_sha256 == content_sha256
        )
    )
    return str(found)


async def point_alias(connection: AsyncConnection, name: str, alias: str, checkpoint: str) -> None:
    """Point ``name@alias`` at a checkpoint."""
    target = insert(aliases).values(name=name, alias=alias, checkpoint_id=checkpoint)
    await connection.execute(
        target.on_conflict_do_update(
            index_elements=[aliases.c.name, aliases.c.alias],
            set_={"checkpoint_id": checkpoint, "version": aliases.c.version + 1, "updated_at": func.now()},
            where=aliases.c.checkpoint_id != checkpoint,
        )
    )


async def resolve(connection: AsyncConnection, reference: str) -> tuple[StoredCheckpoint, str | None]:
    """The checkpoint meant by ``ckpt_...``, ``name@alias`` or ``name`` (= ``name@production``), and the alias used.

    Raises NotFound.
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
        raise NotFound("no such checkpoint; GET /v1/checkpoints lists them", param="checkpoint")
    return _checkpoint(row), alias


async def get_checkpoint(connection: AsyncConnection, id: str) -> StoredCheckpoint:
    """One checkpoint by id. Raises NotFound."""
    row = (await connection.execute(_all().where(checkpoints.c.id == id))).one_or_none()
    if row is None:
        raise NotFound("no such checkpoint; GET /v1/checkpoints lists them", param="checkpoint")
    return _checkpoint(row)


async def list_checkpoints(connection: AsyncConnection, *, limit: int, after: str | None) -> list[StoredCheckpoint]:
    """Newest first, ``after`` exclusive."""
    query = _all() if after is None else _all().where(checkpoints.c.id < after)
    rows = await connection.execute(query.order_by(checkpoints.c.id.desc()).limit(limit))
    return [_checkpoint(row) for row in rows]


async def list_aliases(connection: AsyncConnection, *, checkpoint: str | None = None) -> list[Alias]:
    """All aliases, or those that point at one checkpoint."""
    query = select(aliases).order_by(aliases.c.name, aliases.c.alias)
    if checkpoint is not None:
        query = query.where(aliases.c.checkpoint_id == checkpoint)
    rows = await connection.execute(query)
    return [Alias(row.name, row.alias, row.checkpoint_id, row.version, row.updated_at) for row in rows]


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
    )


def _checkpoint(row: Row[Any]) -> StoredCheckpoint:
    return StoredCheckpoint(row.id, Manifest.model_validate(row.manifest), row.object_key, row.bytes, row.created_at)
