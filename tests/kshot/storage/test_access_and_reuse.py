"""Tenants see their own objects alone; keys are stored as digests; equal requests create once."""

import asyncio
from datetime import timedelta
from hashlib import sha256

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from kshot.contracts.errors import Conflict, Expired, IdempotencyKeyReused, Invalid, NotFound, Unauthenticated
from kshot.contracts.ids import new_id
from kshot.storage import idempotency
from kshot.storage.access import authenticate, generate_secret, insert_key, revoke_key
from kshot.storage.adapted_models import (
    change_adapted_model,
    extend,
    find_same,
    get_adapted_model,
    insert_adapted_model,
    list_adapted_models,
)
from kshot.storage.expiry import delete_adapted_model
from kshot.storage.results import get_support
from kshot.storage.tables import DEFAULT_TENANT
from kshot.storage.tasks import insert_task
from tests.kshot.storage.conftest import PAYLOAD, a_model, another_tenant, its_task


async def test_another_tenant_finds_nothing(database: AsyncEngine, checkpoint: str):
    model = a_model(checkpoint)
    async with database.begin() as connection:
        await insert_adapted_model(connection, model)
        await insert_task(connection, its_task(model))
        other = await another_tenant(connection)
        for ask in (get_adapted_model, delete_adapted_model, get_support, change_adapted_model):
            with pytest.raises(NotFound):
                await ask(connection, other, model.id)
        assert await list_adapted_models(connection, other, limit=10, after=None) == []
        assert await get_support(connection, DEFAULT_TENANT, model.id) == PAYLOAD


async def test_expired_models_are_gone_unless_pinned(database: AsyncEngine, checkpoint: str):
    model = a_model(checkpoint, ttl_s=-1.0, fingerprint=new_id("evt"))
    async with database.begin() as connection:
        await insert_adapted_model(connection, model)
        await insert_task(connection, its_task(model))
        with pytest.raises(Expired):
            await get_adapted_model(connection, DEFAULT_TENANT, model.id)
        assert await find_same(connection, DEFAULT_TENANT, str(model.fingerprint), b"") is None
        await connection.execute(text("UPDATE adapted_models SET pinned = true WHERE id = :id"), {"id": model.id})
        assert (await get_adapted_model(connection, DEFAULT_TENANT, model.id)).pinned
        with pytest.raises(Invalid) as refused:  # the caller's transaction ends here
            async with connection.begin_nested():
                await change_adapted_model(connection, DEFAULT_TENANT, model.id, pinned=False)
        assert refused.value.param == "ttl_seconds"
        await change_adapted_model(connection, DEFAULT_TENANT, model.id, pinned=False, ttl_s=60)


async def test_a_model_lives_as_long_as_the_longest_wish(database: AsyncEngine, checkpoint: str):
    model = a_model(checkpoint, ttl_s=3600.0)
    async with database.begin() as connection:
        await insert_adapted_model(connection, model)
        await insert_task(connection, its_task(model))
        first = await get_adapted_model(connection, DEFAULT_TENANT, model.id)
        shorter = await extend(connection, first, 60)
        longer = await extend(connection, first, 7200)
    assert first.expires_at is not None
    assert (shorter.expires_at, longer.expires_at) == (first.expires_at, first.expires_at + timedelta(hours=1))


async def test_a_pending_model_knows_what_it_was_asked(database: AsyncEngine, checkpoint: str):
    fingerprint = new_id("evt")
    model = a_model(checkpoint, fingerprint=fingerprint)
    async with database.begin() as connection:
        await insert_adapted_model(connection, model)
        await insert_task(connection, its_task(model))
        found = await get_adapted_model(connection, DEFAULT_TENANT, model.id)
        for payload, asked in ((PAYLOAD, True), (PAYLOAD + b"x", False)):
            digest = sha256(payload).digest()
            assert await find_same(connection, DEFAULT_TENANT, fingerprint, digest) == (found, asked)
        await connection.execute(text("UPDATE tasks SET status = 'succeeded' WHERE id = :t"), {"t": found.task_id})
        made = await find_same(connection, DEFAULT_TENANT, fingerprint, sha256(PAYLOAD).digest())
    assert made is not None and made[0].status == "succeeded" and not made[1]


