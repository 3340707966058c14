"""Run migrations over the database in DATABASE_URL. Only Postgres, only online."""

import asyncio
import os

from alembic import context
from sqlalchemy import Connection, text

from kshot.storage import flywheel_tables, training_tables  # noqa: F401 - their tables join the metadata
from kshot.storage.database import open_database
from kshot.storage.tables import metadata

_LOCK = 0x6D696772  # "migr": two starters migrate one after the other


def _migrate(connection: Connection) -> None:
    context.configure(connection=connection, target_metadata=metadata, compare_server_default=True)
    with context.begin_transaction():
        connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _LOCK})
        context.run_migrations()


async def _run() -> None:
    url = os.environ.get("DATABASE_URL")
    if not url:
        raise SystemExit("set DATABASE_URL, for example postgresql://kshot:secret@localhost/kshot")
    database = open_database(url, statement_timeout_s=600)
    async with database.begin() as connection:
        await connection.run_sync(_migrate)
    await database.dispose()


asyncio.run(_run())
