"""The migrations bring a database to the tables, forward and back."""

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncEngine

from kshot.storage.access import audit
from kshot.storage.tables import DEFAULT_TENANT
from standalone import EmbeddedServers, embedded_servers
from tests.kshot.storage.conftest import alembic


def test_migrations_equal_the_tables(migrated: EmbeddedServers):
    done = alembic(migrated, "check")
    assert done.returncode == 0, done.stdout + done.stderr


def test_migrations_go_back_and_forth_again():
    with embedded_servers() as servers:
        for step in (["upgrade", "head"], ["downgrade", "base"], ["upgrade", "head"]):
            done = alembic(servers, *step)
            assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    "statement", ["UPDATE audit_log SET action = 'x'", "DELETE FROM audit_log", "TRUNCATE audit_log"]
)
async def test_audit_log_is_append_only(database: AsyncEngine, statement: str):
    async with database.begin() as connection:
        await audit(connection, tenant=DEFAULT_TENANT, key=None, action="test", object_id="x", request_id=None)
    with pytest.raises(DBAPIError, match="append-only"):
        async with database.begin() as connection:
            await connection.execute(text(statement))
