"""Keys and tenants: made, listed, replaced, ended, each without touching another; and what the audit log keeps."""

import asyncio
import hmac
import re
from collections.abc import Awaitable, Callable
from datetime import timedelta
from hashlib import sha256
from typing import Any

import pytest
from sqlalchemy import select, text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from kshot.contracts.errors import Conflict, NotFound, Unauthenticated
from kshot.contracts.ids import new_id
from kshot.storage.access import (
    Key,
    any_key,
    audit,
    authenticate,
    ensure_tenant,
    generate_secret,
    get_key,
    get_tenant,
    insert_key,
    list_keys,
    list_tenants,
    revoke_key,
    rotate_key,
    tenant_names,
)
from kshot.storage.tables import DEFAULT_TENANT, audit_log
from tests.kshot.storage.conftest import another_tenant


async def a_key(connection: AsyncConnection, **changes: Any) -> Key:
    given: dict[str, Any] = {"secret": generate_secret(), "tenant": DEFAULT_TENANT, "name": "k", "role": "admin"}
    return await insert_key(connection, **(given | changes))


async def rotate(connection: AsyncConnection, key: Key, expires_in_s: float | None = None) -> Key:
    return await rotate_key(connection, key.id, secret=generate_secret(), grace_s=60, expires_in_s=expires_in_s)


def lifetime(key: Key) -> timedelta | None:
    return None if key.expires_at is None else key.expires_at - key.created_at


async def test_a_key_is_stored_as_it_was_given(database: AsyncEngine):
    secret = generate_secret()
    assert re.fullmatch(r"ksk_[0-9a-f]{64}", secret)
    async with database.begin() as connection:
        tenant = await another_tenant(connection)
        key = await a_key(connection, secret=secret, tenant=tenant, name="mine", role="user", expires_in_s=50)
        assert (key.tenant, key.name, key.role, key.prefix) == (tenant, "mine", "user", secret[:12])
        assert (lifetime(key), key.revoked_at, key.replaces) == (timedelta(seconds=50), None, None)
        assert await get_key(connection, key.id) == await authenticate(connection, secret) == key
        assert lifetime(await a_key(connection)) is None
        with pytest.raises(NotFound):
            await get_key(connection, new_id("key"))


async def test_a_key_ends_alone(database: AsyncEngine):
    secret, other, late = (generate_secret() for _ in range(3))
    async with database.begin() as connection:
        key = await a_key(connection, secret=secret)
        await a_key(connection, secret=other)
        await a_key(connection, secret=late, expires_in_s=-1)
        for _ in range(2):
            await revoke_key(connection, key.id)
        with pytest.raises(NotFound):
            await revoke_key(connection, new_id("key"))
        await authenticate(connection, other)
        for ended in (secret, late):
            with pytest.raises(Unauthenticated):
                await authenticate(connection, ended)


async def test_an_unknown_secret_is_compared_too(database: AsyncEngine, monkeypatch: pytest.MonkeyPatch):
    secret, compared = generate_secret(), list[tuple[bytes, bytes]]()
    compare = hmac.compare_digest
    monkeypatch.setattr(hmac, "compare_digest", lambda a, b: compared.append((a, b)) or compare(a, b))
    async with database.begin() as connection:
        with pytest.raises(Unauthenticated):
            await authenticate(connection, secret)
    assert compared == [(bytes(32), sha256(secret.encode()).digest())]


async def test_whether_any_key_was_ever_made(database: AsyncEngine):
    async with database.connect() as connection:  # nothing of it is committed
        await connection.execute(text("TRUNCATE api_keys, sessions"))
        assert not await any_key(connection)
        await a_key(connection)
        assert await any_key(connection)


@pytest.mark.parametrize("listed", [list_keys, list_tenants])
async def test_lists_go_on_where_the_page_before_ended(
    database: AsyncEngine, listed: Callable[..., Awaitable[list[Any]]]
):
    async with database.begin() as connection:
        for _ in range(4):
            await a_key(connection, tenant=await another_tenant(connection))
        everything = await listed(connection, limit=10_000, after=None)
        ids = [one.id for one in everything]
        assert len(ids) >= 4 and ids == sorted(ids, reverse=True)
        assert await listed(connection, limit=2, after=ids[0]) == everything[1:3]


