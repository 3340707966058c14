"""What is done before the service starts, on real Postgres."""

from collections.abc import AsyncIterator

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from kshot.contracts.errors import Conflict
from kshot.storage.access import generate_secret
from kshot.storage.database import open_database
from kshot.storage.tables import DEFAULT_TENANT
from kshot.storage.tenancy import ROLE, confine
from service.keys import prepare
from service.settings import Settings
from standalone import EmbeddedServers

_NOTED = """
SELECT k.id, k.tenant_id, k.role, a.tenant_id, a.key_id, a.action, a.request_id
FROM audit_log a JOIN api_keys k ON k.id = a.object_id WHERE k.prefix = :prefix"""


@pytest.fixture
async def database(servers: EmbeddedServers) -> AsyncIterator[AsyncEngine]:
    engine = open_database(servers.database_url)
    yield engine
    await engine.dispose()


def settings_with(servers: EmbeddedServers, secret: str) -> Settings:
    return Settings(database_url=servers.database_url, redis_url=servers.redis_url, admin_key=secret)


async def test_the_first_start_with_an_admin_key_is_noted_and_no_later_one(
    servers: EmbeddedServers, database: AsyncEngine
) -> None:
    settings = settings_with(servers, secret := generate_secret())
    for _ in range(2):
        assert await prepare(settings, 1)
    async with database.begin() as connection:
        (noted,) = await connection.execute(text(_NOTED), {"prefix": secret[:12]})
        assert tuple(noted)[1:] == (DEFAULT_TENANT, "admin", DEFAULT_TENANT, None, "api_key.create", None)
        await connection.execute(text("UPDATE api_keys SET revoked_at = now() WHERE id = :id"), {"id": noted.id})
    with pytest.raises(Conflict, match="revoked or has ended"):
        await prepare(settings, 1)


async def test_a_start_grants_what_a_restore_left_out(servers: EmbeddedServers, database: AsyncEngine) -> None:
    async with database.begin() as connection:
        await connection.execute(text(f"REVOKE ALL ON ALL TABLES IN SCHEMA public FROM {ROLE}"))
    await prepare(settings_with(servers, generate_secret()), 1)
    async with database.begin() as connection:
        await confine(connection, DEFAULT_TENANT)
        assert list(await connection.scalars(text("SELECT id FROM tenants"))) == [DEFAULT_TENANT]
        assert await connection.scalar(text("SELECT count(*) FROM predictions")) == 0
