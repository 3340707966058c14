"""Idempotency keys: the same POST sent twice creates once. Kept 24 hours, per tenant."""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import delete, func, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from kshot.contracts.errors import IdempotencyKeyReused
from kshot.storage.tables import idempotency_keys, seconds_from_now

_KEPT_S = 24 * 3600


@dataclass(frozen=True)
class Bound:
    """What a key stands for. ``at`` equals the object's ``created_at`` where one transaction, one request, made both;
    a key that was bound to an object found has a later time."""

    object_id: str
    at: datetime


async def take(connection: AsyncConnection, tenant: str, key: str, body_sha256: str, object_id: str) -> Bound:
    """Bind ``key`` to ``object_id``; returns what it is bound to: an earlier id where the key was used before.

    A parallel request with the same key waits here until the first one's transaction ends.
    Raises IdempotencyKeyReused where the earlier body was another one.
    """
    await connection.execute(
        delete(idempotency_keys).where(
            idempotency_keys.c.tenant_id == tenant,
            idempotency_keys.c.key == key,
            idempotency_keys.c.created_at < seconds_from_now(-_KEPT_S),
        )
    )
    await connection.execute(
        insert(idempotency_keys)
        .values(tenant_id=tenant, key=key, body_sha256=body_sha256, object_id=object_id)
        .on_conflict_do_nothing()
    )
    row = (
        await connection.execute(
            select(idempotency_keys).where(idempotency_keys.c.tenant_id == tenant, idempotency_keys.c.key == key)
        )
    ).one()
    if row.body_sha256 != body_sha256:
        raise IdempotencyKeyReused(
            "this Idempotency-Key was used with another body; send a fresh key", param="Idempotency-Key"
        )
    return Bound(row.object_id, row.created_at)


async def rebind(connection: AsyncConnection, tenant: str, key: str, object_id: str) -> None:
    """Bind a key just taken to the object that already answers the request (an equal adapted model)."""
    await connection.execute(
        idempotency_keys.update()
        .where(idempotency_keys.c.tenant_id == tenant, idempotency_keys.c.key == key)
        .values(object_id=object_id, created_at=func.clock_timestamp())
    )


async def free(connection: AsyncConnection, tenant: str, key: str, object_id: str) -> None:
    """Unbind a key from an object that came to nothing through no fault of the caller's."""
    await connection.execute(
        delete(idempotency_keys).where(
            idempotency_keys.c.tenant_id == tenant,
            idempotency_keys.c.key == key,
            idempotency_keys.c.object_id == object_id,
        )
    )


async def sweep(connection: AsyncConnection) -> None:
    """Forget keys older than a day."""
    await connection.execute(
        delete(idempotency_keys).where(idempotency_keys.c.created_at < func.now() - func.make_interval(0, 0, 0, 1))
    )
