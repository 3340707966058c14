"""Keys, models and aliases looked up together."""

import asyncio
import hashlib
import hmac
from collections.abc import AsyncIterator

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from kshot.contracts.errors import Expired, NotFound, Unauthenticated
from kshot.contracts.ids import new_id
from kshot.storage.access import generate_secret, insert_key, revoke_key
from kshot.storage.adapted_models import insert_adapted_model
from kshot.storage.expiry import delete_adapted_model
from kshot.storage.lookups import Lookups, Question
from kshot.storage.tables import DEFAULT_TENANT
from kshot.storage.tasks import insert_task
from tests.kshot.storage.conftest import a_model, another_tenant, its_task


@pytest.fixture
async def lookups(database: AsyncEngine) -> AsyncIterator[Lookups]:
    made = Lookups(database)
    yield made
    await made.close()


async def stored_model(database: AsyncEngine, checkpoint: str, **changes: object) -> str:
    model = a_model(checkpoint, **changes)
    async with database.begin() as connection:
        await insert_adapted_model(connection, model)
        await insert_task(connection, its_task(model))
    return model.id


async def stored_key(database: AsyncEngine, tenant: str, **changes: float) -> tuple[str, str]:
    secret = generate_secret()
    async with database.begin() as connection:
        key = await insert_key(connection, secret=secret, tenant=tenant, name="x", role="user", **changes)
    return secret, key.id


async def test_each_question_of_many_gets_its_own_answer(database: AsyncEngine, checkpoint: str, lookups: Lookups):
    async with database.begin() as connection:
        other = await another_tenant(connection)
    (mine, key), (theirs, _) = await stored_key(database, DEFAULT_TENANT), await stored_key(database, other)
    models = [await stored_model(database, checkpoint, input_shape=(i,)) for i in range(1, 20)]
    asked = [Question(secret=secret, model=model) for model in models for secret in (mine, theirs)]
    found = await asyncio.gather(*(lookups.find(question) for question in asked))
    for i, (own, foreign) in enumerate(zip(found[::2], found[1::2], strict=True)):
        assert (own.key().id, own.model().id, own.model().input_shape) == (key, models[i], (i + 1,))
        assert foreign.key().tenant == other
        with pytest.raises(NotFound):
            foreign.model()


async def test_a_key_ends_at_once(database: AsyncEngine, lookups: Lookups):
    secret, key = await stored_key(database, DEFAULT_TENANT)
    assert (await lookups.find(Question(secret=secret))).key().id == key
    async with database.begin() as connection:
        await revoke_key(connection, key)
    expired, _ = await stored_key(database, DEFAULT_TENANT, expires_in_s=-1.0)
    for wrong in (secret, expired, generate_secret(), secret[:12] + "0" * 56, "", "é" * 20):
        found = await lookups.find(Question(secret=wrong))
        assert found.keys_exist
        with pytest.raises(Unauthenticated):
            found.key()


@pytest.mark.reliability("access: keys at rest", "constant time")
async def test_whatever_is_sent_as_a_key_is_compared_once_in_constant_time(
    database: AsyncEngine, lookups: Lookups, monkeypatch: pytest.MonkeyPatch
):
    """Also where there is no such key: nothing tells a known beginning from an unknown one."""
    secret, _ = await stored_key(database, DEFAULT_TENANT)
    compared = list[tuple[bytes, bytes]]()
    compare = hmac.compare_digest
    monkeypatch.setattr(hmac, "compare_digest", lambda a, b: compared.append((a, b)) or compare(a, b))
    stored = hashlib.sha256(secret.encode()).digest()
    sent = {secret: stored, secret[:12] + "0" * 56: stored, generate_secret(): bytes(32)}
    for shown in sent:
        found = await lookups.find(Question(secret=shown))
        try:
            assert found.key().tenant == DEFAULT_TENANT and shown == secret
        except Unauthenticated:
            assert shown != secret
    assert compared == [(kept, hashlib.sha256(shown.encode()).digest()) for shown, kept in sent.items()]


async def test_models_that_are_gone(database: AsyncEngine, checkpoint: str, lookups: Lookups):
    over = await stored_model(database, checkpoint, ttl_s=-1.0)
    deleted = await stored_model(database, checkpoint)
    async with database.begin() as connection:
        await delete_adapted_model(connection, DEFAULT_TENANT, deleted)
    with pytest.raises(Expired):
        (await lookups.find(Question(tenant=DEFAULT_TENANT, model=over))).model()
    for model in (deleted, new_id("am"), None):
        with pytest.raises(NotFound):
            (await lookups.find(Question(tenant=DEFAULT_TENANT, model=model))).model()


async def test_aliases(database: AsyncEngine, checkpoint: str, lookups: Lookups):
    async with database.begin() as connection:
        statement = "INSERT INTO aliases (name, alias, checkpoint_id) VALUES ('plain', 'looked-up', :id)"
        await connection.execute(text(statement), {"id": checkpoint})
    assert (await lookups.find(Question(name="plain", alias="looked-up"))).checkpoint == checkpoint
    assert (await lookups.find(Question(name="plain", alias="other"))).checkpoint is None


async def test_a_connection_that_postgres_ended_is_replaced(database: AsyncEngine, lookups: Lookups):
    secret, key = await stored_key(database, DEFAULT_TENANT)
    for _ in range(2):
        assert (await lookups.find(Question(secret=secret))).key().id == key
        async with database.begin() as connection:
            its_own = "pid <> pg_backend_pid() AND query LIKE '%WITH ORDINALITY AS q (prefix%'"
            ended = text(f"SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE {its_own}")
            assert (await connection.execute(ended)).scalars().all() == [True]


async def test_who_gave_up_waiting_takes_no_answer_from_others(database: AsyncEngine, lookups: Lookups):
    secret, key = await stored_key(database, DEFAULT_TENANT)
    gone, waiting = lookups.find(Question(secret="x")), lookups.find(Question(secret=secret))
    gone.cancel()
    assert (await waiting).key().id == key
