"""The connection pool."""

import time
from typing import Any

import asyncpg
from sqlalchemy import URL, event, make_url, text
from sqlalchemy.dialects.postgresql.asyncpg import AsyncAdapt_asyncpg_dbapi as adapted
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import DBAPIError, InvalidatePoolError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine
from sqlalchemy.pool import ConnectionPoolEntry

POOL_SIZE = 10
"""Connections of a process that asks for nothing else; a worker or a trainer has these."""
_IDLE_S = 1.0
_LONGEST_PAUSE_S = 300.0
"""Within a transaction. Postgres ends one that is left open for longer, with all that it has locked: whoever began it
may have vanished, machine and all, which Postgres would not notice for hours. `take_time` is the exception."""
_AWAY_STATES = ("08", "25P03", "40", "53", "55P03", "57", "58")
"""SQLSTATE classes: connection, left open too long, rolled back (deadlock), out of resources, locked, operator
intervention, system."""


def driver_url(url: str) -> URL:
    """``postgresql://...`` as operators write it, with the driver we use. ``?host=/folder`` means a unix socket."""
    parsed = make_url(url)
    if parsed.get_backend_name() not in {"postgresql", "postgres"}:
        raise ValueError(f"DATABASE_URL must start with postgresql://, not {parsed.drivername}://")
    return parsed.set(drivername="postgresql+asyncpg")


def open_database(url: str, *, pool_size: int = POOL_SIZE, statement_timeout_s: float = 30) -> AsyncEngine:
    """A pool of connections to Postgres.

    Connections that lay idle are tried before use, so the process survives a restart of Postgres; the short
    ``timeout`` turns an absent one into an answer (503) instead of a hanging request. ``hide_parameters`` keeps
    payloads out of logged errors.
    """
    engine = create_async_engine(
        driver_url(url),
        pool_size=pool_size,
        max_overflow=0,
        pool_timeout=15,
        pool_use_lifo=True,
        hide_parameters=True,
        connect_args={
            "timeout": 5,
            "command_timeout": statement_timeout_s,
            "server_settings": {
                "application_name": "kshot",
                "jit": "off",
                "idle_in_transaction_session_timeout": f"{1000 * max(_LONGEST_PAUSE_S, statement_timeout_s):.0f}ms",
            },
        },
    )
    _ping_when_idle(engine)
    return engine


async def fetch(connection: AsyncConnection, statement: str, *values: Any) -> list[Any]:
    """The rows of a statement whose parameters are ``$1``, ``$2``, asked of the driver alone: SQLAlchemy
    nearly doubles what the smallest costs this process (`python -m benchmarks.light_clients`), and composes a long one
    each time. JSON comes read; as a parameter it is text.

    It commits by itself, also inside ``engine.begin()`` where nothing was asked through SQLAlchemy before: that sends
    BEGIN with its own first statement. It does not see the driver's errors either, so a connection that broke is taken
    out of the pool here.
    """
    driver: Any = (await connection.get_raw_connection()).driver_connection
    try:
        rows: list[Any] = await driver.fetch(statement, *values)
    except BaseException:
        if driver.is_closed():
            await connection.invalidate()
        raise
    return rows


async def take_time(connection: AsyncConnection) -> None:
    """Let this transaction be left open for as long as it takes: it waits for something slow, and nobody for it."""
    await connection.execute(text("SET LOCAL idle_in_transaction_session_timeout = 0"))


def _ping_when_idle(engine: AsyncEngine) -> None:
    """SQLAlchemy's own ``pool_pre_ping`` costs three round trips (BEGIN, ping, ROLLBACK) at every use of a connection;
    one that worked a second ago needs none. Should Postgres have ended in that second, one request gets its 503."""

    def used(_connection: DBAPIConnection, record: ConnectionPoolEntry) -> None:
        record.info["used"] = time.monotonic()

    def check(connection: DBAPIConnection, record: ConnectionPoolEntry, _proxy: object) -> None:
        if connection.driver_connection.is_closed():
            raise InvalidatePoolError("Postgres closed the connection")
        if time.monotonic() - record.info.get("used", time.monotonic()) < _IDLE_S:
            return
        try:
            engine.dialect.do_ping(connection)
        except Exception as error:
            raise InvalidatePoolError("Postgres closed the connection") from error

    event.listen(engine.sync_engine, "checkin", used)
    event.listen(engine.sync_engine, "checkout", check)


def is_away(error: BaseException) -> bool:
    """Whether trying again later helps: Postgres is unreachable, going down, coming up or overloaded; not a wrong
    statement, nor a value it cannot hold."""
    if isinstance(error, DBAPIError):
        state = str(getattr(error.orig, "sqlstate", None) or "")
        return error.connection_invalidated or isinstance(error, OperationalError) or state.startswith(_AWAY_STATES)
    if isinstance(error, asyncpg.PostgresError | adapted.Error):  # while connecting, errors come through unwrapped
        away = isinstance(error, adapted.InterfaceError)
        return away or str(error.sqlstate).startswith(_AWAY_STATES)
    # the driver's InternalClientError: Postgres has said its last word, and the end of the connection is not read yet
    unwrapped = asyncpg.InterfaceError | asyncpg.InternalClientError
    return isinstance(error, PoolTimeout | unwrapped | OSError | TimeoutError)
