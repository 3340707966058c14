"""Data sets of meta-training: what is known of each; the data themselves lie in the object store."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Select, func, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.engine import Row
from sqlalchemy.ext.asyncio import AsyncConnection

from kshot.contracts.datasets import DatasetManifest
from kshot.contracts.errors import Conflict, NotFound
from kshot.contracts.ids import is_id
from kshot.contracts.jobs import OPEN_STATUSES
from kshot.storage.promotions import OPEN as OPEN_PROMOTIONS
from kshot.storage.training_tables import datasets, promotions, training_jobs

_MOST_USERS = 5
_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")
"""As `contracts.checkpoints.Name`; anything else is no name, and may not even be text that Postgres takes."""
_COLUMNS = [column for column in datasets.c if column.name != "manifest"]


@dataclass(frozen=True)
class StoredDataset:
    """A data set. ``object_key``: of its file; None where nothing is stored (drawn, or recorded by the service)."""

    id: str
    name: str
    description: str
    manifest: DatasetManifest
    object_key: str | None
    bytes: int
    created_at: datetime


async def insert_dataset(
    connection: AsyncConnection,
    *,
    tenant: str,
    manifest: DatasetManifest,
    description: str = "",
    object_key: str | None = None,
    n_bytes: int = 0,
) -> StoredDataset:
    """Record a data set under the id and the name of its manifest. Raises Conflict where the name is taken."""
    inserted = await connection.execute(
        insert(datasets)
        .values(
            id=manifest.id,
            tenant_id=tenant,
            name=manifest.name,
            description=description,
            manifest=manifest.model_dump(mode="json"),
            object_key=object_key,
            bytes=n_bytes,
        )
        .on_conflict_do_nothing(index_elements=[datasets.c.name], index_where=datasets.c.deleted_at.is_(None))
    )
    if inserted.rowcount == 0:
        raise _taken()
    return await get_dataset(connection, manifest.id)


async def check_name_is_free(connection: AsyncConnection, name: str) -> None:
    """Before work whose end would be a Conflict anyway."""
    if await connection.scalar(_existing().where(datasets.c.name == name)) is not None:
        raise _taken()


async def get_dataset(connection: AsyncConnection, reference: str, *, hold: bool = False) -> StoredDataset:
    """A data set by id or name. Raises NotFound.

    ``hold``: it cannot be deleted before the transaction ends. Whoever records a user of it (a job, a promotion) must
    hold it, or the deletion would not see that user.
    """
    if not is_id(reference, "ds") and not _NAME.fullmatch(reference):
        raise _no_such()
    named = datasets.c.id == reference if is_id(reference, "ds") else datasets.c.name == reference
    query = _existing().where(named)
    row = (await connection.execute(query.with_for_update(read=True) if hold else query)).one_or_none()
    if row is None:
        raise _no_such()
    return _stored(row)


async def list_datasets(connection: AsyncConnection, *, limit: int, after: str | None) -> list[StoredDataset]:
    """Newest first, ``after`` exclusive; without the names of their classes, which may be many thousands."""
    slim: ColumnElement[Any] = datasets.c.manifest.op("-")("splits").op("-")("sizes")
    query: Select[Any] = select(*_COLUMNS, slim.label("manifest")).where(datasets.c.deleted_at.is_(None))
    query = query.order_by(datasets.c.id.desc()).limit(limit)
    if after is not None:
        query = query.where(datasets.c.id < after)
    return [_stored(row) for row in await connection.execute(query)]


async def users_of(connection: AsyncConnection, id: str) -> list[str]:
    """Ids of the open jobs and promotions that need a data set."""
    jobs = select(training_jobs.c.id).where(
        training_jobs.c.dataset_id == id, training_jobs.c.status.in_(OPEN_STATUSES)
    )  # fmt: skip
    comparing = select(promotions.c.id).where(
        promotions.c.dataset_id == id, promotions.c.status.in_(OPEN_PROMOTIONS)
    )  # fmt: skip
    return sorted(await connection.scalars(jobs.union_all(comparing)))


async def delete_dataset(connection: AsyncConnection, id: str) -> str | None:
    """Delete a data set; its name is free again. Returns the key of its object: delete that after the commit, then
    `forget_object`; after a crash in between, `objects_left` finds it.

    Raises NotFound, and Conflict naming the jobs and promotions that need it.
    """
    row = (await connection.execute(_existing().where(datasets.c.id == id).with_for_update())).one_or_none()
    if row is None:
        raise _no_such()
    if users := await users_of(connection, id):
        raise Conflict(
            f"in use by {_listed(users)}; cancel the jobs (job_...) or wait for them, promotions (pro_...) end by "
            "themselves; then delete it"
        )
    await connection.execute(update(datasets).where(datasets.c.id == id).values(deleted_at=func.now()))
    key: str | None = row.object_key
    return key


async def objects_left(connection: AsyncConnection, *, limit: int) -> dict[str, str]:
    """Data sets that are deleted while their objects may still be there: id -> key."""
    query = select(datasets.c.id, datasets.c.object_key).where(
        datasets.c.deleted_at.is_not(None), datasets.c.object_key.is_not(None)
    )
    return {row.id: row.object_key for row in await connection.execute(query.limit(limit))}


async def forget_object(connection: AsyncConnection, id: str) -> None:
    """Note that the object of a deleted data set is gone."""
    gone = datasets.c.deleted_at.is_not(None)
    await connection.execute(update(datasets).where(datasets.c.id == id, gone).values(object_key=None))


def _listed(users: Iterable[str]) -> str:
    shown = list(users)
    more = len(shown) - _MOST_USERS
    return ", ".join(shown[:_MOST_USERS]) + (f" and {more} more" if more > 0 else "")


def _taken() -> Conflict:
    return Conflict("a data set of this name exists; choose another name, or delete that one", param="name")


def _no_such() -> NotFound:
    return NotFound("no such data set; GET /v1/datasets lists them")


def _existing() -> Select[Any]:
    return select(datasets).where(datasets.c.deleted_at.is_(None))


def _stored(row: Row[Any]) -> StoredDataset:
    return StoredDataset(
        row.id,
        row.name,
        row.description,
        DatasetManifest.model_validate(row.manifest),
        row.object_key,
        row.bytes,
        row.created_at,
    )
