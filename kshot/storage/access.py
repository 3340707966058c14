"""Tenants, API keys and the audit log."""

import hashlib
import hmac
import re
import secrets
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from sqlalchemy import exists, func, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.engine import Row
from sqlalchemy.ext.asyncio import AsyncConnection

from kshot.contracts.errors import Conflict, NotFound, Unauthenticated
from kshot.contracts.ids import is_id, new_id
from kshot.storage.tables import api_keys, audit_log, seconds_from_now, tenants

Role = Literal["user", "admin"]
PREFIX_LENGTH = 12
_TENANT_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")
_NO_TENANT = "no such tenant; GET /v1/tenants lists them"


@dataclass(frozen=True)
class Key:
    """An API key as stored: never the secret itself."""

    id: str
    tenant: str
    name: str
    role: Role
    prefix: str
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None
    replaces: str | None = None


def generate_secret() -> str:
    """``ksk_`` and 256 random bits in hexadecimal; the first 12 characters are stored in the clear to find the row."""
    return "ksk_" + secrets.token_hex(32)


async def insert_key(
    connection: AsyncConnection,
    *,
    secret: str,
    tenant: str,
    name: str,
    role: Role,
    expires_in_s: float | None = None,
    replaces: str | None = None,
    id: str | None = None,
) -> Key:
    """Store a key by its sha256. A key that is stored already (the bootstrap key at every start) stays as it is, under
    its own id and not the one given here.

    Raises Conflict where the prefix is another key's.
    """
    await connection.execute(
        insert(api_keys)
        .values(
            id=id or new_id("key"),
            tenant_id=tenant,
            name=name,
            role=role,
            prefix=secret[:PREFIX_LENGTH],
            sha256=_digest(secret),
            expires_at=None if expires_in_s is None else seconds_from_now(expires_in_s),
            replaces=replaces,
        )
        .on_conflict_do_nothing()
    )
    row = (await connection.execute(select(api_keys).where(api_keys.c.prefix == secret[:PREFIX_LENGTH]))).one()
    if not hmac.compare_digest(row.sha256, _digest(secret)):
        raise Conflict("the first 12 characters of this key are another key's; make another one")
    return _key(row)


async def get_key(connection: AsyncConnection, id: str) -> Key:
    """One key by id. Raises NotFound."""
    row = (await connection.execute(select(api_keys).where(api_keys.c.id == id))).one_or_none()
    if row is None:
        raise NotFound("no API key with this id")
    return _key(row)


async def authenticate(connection: AsyncConnection, secret: str) -> Key:
    """The key behind a secret. Unauthenticated: unknown, revoked or expired, in one wording."""
    row = (
        await connection.execute(
            select(api_keys, (api_keys.c.expires_at < func.now()).label("expired")).where(
                api_keys.c.prefix == secret[:PREFIX_LENGTH]
            )
        )
    ).one_or_none()
    stored = row.sha256 if row is not None else bytes(32)
    matches = hmac.compare_digest(stored, _digest(secret))
    if row is None or not matches or row.revoked_at is not None or row.expired:
        raise Unauthenticated("the API key is unknown, revoked or expired")
    return _key(row)


async def any_key(connection: AsyncConnection) -> bool:
    """Whether any key was ever made: from then on every request needs one."""
    return bool(await connection.scalar(select(exists().where(api_keys.c.id.is_not(None)))))


async def list_keys(connection: AsyncConnection, *, limit: int, after: str | None) -> list[Key]:
    """Keys of all tenants, newest first, ``after`` exclusive."""
    query = select(api_keys).order_by(api_keys.c.id.desc()).limit(limit)
    if after is not None:
        query = query.where(api_keys.c.id < after)
    return [_key(row) for row in await connection.execute(query)]


async def revoke_key(connection: AsyncConnection, id: str) -> None:
    """Revoke at once; revoking twice is no error. Raises NotFound."""
    revoked = await connection.execute(
        update(api_keys)
        .where(api_keys.c.id == id)
        .values(revoked_at=func.coalesce(api_keys.c.revoked_at, func.now()))
    )  # fmt: skip
    if revoked.rowcount == 0:
        raise NotFound("no API key with this id")