async def test_a_key_that_replaces_another_is_like_it(database: AsyncEngine):
    async with database.begin() as connection:
        tenant = await another_tenant(connection)
        bystander, old = await a_key(connection), await a_key(connection, tenant=tenant, name="old", expires_in_s=3600)
        new = await rotate(connection, old)
        assert (new.tenant, new.name, new.role, new.replaces) == (tenant, "old", "admin", old.id)
        assert lifetime(new) == timedelta(hours=1)
        assert lifetime(await get_key(connection, old.id)) == timedelta(seconds=60)
        assert await get_key(connection, bystander.id) == bystander
        with pytest.raises(Conflict, match=f"{new.id} replaces this key already"):
            await rotate(connection, old)
        await revoke_key(connection, new.id)
        assert lifetime(await rotate(connection, old)) == timedelta(hours=1), "not what was left of the old one"


async def test_how_long_the_old_and_the_new_one_live(database: AsyncEngine):
    async with database.begin() as connection:
        lasting, brief = await a_key(connection), await a_key(connection, expires_in_s=30)
        assert lifetime(await rotate(connection, lasting)) is None
        assert lifetime(await get_key(connection, lasting.id)) == timedelta(seconds=60)
        assert lifetime(await rotate(connection, brief, 500)) == timedelta(seconds=500)
        assert lifetime(await get_key(connection, brief.id)) == timedelta(seconds=30), "no longer than it would have"


async def test_what_has_ended_is_not_replaced(database: AsyncEngine):
    async with database.begin() as connection:
        revoked, expired = await a_key(connection), await a_key(connection, expires_in_s=-1)
        await revoke_key(connection, revoked.id)
        for ended in (revoked, expired):
            with pytest.raises(Conflict, match="has ended"):
                await rotate(connection, ended)
        with pytest.raises(NotFound):
            await rotate_key(connection, new_id("key"), secret=generate_secret(), grace_s=60, expires_in_s=None)


async def test_of_two_who_replace_a_key_at_once_one_is_told(database: AsyncEngine):
    async with database.begin() as connection:
        key = await a_key(connection)

    async def second() -> None:
        async with database.begin() as connection:
            await rotate(connection, key)

    waits = text("SELECT EXISTS (SELECT FROM pg_locks WHERE NOT granted)")
    async with database.begin() as connection:
        await rotate(connection, key)
        late = asyncio.create_task(second())
        while not late.done() and not await connection.scalar(waits):
            await asyncio.sleep(0.01)
    with pytest.raises(Conflict, match="replaces this key already"):
        await late


async def test_a_tenant_has_a_name_and_an_id(database: AsyncEngine):
    name = new_id("ten").lower().replace("_", "-")
    async with database.begin() as connection:
        tenant, other = await ensure_tenant(connection, name), await another_tenant(connection)
        assert tenant == await ensure_tenant(connection, name) != other
        named, found = await get_tenant(connection, name), await get_tenant(connection, tenant)
        assert named == found and (found.id, found.name) == (tenant, name)
        assert (await tenant_names(connection))[tenant] == name
        for unknown in (new_id("ten"), "not-there", "no\x00name"):
            with pytest.raises(NotFound):
                await get_tenant(connection, unknown)


async def test_the_audit_log_keeps_who_did_what(database: AsyncEngine):
    row = {"action": "test", "object_id": new_id("am"), "request_id": new_id("req")}
    async with database.begin() as connection:
        key = await a_key(connection, tenant=await another_tenant(connection))
        await audit(connection, tenant=key.tenant, key=key.id, **row)
        kept = (await connection.execute(select(audit_log).where(audit_log.c.object_id == row["object_id"]))).one()
    assert (kept.tenant_id, kept.key_id) == (key.tenant, key.id)
    assert {name: getattr(kept, name) for name in row} == row
