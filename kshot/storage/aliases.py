"""Aliases: ``name@alias`` -> a checkpoint; where each points, and where it pointed before."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from sqlalchemy import func, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.engine import Row
from sqlalchemy.ext.asyncio import AsyncConnection

from kshot.contracts.errors import PreconditionFailed
from kshot.storage.checkpoints import hold_checkpoint
from kshot.storage.following import start_following
from kshot.storage.tables import aliases
from kshot.storage.training_tables import alias_history as history

Reason = Literal["publish", "promote", "force", "rollback", "set"]


@dataclass(frozen=True)
class Alias:
    """``name@alias`` -> a checkpoint; ``version`` grows with every move."""

    name: str
    alias: str
    checkpoint: str
    version: int
    updated_at: datetime


@dataclass(frozen=True)
class AliasChange:
    """One entry of an alias's history. ``key``: of the API key that asked, where there was one."""

    version: int
    checkpoint: str
    at: datetime
    reason: Reason
    promotion: str | None
    key: str | None


async def move_alias(
    connection: AsyncConnection,
    name: str,
    alias: str,
    checkpoint: str,
    reason: Reason,
    *,
    expected_version: int | None = None,
    promotion: str | None = None,
    key: str | None = None,
) -> Alias:
    """Point ``name@alias`` at a checkpoint, write that down, and let adapted models follow; nothing where it points
    there already.

    Raises PreconditionFailed where the alias has another version than ``expected_version``, NotFound, and Expired where
    the checkpoint was deleted.
    """
    await hold_checkpoint(connection, checkpoint)
    now = await get_alias(connection, name, alias, lock=True)
    if expected_version is not None and (now is None or now.version != expected_version):
        raise PreconditionFailed(f"{name}@{alias} has moved since; read it again")
    if now is not None and now.checkpoint == checkpoint:
        return now
    moved = await _point(connection, name, alias, checkpoint)
    await connection.execute(
        insert(history).values(
            name=name,
            alias=alias,
            version=moved.version,
            checkpoint_id=checkpoint,
            reason=reason,
            promotion_id=promotion,
            key_id=key,
        )
    )
    await start_following(connection, name, alias)
    return moved


async def get_alias(connection: AsyncConnection, name: str, alias: str, *, lock: bool = False) -> Alias | None:
    """Where an alias points. ``lock``: nobody moves it before the transaction ends."""
    query = select(aliases).where(aliases.c.name == name, aliases.c.alias == alias)
    row = (await connection.execute(query.with_for_update() if lock else query)).one_or_none()
    return None if row is None else _alias(row)


async def alias_history(connection: AsyncConnection, name: str, alias: str) -> list[AliasChange]:
    """Where an alias points and pointed, newest first; empty where there is no such alias."""
    query = select(history).where(history.c.name == name, history.c.alias == alias)
    rows = await connection.execute(query.order_by(history.c.version.desc()))
    return [
        AliasChange(row.version, row.checkpoint_id, row.at, row.reason, row.promotion_id, row.key_id) for row in rows
    ]


async def list_aliases(connection: AsyncConnection, *, checkpoint: str | None = None) -> list[Alias]:
    """All aliases, or those that point at one checkpoint."""
    query = select(aliases).order_by(aliases.c.name, aliases.c.alias)
    if checkpoint is not None:
        query = query.where(aliases.c.checkpoint_id == checkpoint)
    rows = await connection.execute(query)
    return [_alias(row) for row in rows]


async def _point(connection: AsyncConnection, name: str, alias: str, checkpoint: str) -> Alias:
    target = insert(aliases).values(name=name, alias=alias, checkpoint_id=checkpoint)
    moved = await connection.execute(
        target.on_conflict_do_update(
            index_elements=[aliases.c.name, aliases.c.alias],
            set_={"checkpoint_id": checkpoint, "version": aliases.c.version + 1, "updated_at": func.now()},
        ).returning(aliases)
    )
    return _alias(moved.one())


def _alias(row: Row[Any]) -> Alias:
    return Alias(row.name, row.alias, row.checkpoint_id, row.version, row.updated_at)
