"""Whether Postgres has room for all the connections that the service may open."""

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from kshot.storage.database import POOL_SIZE
from kshot.storage.workers import live_workers
from service.logs import log
from service.settings import Settings

_ALLOWED = """
SELECT current_setting('max_connections')::int - current_setting('superuser_reserved_connections')::int
"""


async def check_connections(connection: AsyncConnection, settings: Settings, processes: int) -> bool:
    """Whether ``processes`` of this service, and the workers and trainers alive, may all open their pools; says so in
    the log where they may not. Other API servers on the same Postgres are not known here: docs/how-to/production.md
    has the sum."""
    allowed = await connection.scalar(text(_ALLOWED))
    workers = len(await live_workers(connection, settings.worker_seen_s))
    wanted = processes * settings.database_connections + workers * POOL_SIZE
    if wanted > allowed:
        log.warning(
            "too_few_database_connections",
            allowed=allowed,
            wanted=wanted,
            remedy="raise max_connections of Postgres, or lower KSHOT_DATABASE_CONNECTIONS, --processes or the workers",
        )
    return bool(wanted <= allowed)
