"""Row-level security: what a tenant's transaction sees though no query filters anything."""

import asyncio
import importlib.util
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from sqlalchemy import Table, func, insert, make_url, select, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from kshot.contracts.datasets import DatasetManifest
from kshot.contracts.ids import new_id
from kshot.storage import access_tables, flywheel_tables, training_tables
from kshot.storage.access import audit, generate_secret, insert_key
from kshot.storage.database import open_database
from kshot.storage.lookups import Lookups, Question
from kshot.storage.orders import NewOrder, Room, insert_orders
from kshot.storage.sessions import create_session
from kshot.storage.tables import adapted_models, audit_log, metadata, predictions, results, tasks, tenants
from kshot.storage.tenancy import ROLE, confine, grant_again, unconfined
from standalone import EmbeddedServers
from tests.kshot.storage.conftest import ROOT, a_model, another_tenant, its_task

SHARED = {"checkpoints", "aliases"}
"""What every tenant reads: nobody owns it."""
CLOSED = {"workers", "alias_history"}
"""Where nothing is granted, so that nothing needs a policy."""
PLENTY = Room(10**6, 10**6)


@asynccontextmanager
async def acting_for(database: AsyncEngine, tenant: str) -> AsyncIterator[AsyncConnection]:
    async with database.begin() as connection:
        await confine(connection, tenant)
        yield connection


@pytest.fixture
async def two(database: AsyncEngine, checkpoint: str) -> tuple[str, str]:
    """Two tenants with a row in every table that tells tenants apart."""
    async with database.begin() as connection:
        pair = [await another_tenant(connection) for _ in range(2)]
        for tenant in pair:
            await _fill(connection, tenant, checkpoint)
    return pair[0], pair[1]


async def _fill(connection: AsyncConnection, tenant: str, checkpoint: str) -> None:
    key = await insert_key(connection, secret=generate_secret(), tenant=tenant, name="a", role="user")
    await create_session(connection, key.id)
    await audit(connection, tenant=tenant, key=key.id, action="test", object_id="x", request_id=None)
    model = a_model(checkpoint, tenant=tenant)
    await insert_orders(connection, [NewOrder(model, its_task(model), key.id)], PLENTY)
    for table, values in _rows(checkpoint, model.id, model.task_id):
        own = {"tenant_id": tenant} if "tenant_id" in table.c else {}
        await connection.execute(insert(table).values(**values, **own))


def _rows(checkpoint: str, model: str, task: str) -> list[tuple[Table, dict[str, Any]]]:
    job, dataset = new_id("job"), new_id("ds")
    parts: dict[str, Any] = {"train": (), "valid": (), "test": ()}
    name = dataset.lower().replace("_", "-")
    described = DatasetManifest(
        id=dataset, name=name, format="text_csv", modality="text", file="data.csv", splits=parts, sizes=parts
    )
    manifest = described.model_dump(mode="json")
    made = {"adapted_model_id": model, "checkpoint_id": checkpoint}
    gate = {"challenger_id": checkpoint, "incumbent_id": checkpoint, "alias": "production", "alias_version": 1}
    answers = {"n_query": 0, "predictions": [], "timings": {}}
    return [
        (results, {"task_id": task, "object_sha256": "x", "timings": {}}),
        (predictions, {"id": new_id("pred"), **made, **answers}),
        (metadata.tables["idempotency_keys"], {"key": "k", "body_sha256": "x", "object_id": model}),
        (flywheel_tables.feedback, {"id": new_id("fb"), "adapted_model_id": model, "n": 1, "n_answered": 0}),
        (flywheel_tables.recording, {"enabled": True, "retention_days": 1}),
        (
            flywheel_tables.adapted_model_history,
            {"id": new_id("evt"), **made, "revision": 1, "outcome": "made", "reason": ""},
        ),
        (training_tables.datasets, {"id": dataset, "name": name, "manifest": manifest}),
        (training_tables.training_jobs, {"id": job, "name": "x", "dataset_id": dataset, "request": {}, "spec": {}}),
        (training_tables.job_events, {"job_id": job, "seq": 1, "attempt": 0, "kind": "queued", "data": {}}),
        (training_tables.promotions, {"id": new_id("pro"), "name": name, "dataset_id": dataset, **gate}),
        (access_tables.quotas, {"adapted_models": 5}),
    ]


