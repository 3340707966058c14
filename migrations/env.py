"""Run migrations over the database in DATABASE_URL (or the file DATABASE_URL_FILE). Only Postgres, only online."""

import asyncio

from alembic import context
from pydantic import ValidationError
from pydantic_settings import SettingsError
from sqlalchemy import Connection, text

from kshot.storage import access_tables, flywheel_tables, training_tables  # noqa: F401 - their tables join the metadata
from kshot.storage.database import open_database
from kshot.storage.settings import DatabaseSettings
from kshot.storage.tables import metadata

_LOCK = 0x6D696772  # "migr": two starters migrate one after the other


def _migrate(connection: Connection) -> None:
    context.configure(connection=connection, target_metadata=metadata, compare_server_default=True)
    with context.begin_transaction():
        connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _LOCK})
        context.run_migrations()


async def _run() -> None:
    try:
        settings = DatabaseSettings()
    except ValidationError:
        raise SystemExit("set DATABASE_URL, for example postgresql://kshot:secret@localhost/kshot") from None
    except SettingsError as error:
        raise SystemExit(str(error)) from None
    database = open_database(settings.database, statement_timeout_s=600)
    async with database.begin() as connection:
        await connection.run_sync(_migrate)
    await database.dispose()


asyncio.run(_run())
