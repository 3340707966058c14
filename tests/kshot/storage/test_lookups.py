"""Keys, models and aliases looked up together."""

import asyncio
import hashlib
import hmac
from collections.abc import AsyncIterator

import asyncpg
import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from kshot.contracts.errors import Expired, NotFound, Unauthenticated
from kshot.contracts.ids import new_id
from kshot.contracts.selection import CheckpointRef
from kshot.contracts.tasks import CountedTarget, Failure, TargetSpec
from kshot.storage.access import generate_secret, insert_key, revoke_key
from kshot.storage.adapted_models import insert_adapted_model
from kshot.storage.database import is_away, open_database
from kshot.storage.expiry import delete_adapted_model
from kshot.storage.lookups import Lookups, Question
from kshot.storage.quotas import NO_QUOTAS, Quotas, set_quotas
from kshot.storage.tables import DEFAULT_TENANT
from kshot.storage.tasks import insert_task
from tests.kshot.storage.conftest import a_model, another_tenant, its_task

ITS_OWN = "pid <> pg_backend_pid() AND query LIKE '%WITH ORDINALITY AS q (prefix%'"


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
        assert found.keys_exist is True
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


async def test_a_pinned_model_outlives_its_time(database: AsyncEngine, checkpoint: str, lookups: Lookups):
    model = await stored_model(database, checkpoint, ttl_s=-1.0)
    async with database.begin() as connection:
        await connection.execute(text("UPDATE adapted_models SET pinned = true WHERE id = :id"), {"id": model})
    assert (await lookups.find(Question(tenant=DEFAULT_TENANT, model=model))).model().id == model


async def test_what_predicting_needs_of_a_model(database: AsyncEngine, checkpoint: str, lookups: Lookups):
    targets = (TargetSpec(name="a", kind="classification", classes=("x", 7)), TargetSpec(name="b", kind="regression"))
    counted = [CountedTarget(**dict(target), n_examples=2) for target in targets]
    stored = await stored_model(database, checkpoint, alias="production", task="multitask", targets=counted)
    model = (await lookups.find(Question(tenant=DEFAULT_TENANT, model=stored))).model()
    assert model.made_with == CheckpointRef(id=checkpoint, name="plain", alias="production")
    assert (model.task, model.targets, model.status, model.failure) == ("multitask", targets, "queued", None)


async def test_why_a_model_cannot_answer(database: AsyncEngine, checkpoint: str, lookups: Lookups):
    failure = Failure(code="adaptation_failed", message="diverged", param="support")
    stored = await stored_model(database, checkpoint)
    ended = text("UPDATE tasks SET status = 'failed', failure = :why WHERE adapted_model_id = :id")
    async with database.begin() as connection:
        await connection.execute(ended, {"why": failure.model_dump_json(), "id": stored})
    model = (await lookups.find(Question(tenant=DEFAULT_TENANT, model=stored))).model()
    assert (model.targets, model.status, model.failure) == ((), "failed", failure)


async def test_quotas_are_those_of_the_tenant_that_asks(database: AsyncEngine, lookups: Lookups):
    limited = Quotas(open_jobs=3)
    async with database.begin() as connection:
        tenant, other = await another_tenant(connection), await another_tenant(connection)
        await set_quotas(connection, tenant, limited)
    (secret, _), (free, _) = await stored_key(database, tenant), await stored_key(database, other)
    asked = [Question(secret=secret), Question(tenant=tenant), Question(secret=free), Question(tenant=other)]
    found = await asyncio.gather(*map(lookups.find, asked))
    assert [one.quotas for one in found] == [limited, limited, NO_QUOTAS, NO_QUOTAS]


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
            ended = text(f"SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE {ITS_OWN}")
            assert True in (await connection.execute(ended)).scalars().all()


async def test_it_ends_its_connection_when_it_closes(database: AsyncEngine, lookups: Lookups):
    async def connected() -> int:
        async with database.connect() as connection:  # within one transaction it would always be the same
            return int(await connection.scalar(text(f"SELECT count(*) FROM pg_stat_activity WHERE {ITS_OWN}")))

    async with asyncio.timeout(120):
        while await connected():  # of tests before
            await asyncio.sleep(0.01)
        await lookups.find(Question(tenant=DEFAULT_TENANT))
        assert await connected() == 1
        await lookups.close()
        while await connected():
            await asyncio.sleep(0.01)


async def test_who_waits_when_it_closes_is_told(lookups: Lookups):
    waiting = lookups.find(Question(tenant=DEFAULT_TENANT))
    await asyncio.sleep(0)  # it is asked
    await lookups.close()
    assert waiting.done()
    with pytest.raises(ConnectionError, match="closed"):
        await waiting


async def test_all_who_wait_hear_that_postgres_is_away():
    lookups = Lookups(open_database("postgresql://kshot@127.0.0.1:1/kshot"))
    for _ in range(2):
        asked = [lookups.find(Question(tenant=DEFAULT_TENANT)) for _ in range(300)]  # more than one statement takes
        assert all(map(is_away, await asyncio.gather(*asked, return_exceptions=True)))
    await lookups.close()


async def test_what_postgres_cannot_read_is_the_matter_of_who_sent_it(database: AsyncEngine, lookups: Lookups):
    secret, key = await stored_key(database, DEFAULT_TENANT)
    for _ in range(2):
        with pytest.raises(asyncpg.CharacterNotInRepertoireError):
            await lookups.find(Question(tenant="\x00"))
        assert (await lookups.find(Question(secret=secret))).key().id == key


async def test_who_gave_up_waiting_takes_no_answer_from_others(database: AsyncEngine, lookups: Lookups):
    secret, key = await stored_key(database, DEFAULT_TENANT)
    gone, waiting = lookups.find(Question(secret="x")), lookups.find(Question(secret=secret))
    gone.cancel()
    assert (await waiting).key().id == key