async def test_equal_fingerprints_are_one_model_per_tenant(database: AsyncEngine, checkpoint: str):
    fingerprint = new_id("evt")
    async with database.begin() as connection:
        other = await another_tenant(connection)
        assert await insert_adapted_model(connection, a_model(checkpoint, fingerprint=fingerprint))
        assert not await insert_adapted_model(connection, a_model(checkpoint, fingerprint=fingerprint))
        assert await insert_adapted_model(connection, a_model(checkpoint, fingerprint=fingerprint, tenant=other))


@pytest.mark.reliability("access: keys at rest", "sha256")
async def test_keys_are_stored_as_digests_and_revoked_at_once(database: AsyncEngine):
    secret = generate_secret()
    async with database.begin() as connection:
        key = await insert_key(connection, secret=secret, tenant=DEFAULT_TENANT, name="k", role="user")
        assert (await authenticate(connection, secret)).id == key.id
        dump = await connection.scalar(text("SELECT api_keys::text FROM api_keys WHERE id = :id"), {"id": key.id})
        assert secret[12:] not in dump
        with pytest.raises(Unauthenticated):
            await authenticate(connection, secret[:-1] + ("0" if secret[-1] != "0" else "1"))
        await revoke_key(connection, key.id)
        with pytest.raises(Unauthenticated):
            await authenticate(connection, secret)


async def test_a_secret_whose_prefix_is_taken_is_refused(database: AsyncEngine):
    secret = generate_secret()
    async with database.begin() as connection:
        key = await insert_key(connection, secret=secret, tenant=DEFAULT_TENANT, name="k", role="user", expires_in_s=60)
        again = await insert_key(connection, secret=secret, tenant=DEFAULT_TENANT, name="other", role="admin")
        assert again == key
        with pytest.raises(Conflict):
            await insert_key(connection, secret=secret[:12] + "x" * 56, tenant=DEFAULT_TENANT, name="k2", role="user")
        assert key.expires_at is not None
        assert key.expires_at - key.created_at == timedelta(seconds=60)  # both by the database's clock


async def test_twenty_parallel_equal_requests_bind_one_id(database: AsyncEngine):
    key = new_id("evt")

    async def one() -> str:
        async with database.begin() as connection:
            return (await idempotency.take(connection, DEFAULT_TENANT, key, "same", new_id("am"))).object_id

    assert len(set(await asyncio.gather(*(one() for _ in range(20))))) == 1
    async with database.begin() as connection:
        with pytest.raises(IdempotencyKeyReused):
            await idempotency.take(connection, DEFAULT_TENANT, key, "other", new_id("am"))
        other = await another_tenant(connection)
        mine = new_id("am")
        assert (await idempotency.take(connection, other, key, "other", mine)).object_id == mine
        await idempotency.free(connection, other, key, new_id("am"))
        assert (await idempotency.take(connection, other, key, "other", new_id("am"))).object_id == mine
        await idempotency.free(connection, other, key, mine)
        fresh = new_id("am")
        assert (await idempotency.take(connection, other, key, "other", fresh)).object_id == fresh


async def test_a_key_tells_an_object_it_made_from_one_it_found(database: AsyncEngine, checkpoint: str):
    made, found = a_model(checkpoint), new_id("evt")
    async with database.begin() as connection:
        await insert_adapted_model(connection, made)
        await insert_task(connection, its_task(made))
        bound = await idempotency.take(connection, DEFAULT_TENANT, new_id("evt"), "body", made.id)
        await idempotency.take(connection, DEFAULT_TENANT, found, "body", new_id("am"))
        await idempotency.rebind(connection, DEFAULT_TENANT, found, made.id)
        rebound = await idempotency.take(connection, DEFAULT_TENANT, found, "body", new_id("am"))
        model = await get_adapted_model(connection, DEFAULT_TENANT, made.id)
    assert bound.object_id == rebound.object_id == model.id
    assert bound.at == model.created_at < rebound.at
