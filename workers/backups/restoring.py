"""From a backup to a service: into an empty database, and a store that may hold something."""

import asyncio

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from kshot.contracts.errors import Conflict, Invalid
from kshot.storage.objects import ObjectStore
from kshot.storage.referenced import Referenced
from kshot.storage.tenancy import grant_again
from workers.backups import postgres
from workers.backups.checking import check_backup
from workers.backups.copying import Say, copy, each
from workers.backups.folder import BackupFolder


async def restore_backup(
    url: str, database: AsyncEngine, objects: ObjectStore, folder: BackupFolder, say: Say
) -> dict[str, str]:
    """Check the backup, store its objects, then load its dump in one transaction, so that no row ever names an object
    that is not there, and a restore that failed can be tried again. Returns the faults the backup was made with.

    Raises Conflict where the database holds tables; Invalid where the backup is not whole; RuntimeError, OSError.
    """
    listing = folder.read()
    server = await _check_empty(database)
    say("checking the backup")
    broken = {key: what for key, what in (await check_backup(folder, say)).items() if key not in listing.faults}
    _refuse(broken)
    say("restoring")
    wanted = [Referenced(key, content.sha256) for key, content in listing.objects.items()]
    _, broken = await each(lambda one: copy(folder.objects, objects, one), wanted, say)
    _refuse(broken)
    await asyncio.to_thread(postgres.load, url, server, folder.dump)
    async with database.begin() as connection:
        await grant_again(connection)
    say(f"database: {listing.database.bytes / 1e6:.1f} MB")
    return listing.faults


def _refuse(broken: dict[str, str]) -> None:
    if broken:
        raise Invalid(f"the backup is damaged ({', '.join(sorted(broken)[:3])}); the database was left empty")


async def _check_empty(database: AsyncEngine) -> int:
    """The version of the server."""
    async with database.connect() as connection:
        server = await postgres.server_version(connection)
        tables = await connection.scalar(text("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'"))
    if tables:
        raise Conflict("the database is not empty; restore into a new one, so that nothing is mixed or overwritten")
    return server
