"""The migrations bring a database to the tables, forward and back."""

from dataclasses import replace

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncEngine

from kshot.contracts.ids import new_id
from kshot.storage import access_tables, flywheel_tables, training_tables  # noqa: F401 - their tables join the metadata
from kshot.storage.access import audit
from kshot.storage.adapted_models import (
    get_adapted_model,
    insert_adapted_model,
    list_adapted_models,
)
from kshot.storage.checkpoints import register
from kshot.storage.database import open_database
from kshot.storage.results import get_support
from kshot.storage.states import Wanted, read_states
from kshot.storage.tables import DEFAULT_TENANT, metadata
from kshot.storage.tasks import insert_task
from standalone import EmbeddedServers, embedded_servers
from tests.kshot.storage.conftest import a_manifest, a_model, alembic, its_task


def test_migrations_equal_the_tables(migrated: EmbeddedServers):
    done = alembic(migrated, "check")
    assert done.returncode == 0, done.stdout + done.stderr


_CHECKS = """
SELECT relname, conname, pg_get_constraintdef(c.oid), convalidated
FROM pg_constraint c JOIN pg_class t ON t.oid = conrelid
WHERE contype = 'c' AND relnamespace = CAST(:schema AS regnamespace)"""


async def test_checks_equal_those_of_the_tables(database: AsyncEngine):
    """Alembic compares none: so the tables are made as they are declared, and Postgres is asked of both."""
    async with database.connect() as connection:  # rolled back
        migrated = await connection.execute(text(_CHECKS), {"schema": "public"})
        await connection.execute(text("CREATE SCHEMA declared"))
        await connection.execute(text("SET LOCAL search_path TO declared"))
        await connection.run_sync(metadata.create_all)
        declared = await connection.execute(text(_CHECKS), {"schema": "declared"})
        found = {tuple(row) for row in migrated}
    assert found == {tuple(row) for row in declared} and len(found) == 6


def test_migrations_go_back_and_forth_again():
    with embedded_servers() as servers:
        for step in (["upgrade", "head"], ["downgrade", "base"], ["upgrade", "head"]):
            done = alembic(servers, *step)
            assert done.returncode == 0, done.stderr


_PREDICTION = f"""
INSERT INTO predictions (id, tenant_id, adapted_model_id, checkpoint_id, n_query, predictions, timings)
VALUES (:id, '{DEFAULT_TENANT}', :model, 'ckpt', 1, '[]', '{{}}')"""
_INLINE_RESULT = """
WITH done AS (
    UPDATE tasks SET status = 'succeeded', attempt = 1, finished_at = now() WHERE id = :task RETURNING id)
INSERT INTO results (task_id, object_sha256, state, timings) SELECT id, 'abc', 'state', '{}' FROM done"""
_ROWS_OF_0001 = (
    """
INSERT INTO checkpoints (id, name, content_sha256, manifest, object_key, bytes)
VALUES ('ckpt', 'plain', 'abc', '{}', 'checkpoints/abc', 1)""",
    """
INSERT INTO adapted_models (id, tenant_id, checkpoint_id, checkpoint_name, learner, options, task, classes, k_shot,
    n_support, input_shape, expires_at)
VALUES (:model, :tenant, 'ckpt', 'plain', 'ridge', '{}', 'classification', '["a", "b"]', '[1, 1]', 2, '[3]',
    now() + interval '1 hour')""",
    """
INSERT INTO tasks (id, tenant_id, adapted_model_id, checkpoint_id, payload, status)
VALUES ('task_1', :tenant, :model, 'ckpt', '', 'succeeded')""",
    """
INSERT INTO results (task_id, object_key, object_sha256, timings, predictions)
VALUES ('task_1', 'states/x', 'abc', '{}', '[{"label": "a"}]')""",
)


