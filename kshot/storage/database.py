"""The connection pool."""

import asyncpg
from sqlalchemy import URL, make_url
from sqlalchemy.exc import DBAPIError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

_AWAY_STATES = ("08", "40", "53", "55P03", "57", "58")
"""SQLSTATE classes: connection, rolled back (deadlock), out of resources, locked, operator intervention, system."""


def driver_url(url: str) -> URL:
    """``postgresql://...`` as operators write it, with the driver we use. ``?host=/folder`` means a unix socket."""
    parsed = make_url(url)
    if parsed.get_backend_name() not in {"postgresql", "postgres"}:
        raise ValueError(f"DATABASE_URL must start with postgresql://, not {parsed.drivername}://")
    return parsed.set(drivername="postgresql+asyncpg")


def open_database(url: str, *, pool_size: int = 10, statement_timeout_s: float = 30) -> AsyncEngine:
    """A pool of connections to Postgres.

    ``pool_pre_ping`` lets the process survive a restart of Postgres; the short ``timeout`` turns an absent one
    into an answer (503) instead of a hanging request. ``hide_parameters`` keeps payloads out of logged errors.
    """
    return create_async_engine(
        driver_url(url),
        pool_size=pool_size,
        max_overflow=0,
        pool_timeout=5,
        pool_pre_ping=True,
        hide_parameters=True,
        connect_args={
            "timeout": 5,
            "command_timeout": statement_timeout_s,
            "server_settings": {"application_name": "kshot", "jit": "off"},
        },
    )


def is_away(error: BaseException) -> bool:
    """Whether trying again later helps: Postgres is unreachable, going down, coming up or overloaded; not a wrong
    statement, nor a value it cannot hold."""
    if isinstance(error, DBAPIError):
        state = str(getattr(error.orig, "sqlstate", None) or "")
        return error.connection_invalidated or isinstance(error, OperationalError) or state.startswith(_AWAY_STATES)
    return isinstance(error, PoolTimeout | asyncpg.PostgresConnectionError | OSError | TimeoutError)