async def rotate_key(
    connection: AsyncConnection, id: str, *, secret: str, grace_s: float, expires_in_s: float | None
) -> Key:
    """A key that replaces another: of the same name, role and tenant. The old one ends after the grace, or when it
    would have anyway.

    ``expires_in_s``: of the new one; None: it lives as long as the old one was given. Raises NotFound, and Conflict
    where the old one has ended, or is replaced already.
    """
    ended = (api_keys.c.expires_at < func.now()).label("ended")
    query = select(api_keys, ended).where(api_keys.c.id == id).with_for_update()
    old = (await connection.execute(query)).one_or_none()
    if old is None:
        raise NotFound("no API key with this id")
    if old.revoked_at is not None or old.ended:
        raise Conflict("this key has ended, there is nothing to replace; make a new one")
    given = old
    for successor in await connection.execute(select(api_keys).where(api_keys.c.replaces == id)):
        if successor.revoked_at is None:
            raise Conflict(f"{successor.id} replaces this key already; rotate that one, or revoke it first")
        given = successor  # the old one's own time was cut short when this was made
    if expires_in_s is None and given.expires_at is not None:
        expires_in_s = (given.expires_at - given.created_at).total_seconds()
    until = func.least(api_keys.c.expires_at, seconds_from_now(grace_s))  # of NULL and a time, the time
    await connection.execute(update(api_keys).where(api_keys.c.id == id).values(expires_at=until))
    return await insert_key(
        connection,
        secret=secret,
        tenant=old.tenant_id,
        name=old.name,
        role=old.role,
        expires_in_s=expires_in_s,
        replaces=id,
    )


async def ensure_tenant(connection: AsyncConnection, name: str) -> str:
    """The id of the tenant of that name, made where it is new."""
    await connection.execute(insert(tenants).values(id=new_id("ten"), name=name).on_conflict_do_nothing())
    return str(await connection.scalar(select(tenants.c.id).where(tenants.c.name == name)))


@dataclass(frozen=True)
class StoredTenant:
    """A tenant."""

    id: str
    name: str
    created_at: datetime


async def get_tenant(connection: AsyncConnection, reference: str) -> StoredTenant:
    """A tenant by id or name. Raises NotFound."""
    if not is_id(reference, "ten") and not _TENANT_NAME.fullmatch(reference):
        raise NotFound(_NO_TENANT)
    named = tenants.c.id == reference if is_id(reference, "ten") else tenants.c.name == reference
    row = (await connection.execute(select(tenants).where(named))).one_or_none()
    if row is None:
        raise NotFound(_NO_TENANT)
    return StoredTenant(row.id, row.name, row.created_at)


async def list_tenants(connection: AsyncConnection, *, limit: int, after: str | None) -> list[StoredTenant]:
    """Newest first, ``after`` exclusive."""
    query = select(tenants).order_by(tenants.c.id.desc()).limit(limit)
    if after is not None:
        query = query.where(tenants.c.id < after)
    return [StoredTenant(row.id, row.name, row.created_at) for row in await connection.execute(query)]


async def tenant_names(connection: AsyncConnection) -> dict[str, str]:
    """Tenant id -> name."""
    return {row.id: row.name for row in await connection.execute(select(tenants.c.id, tenants.c.name))}


async def audit(
    connection: AsyncConnection, *, tenant: str, key: str | None, action: str, object_id: str, request_id: str | None
) -> None:
    """Append a row about a mutation, in the mutation's own transaction. No secret and no payload belongs here."""
    await connection.execute(
        insert(audit_log)
        .inline()
        .values(tenant_id=tenant, key_id=key, action=action, object_id=object_id, request_id=request_id)
    )


def _digest(secret: str) -> bytes:
    return hashlib.sha256(secret.encode()).digest()


def _key(row: Row[Any]) -> Key:
    return Key(
        row.id,
        row.tenant_id,
        row.name,
        row.role,
        row.prefix,
        row.created_at,
        row.expires_at,
        row.revoked_at,
        row.replaces,
    )