async def test_rows_of_the_first_tables_are_read_after_the_upgrade():
    with embedded_servers() as servers:
        assert alembic(servers, "upgrade", "0001").returncode == 0
        database = open_database(servers.database_url)
        places = {"model": new_id("am"), "tenant": DEFAULT_TENANT}
        async with database.begin() as connection:
            for statement in _ROWS_OF_0001:
                named = {name: value for name, value in places.items() if f":{name}" in statement}
                await connection.execute(text(statement), named)
        await database.dispose()
        forward = alembic(servers, "upgrade", "head")
        assert forward.returncode == 0, forward.stderr
        async with database.connect() as connection:
            model = await get_adapted_model(connection, DEFAULT_TENANT, places["model"])
            assert await list_adapted_models(connection, DEFAULT_TENANT, limit=9, after=None) == [
                replace(model, predictions=None)
            ]
        await database.dispose()
        assert (model.checkpoint, model.learner, model.status) == ("ckpt", "ridge", "succeeded")
        assert (model.targets, model.qualities, model.selection) == ((), None, None)
        assert model.classes == ("a", "b") and model.predictions == [{"label": "a"}]


async def test_what_the_older_tables_cannot_say_is_erased_on_the_way_back():
    """Models of several targets, and models whose checkpoint is still to be chosen; the others stay."""
    with embedded_servers() as servers:
        assert alembic(servers, "upgrade", "head").returncode == 0
        database = open_database(servers.database_url)
        async with database.begin() as connection:
            made = await register(connection, new_id("ckpt"), a_manifest(), "abc", "checkpoints/abc", 1)
            kept, joint = a_model(made), a_model(made, task="multitask", classes=(), k_shot=())
            child = a_model(made, parent=joint.id)
            undecided = replace(a_model(made), checkpoint=None, checkpoint_name=None, learner=None)
            for model in (kept, joint, child, undecided):
                await insert_adapted_model(connection, model)
                await insert_task(connection, its_task(model))
                await connection.execute(text(_PREDICTION), {"id": new_id("pred"), "model": model.id})
        await database.dispose()
        back = alembic(servers, "downgrade", "0001")
        assert back.returncode == 0, back.stderr
        async with database.connect() as connection:
            rows = await connection.execute(text("SELECT id, parent_id FROM adapted_models ORDER BY id"))
            assert {tuple(row) for row in rows} == {(kept.id, None), (child.id, None)}
            assert await connection.scalar(text("SELECT count(*) FROM tasks")) == 2
            asked = await connection.execute(text("SELECT adapted_model_id FROM predictions"))
            assert set(asked.scalars()) == {kept.id, child.id}
        await database.dispose()


_ROWS_OF_0003 = (
    """
INSERT INTO checkpoints (id, name, content_sha256, manifest, object_key, bytes)
VALUES ('ckpt', 'plain', 'abc', '{}', 'checkpoints/abc', 1)""",
    """
INSERT INTO adapted_models (id, tenant_id, checkpoint_id, checkpoint_name, learner, options, task, classes, k_shot,
    n_support, input_shape, expires_at)
VALUES (:model, :tenant, 'ckpt', 'plain', 'ridge', '{}', 'classification', '["a", "b"]', '[1, 1]', 2, '[3]',
    now() + interval '1 hour'),
    ('am_gone', :tenant, 'ckpt', 'plain', 'ridge', '{}', 'classification', '["a", "b"]', '[1, 1]', 2, '[3]',
    now() - interval '1 hour')""",
    """
INSERT INTO tasks (id, tenant_id, adapted_model_id, checkpoint_id, payload, status)
VALUES ('task_1', :tenant, :model, 'ckpt', '1', 'succeeded'), ('task_2', :tenant, 'am_gone', 'ckpt', NULL, 'succeeded')
""",
    """
INSERT INTO results (task_id, object_key, object_sha256, timings) VALUES ('task_1', 'states/x', 'abc', '{}')""",
)
_MOVED_ON = (
    """
INSERT INTO tasks (id, tenant_id, adapted_model_id, checkpoint_id, learner, background, status)
VALUES ('task_3', :tenant, :model, 'ckpt', 'protonet', true, 'succeeded'),
    ('task_4', :tenant, :model, 'ckpt', 'protonet', true, 'queued')""",
    "INSERT INTO results (task_id, object_key, object_sha256, timings) VALUES ('task_3', 'states/y', 'def', '{}')",
    "UPDATE adapted_models SET task_id = 'task_3', learner = 'protonet', revision = 2, follow = true WHERE id = :model",
    """
INSERT INTO adapted_model_history (id, adapted_model_id, revision, checkpoint_id, outcome, reason)
VALUES ('evt_1', :model, 2, 'ckpt', 'followed', 'moved')""",
    """
INSERT INTO feedback (id, tenant_id, adapted_model_id, n, n_answered) VALUES ('fb_1', :tenant, :model, 1, 0)""",
    "INSERT INTO recording (tenant_id, enabled, retention_days) VALUES (:tenant, true, 90)",
)


