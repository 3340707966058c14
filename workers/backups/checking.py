"""Whether everything that rows need is there and is what was stored: in a backup, or in the store itself."""

import asyncio

from sqlalchemy.ext.asyncio import AsyncEngine

from kshot.storage.objects import ObjectStore
from kshot.storage.referenced import Referenced, referenced_objects
from workers.backups import postgres
from workers.backups.copying import DIFFERS, Say, each, examine
from workers.backups.folder import BackupFolder, content_of


async def check_backup(folder: BackupFolder, say: Say) -> dict[str, str]:
    """Read a backup through; what is wrong with it, by file, the faults it was made with among them.

    Raises Invalid where there is no whole backup; RuntimeError where the dump cannot be read.
    """
    listing = folder.read()
    wanted = [Referenced(key, content.sha256) for key, content in listing.objects.items()]
    _, faults = await each(lambda one: examine(folder.objects, one), wanted, say)
    if not folder.dump.is_file() or await asyncio.to_thread(content_of, folder.dump) != listing.database:
        faults[folder.dump.name] = DIFFERS
    else:
        await asyncio.to_thread(postgres.check, folder.dump)
    return listing.faults | faults


async def check_store(database: AsyncEngine, objects: ObjectStore, say: Say) -> dict[str, str]:
    """Read through what rows need; what is wrong, by key. What was deleted meanwhile is not."""
    _, faults = await each(lambda one: examine(objects, one), await _needed(database), say)
    still = {one.key for one in await _needed(database)} if faults else set()
    return {key: what for key, what in faults.items() if key in still}


async def _needed(database: AsyncEngine) -> list[Referenced]:
    async with database.connect() as connection:
        return await referenced_objects(connection)
