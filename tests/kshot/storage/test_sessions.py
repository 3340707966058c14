"""A browser's session stands for its key, and ends with it."""

import re
from collections.abc import AsyncIterator

import pytest
from sqlalchemy import func, select, update
from sqlalchemy.ext.asyncio import AsyncEngine

from kshot.contracts.errors import Unauthenticated
from kshot.storage.access import Key, generate_secret, insert_key, revoke_key
from kshot.storage.access_tables import sessions
from kshot.storage.lookups import Lookups, Question
from kshot.storage.sessions import create_session, digest_of, end_session, names_of_key
from kshot.storage.tables import DEFAULT_TENANT, seconds_from_now
from tests.kshot.storage.conftest import another_tenant


@pytest.fixture
async def lookups(database: AsyncEngine) -> AsyncIterator[Lookups]:
    made = Lookups(database)
    yield made
    await made.close()


async def signed_in(database: AsyncEngine, tenant: str = DEFAULT_TENANT) -> tuple[Key, str, str]:
    """A key, its secret and that of a session of it."""
    secret = generate_secret()
    async with database.begin() as connection:
        key = await insert_key(connection, secret=secret, tenant=tenant, name="browser", role="user")
        return key, secret, await create_session(connection, key.id)


async def assert_ended(lookups: Lookups, session: str) -> None:
    with pytest.raises(Unauthenticated, match="sign in again"):
        (await lookups.find(Question(session=session))).key()


async def test_a_session_is_its_key_also_beside_keys_in_one_statement(database: AsyncEngine, lookups: Lookups):
    async with database.begin() as connection:
        other = await another_tenant(connection)
    (mine, secret, first), (theirs, _, session) = await signed_in(database), await signed_in(database, other)
    assert re.fullmatch("[0-9a-f]{64}", session)
    assert (await lookups.find(Question(session=first))).key().id == mine.id, "who signs in later signs nobody out"
    asked = [lookups.find(Question(session=session)), lookups.find(Question(secret=secret))]
    found = [(await question).key() for question in asked]
    assert [(key.id, key.tenant) for key in found] == [(theirs.id, other), (mine.id, DEFAULT_TENANT)]
    async with database.begin() as connection:
        stored = (await connection.execute(select(sessions.c.sha256, sessions.c.key_id))).all()
        assert (digest_of(session), theirs.id) in stored and session not in str(stored)
        assert await names_of_key(connection, mine.id) == ("browser", "default")


async def test_neither_secret_works_in_the_place_of_the_other(database: AsyncEngine, lookups: Lookups):
    _, secret, session = await signed_in(database)
    await assert_ended(lookups, secret)
    with pytest.raises(Unauthenticated):
        (await lookups.find(Question(secret=session))).key()


async def test_it_ends_by_signing_out_by_time_and_with_its_key(database: AsyncEngine, lookups: Lookups):
    _, _, out = await signed_in(database)
    _, _, late = await signed_in(database)
    kept, _, stays = await signed_in(database)
    key, _, revoked = await signed_in(database)
    async with database.begin() as connection:
        await end_session(connection, out)
        await end_session(connection, out)
        await revoke_key(connection, key.id)
        of_late = sessions.c.sha256 == digest_of(late)
        await connection.execute(update(sessions).where(of_late).values(expires_at=seconds_from_now(-1.0)))
    for session in (out, late, revoked, "unknown", "é"):
        await assert_ended(lookups, session)
    assert (await lookups.find(Question(session=stays))).key().id == kept.id
    await signed_in(database)
    async with database.begin() as connection:
        assert await connection.scalar(select(func.count()).where(of_late)) == 0, "the next one sweeps the expired"