async def test_models_find_their_task_after_the_upgrade_and_their_last_state_after_the_way_back():
    places = {"model": new_id("am"), "tenant": DEFAULT_TENANT}

    async def run(*statements: str) -> None:
        async with database.begin() as connection:
            for statement in statements:
                named = {name: value for name, value in places.items() if f":{name}" in statement}
                await connection.execute(text(statement), named)
        await database.dispose()

    with embedded_servers() as servers:
        database = open_database(servers.database_url)
        assert alembic(servers, "upgrade", "0003").returncode == 0
        await run(*_ROWS_OF_0003)
        forward = alembic(servers, "upgrade", "head")
        assert forward.returncode == 0, forward.stderr
        async with database.connect() as connection:
            model = await get_adapted_model(connection, DEFAULT_TENANT, places["model"])
            assert (model.task_id, model.revision, model.follow, model.object_key) == ("task_1", 1, False, "states/x")
            assert await get_support(connection, DEFAULT_TENANT, model.id) == b"1"
            (state,) = await read_states(database, [Wanted(DEFAULT_TENANT, model.id, "task_1")])
            assert (state.learner, state.object_key, state.state) == ("ridge", "states/x", None)
            erased = "SELECT id FROM adapted_models WHERE state_erased_at IS NOT NULL"
            assert list(await connection.scalars(text(erased))) == ["am_gone"]
        await run(*_MOVED_ON)
        back = alembic(servers, "downgrade", "0003")
        assert back.returncode == 0, back.stderr
        async with database.connect() as connection:
            rows = await connection.execute(text("SELECT id, payload FROM tasks ORDER BY id"))
            assert [tuple(row) for row in rows] == [("task_2", None), ("task_3", b"1")]
            assert list(await connection.scalars(text("SELECT object_key FROM results"))) == ["states/y"]
        await database.dispose()


@pytest.mark.parametrize(
    "statement", ["UPDATE audit_log SET action = 'x'", "DELETE FROM audit_log", "TRUNCATE audit_log"]
)
async def test_audit_log_is_append_only(database: AsyncEngine, statement: str):
    async with database.begin() as connection:
        await audit(connection, tenant=DEFAULT_TENANT, key=None, action="test", object_id="x", request_id=None)
    with pytest.raises(DBAPIError, match="append-only"):
        async with database.begin() as connection:
            await connection.execute(text(statement))


async def test_states_in_rows_are_made_again_after_the_way_back():
    """A model whose support is there waits to be adapted again; one that was made by a replay expires; a task with a
    query of its own, which the older tables cannot hold, fails and says so."""
    with embedded_servers() as servers:
        assert alembic(servers, "upgrade", "head").returncode == 0
        database = open_database(servers.database_url)
        async with database.begin() as connection:
            made = await register(connection, new_id("ckpt"), a_manifest(), "abc", "checkpoints/abc", 1)
            again, replayed, asking = (a_model(made) for _ in range(3))
            for model in (again, replayed, asking):
                await insert_adapted_model(connection, model)
                task = its_task(model)
                await insert_task(connection, replace(task, query=b"query" if model is asking else None))
            for model in (again, replayed):
                await connection.execute(text(_INLINE_RESULT), {"task": model.task_id})
            await connection.execute(
                text("UPDATE tasks SET background = true WHERE id = :id"), {"id": replayed.task_id}
            )
        await database.dispose()
        back = alembic(servers, "downgrade", "0004")
        assert back.returncode == 0, back.stderr
        async with database.connect() as connection:
            rows = await connection.execute(
                text(
                    "SELECT m.id, t.status, t.attempt, m.expires_at <= now() FROM adapted_models m "
                    "JOIN tasks t ON t.id = m.task_id"
                )
            )
            found = {row[0]: tuple(row[1:]) for row in rows}
            assert await connection.scalar(text("SELECT count(*) FROM results")) == 0
        await database.dispose()
        assert found == {
            again.id: ("queued", 0, False),
            replayed.id: ("succeeded", 1, True),
            asking.id: ("failed", 0, False),
        }