async def test_every_table_has_a_policy_or_a_reason_for_none(database: AsyncEngine) -> None:
    """A new table fails this until somebody has decided who may read it."""
    policies = text(
        "SELECT c.relname FROM pg_class c JOIN pg_policy p ON p.polrelid = c.oid "
        "WHERE c.relrowsecurity AND p.polpermissive AND p.polcmd = '*'"
    )
    grants = text("SELECT table_name FROM information_schema.column_privileges WHERE grantee = :role")
    async with database.connect() as connection:
        guarded = set(await connection.scalars(policies))
        granted = set(await connection.scalars(grants, {"role": ROLE}))
    assert guarded | SHARED | CLOSED == set(metadata.tables) and not guarded & (SHARED | CLOSED)
    assert {name for name, table in metadata.tables.items() if "tenant_id" in table.c} <= guarded
    assert granted <= guarded | SHARED


async def test_a_query_that_forgot_its_filter_finds_own_rows_alone(database: AsyncEngine, two: tuple[str, str]) -> None:
    read = set()
    for tenant in two:
        async with acting_for(database, tenant) as connection:
            for name, table in metadata.tables.items():
                if name in SHARED or not await _may_read(connection, name):
                    continue
                rows = (await connection.execute(select(table))).mappings().all()
                assert len(rows) == 1, name
                assert rows[0].get("tenant_id", tenant) == tenant
                read.add(name)
            assert list(await connection.scalars(select(tenants.c.id))) == [tenant]
    assert set(metadata.tables) - read == SHARED | CLOSED | {"audit_log", "sessions", "job_events"}


async def _may_read(connection: AsyncConnection, name: str) -> bool:
    asked = text("SELECT has_table_privilege(current_user, :name, 'SELECT')")
    return bool(await connection.scalar(asked, {"name": name}))


async def test_nothing_is_written_for_or_taken_from_another_tenant(database: AsyncEngine, two: tuple[str, str]) -> None:
    own, other = two
    async with acting_for(database, own) as connection:
        assert (await connection.execute(adapted_models.update().values(pinned=True))).rowcount == 1
        assert (await connection.execute(flywheel_tables.feedback.delete())).rowcount == 1
    forbidden = [
        adapted_models.update().values(tenant_id=other),
        insert(audit_log).values(tenant_id=other, action="x", object_id="x"),
        insert(flywheel_tables.recording).values(tenant_id=other, enabled=True, retention_days=1),
        select(audit_log),
        select(access_tables.sessions),
        tasks.delete(),
        metadata.tables["api_keys"].update().values(role="admin"),
        access_tables.quotas.update().values(adapted_models=None),
        metadata.tables["checkpoints"].update().values(name="x"),
        select(metadata.tables["workers"]),
    ]
    for statement in forbidden:
        with pytest.raises(DBAPIError, match=r"row-level security|permission denied"):
            async with acting_for(database, own) as connection:
                await connection.execute(statement)
    async with database.connect() as connection:
        pinned = select(adapted_models.c.pinned).where(adapted_models.c.tenant_id == other)
        assert list(await connection.scalars(pinned)) == [False]


async def test_without_a_tenant_nothing_is_seen(database: AsyncEngine, two: tuple[str, str]) -> None:
    """Neither before a connection ever had one, nor after: the setting ends with its transaction."""
    async with acting_for(database, two[0]):
        pass
    async with database.begin() as connection:
        assert await connection.scalar(select(func.current_user())) != ROLE
        await connection.execute(text("SELECT set_config('role', :role, true)"), {"role": ROLE})
        assert await connection.scalar(select(func.count()).select_from(adapted_models)) == 0


@pytest.fixture
async def superuser(migrated: EmbeddedServers) -> AsyncIterator[AsyncEngine]:
    """As compose's user of the database is."""
    secret = (migrated.home / "servers" / "postgres-secret").read_text().strip()
    engine = open_database(address(migrated, username="postgres", password=secret), pool_size=1)
    yield engine
    await engine.dispose()


def address(servers: EmbeddedServers, **parts: str) -> str:
    return make_url(servers.database_url).set(**parts).render_as_string(hide_password=False)


async def test_a_superuser_is_bound_too(superuser: AsyncEngine, two: tuple[str, str]) -> None:
    """No policy binds him, but the role that he acts as."""
    count = select(func.count()).select_from(adapted_models)
    async with acting_for(superuser, two[0]) as connection:
        assert await connection.scalar(count) == 1
    async with superuser.connect() as connection:
        assert int(await connection.scalar(count) or 0) >= 2


