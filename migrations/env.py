"""Run migrations over the database in DATABASE_URL (or the file DATABASE_URL_FILE). Only Postgres, only online."""

import asyncio

from alembic import context
from pydantic import ValidationError
from pydantic_settings import SettingsError
from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError

from kshot.storage import access_tables, flywheel_tables, training_tables  # noqa: F401 - their tables join the metadata
from kshot.storage.database import open_database
from kshot.storage.settings import DatabaseSettings
from kshot.storage.tables import metadata

_LOCK = 0x6D696772  # "migr": two starters migrate one after the other
_LOCK_TIMEOUT = "1s"
"""Whoever comes after a migration that waits for a table's lock waits too, so it gives up soon, and tries again."""
_LOCK_PAUSE_S = 1.0
_TRIES = 60
_LOCKED = {"55P03", "40P01"}
"""SQLSTATEs: no lock in time, deadlock."""


def _migrate(connection: Connection) -> None:
    context.configure(connection=connection, target_metadata=metadata, compare_server_default=True)
    with context.begin_transaction():
        connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _LOCK})
        connection.execute(text("SELECT set_config('lock_timeout', :timeout, true)"), {"timeout": _LOCK_TIMEOUT})
        context.run_migrations()


async def _run() -> None:
    try:
        settings = DatabaseSettings()
    except ValidationError:
        raise SystemExit("set DATABASE_URL, for example postgresql://kshot:secret@localhost/kshot") from None
    except SettingsError as error:
        raise SystemExit(str(error)) from None
    database = open_database(settings.database, statement_timeout_s=600)
    for tried in range(1, _TRIES + 1):
        try:
            async with database.begin() as connection:
                await connection.run_sync(_migrate)
            break
        except DBAPIError as error:
            if tried == _TRIES or getattr(error.orig, "sqlstate", None) not in _LOCKED:
                raise
        await asyncio.sleep(_LOCK_PAUSE_S)  # those who waited behind this go first
    await database.dispose()


asyncio.run(_run())
