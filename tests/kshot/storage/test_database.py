"""What the driver says while Postgres starts up, recovers or is full: that is away, and nothing is wrong with us."""

import asyncio
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg
import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from kshot.storage import database
from kshot.storage.database import fetch, is_away, open_database, take_time
from kshot.storage.lookups import Lookups, Question
from standalone import EmbeddedServers


@asynccontextmanager
async def refusing(sqlstate: str) -> AsyncIterator[str]:
    """The URL of a server that greets everybody as a Postgres that lets nobody in."""

    async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        length = int.from_bytes(await reader.readexactly(4), "big")
        asked = await reader.readexactly(length - 4)
        if asked[:4] == b"\x04\xd2\x16\x2f":  # wants TLS
            writer.write(b"N")
            await reader.readexactly(4)
        fields = b"".join(b"%c%s\0" % (name, value) for name, value in [(b"S", b"FATAL"), (b"M", b"not now")])
        fields += b"C" + sqlstate.encode() + b"\0\0"
        writer.write(b"E" + (len(fields) + 4).to_bytes(4, "big") + fields)
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(greet, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        yield f"postgresql://kshot:secret@127.0.0.1:{port}/kshot"  # pragma: allowlist secret


@pytest.mark.parametrize(
    ("sqlstate", "away"),
    [("57P03", True), ("53300", True), ("57P01", True), ("28P01", False)],
    ids=["it starts up or recovers", "it has no connection left", "it goes down", "the password is wrong"],
)
async def test_a_postgres_that_lets_nobody_in_is_away_however_it_is_asked(sqlstate: str, away: bool):
    """Keys and models are looked up over a raw connection, where SQLAlchemy wraps no error."""
    async with refusing(sqlstate) as url:
        engine = open_database(url)
        lookups = Lookups(engine)
        try:
            with pytest.raises(Exception) as looked_up:
                await lookups.find(Question(secret="k" * 40))
            with pytest.raises(Exception) as connected:
                async with engine.connect():
                    pass
        finally:
            await lookups.close()
            await engine.dispose()
    assert (is_away(looked_up.value), is_away(connected.value)) == (away, away)


def end_connection(url: str, pid: int) -> None:
    """Have Postgres end one; its last word and the end are on their way when this returns."""

    async def end() -> None:
        connection = await asyncpg.connect(url)
        await connection.fetchval("SELECT pg_terminate_backend($1, 60000)", pid)
        await connection.close()

    asyncio.run(end())


@pytest.mark.parametrize("turns", range(4))
async def test_a_connection_that_postgres_has_just_ended_is_away_at_every_moment(turns: int, servers: EmbeddedServers):
    """Between its last word and the end of the connection the driver knows neither; a crash always comes so."""
    engine = open_database(servers.database_url)
    try:
        async with engine.connect() as connection:
            ((pid,),) = await fetch(connection, "SELECT pg_backend_pid()")
            ending = threading.Thread(target=end_connection, args=(servers.database_url, pid))
            ending.start()
            ending.join()  # our own loop stands still meanwhile
            for _ in range(turns):
                await asyncio.sleep(0)
            with pytest.raises(Exception) as ended:
                await fetch(connection, "SELECT 1")
            await connection.invalidate()
    finally:
        await engine.dispose()
    assert is_away(ended.value), repr(ended.value)


async def test_a_transaction_left_open_holds_nothing_for_long(
    servers: EmbeddedServers, monkeypatch: pytest.MonkeyPatch
):
    """Whoever began it may be gone with his machine, and Postgres would wait for hours."""
    monkeypatch.setattr(database, "_LONGEST_PAUSE_S", 0.2)
    vanished, other = open_database(servers.database_url, statement_timeout_s=0.2), open_database(servers.database_url)
    lock = text("SELECT pg_advisory_xact_lock(112358)")
    with pytest.raises(DBAPIError) as ended:
        async with vanished.begin() as connection:
            await connection.execute(lock)
            async with other.begin() as next_one:
                await next_one.execute(lock)
            await connection.execute(lock)
    assert is_away(ended.value)
    async with vanished.begin() as connection:
        await take_time(connection)
        await asyncio.sleep(0.4)
        await connection.execute(lock)
    await vanished.dispose()
    await other.dispose()