async def test_not_even_a_superuser_changes_the_audit_log_without_taking_its_trigger_off(
    superuser: AsyncEngine, two: tuple[str, str]
) -> None:
    for statement in ("UPDATE audit_log SET action = 'x'", "DELETE FROM audit_log", "TRUNCATE tenants CASCADE"):
        with pytest.raises(DBAPIError, match="append-only"):
            async with superuser.begin() as connection:
                await connection.execute(text("SET LOCAL session_replication_role = replica"))
                await connection.execute(text(statement))


async def test_who_does_not_own_the_database_is_told_what_to_do(superuser: AsyncEngine) -> None:
    spec = importlib.util.spec_from_file_location("tenancy_migration", ROOT / "migrations/versions/0008_tenancy.py")
    assert spec is not None and spec.loader is not None
    migration = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(migration)
    async with superuser.connect() as connection:  # nothing of it is committed
        await connection.execute(text(migration._REFUSE_OTHERS))
        await connection.execute(text("CREATE ROLE lodger"))
        await connection.execute(text("SET LOCAL ROLE lodger"))
        with pytest.raises(DBAPIError, match=r"must own the database: ALTER DATABASE \w+ OWNER TO lodger"):
            await connection.execute(text(migration._REFUSE_OTHERS))


async def test_what_concerns_everyone_is_asked_in_between(database: AsyncEngine, two: tuple[str, str]) -> None:
    count = select(func.count()).select_from(tasks)
    async with acting_for(database, two[0]) as connection:
        async with unconfined(connection):
            assert int(await connection.scalar(count) or 0) >= 2
        assert await connection.scalar(count) == 1
    async with database.begin() as connection:
        assert await connection.scalar(select(func.current_user())) != ROLE, "that, too, ends with the transaction"


async def test_what_a_restore_leaves_out_is_granted_again(database: AsyncEngine) -> None:
    async with database.connect() as connection:  # nothing of it is committed
        await connection.execute(text(f"REVOKE ALL ON tenants, adapted_models FROM {ROLE}"))
        asked = text(f"SELECT has_table_privilege('{ROLE}', 'adapted_models', 'SELECT')")
        assert not await connection.scalar(asked)
        await grant_again(connection)
        assert await connection.scalar(asked)
        await connection.execute(text(f"REVOKE ALL ON tenants FROM {ROLE}"))
        await connection.execute(text("DROP FUNCTION grant_to_tenants"))
        await grant_again(connection)  # nothing to call, as before that revision


async def test_of_two_that_grant_again_at_once_one_waits(database: AsyncEngine) -> None:
    async def second() -> None:
        async with database.begin() as connection:
            await grant_again(connection)

    waits = text("SELECT EXISTS (SELECT FROM pg_locks WHERE NOT granted)")
    async with database.begin() as connection:
        await grant_again(connection)
        late = asyncio.create_task(second())
        while not late.done() and not await connection.scalar(waits):
            await asyncio.sleep(0.01)
        assert not late.done()
    await late


async def test_two_tenants_orders_and_questions_go_in_one_statement_and_are_told_apart(
    database: AsyncEngine, checkpoint: str
) -> None:
    """`storage/orders.py` and `storage/lookups.py` act for many at once, so they compare the tenants themselves."""
    secrets, models = [generate_secret() for _ in range(2)], []
    async with database.begin() as connection:
        for secret in secrets:
            tenant = await another_tenant(connection)
            await insert_key(connection, secret=secret, tenant=tenant, name="a", role="user")
            models.append(a_model(checkpoint, tenant=tenant))
    async with database.connect() as connection:
        made = await insert_orders(connection, [NewOrder(model, its_task(model), None) for model in models], PLENTY)
    assert {model.id: model.tenant for model in made.values()} == {model.id: model.tenant for model in models}
    lookups = Lookups(database)
    asked = [lookups.find(Question(secret=secret, model=model.id)) for secret in secrets for model in models]
    found = [await future for future in asked]
    await lookups.close()
    assert [one.key().tenant for one in found] == [models[0].tenant] * 2 + [models[1].tenant] * 2
    assert [one._row["model"] for one in found] == [models[0].id, None, None, models[1].id]
    for model in models:
        async with acting_for(database, model.tenant) as connection:
            assert list(await connection.scalars(select(tasks.c.adapted_model_id))) == [model.id]
