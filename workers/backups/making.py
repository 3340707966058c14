"""Make a backup of a service, running or not."""

import asyncio
from dataclasses import dataclass
from datetime import UTC, datetime

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from kshot import __version__
from kshot.storage.database import take_time
from kshot.storage.job_runs import open_jobs
from kshot.storage.objects import ObjectStore
from kshot.storage.referenced import Referenced, referenced_objects
from workers.backups import postgres
from workers.backups.copying import Say, copy, each
from workers.backups.folder import BackupFolder, Content, Listing, content_of
from workers.job_folder import data_key

_ROUNDS = 10


@dataclass(frozen=True)
class _Dumped:
    """What one snapshot needs: ``perhaps`` is copied where it is there."""

    revision: str
    needed: list[Referenced]
    perhaps: list[Referenced]


async def make_backup(url: str, database: AsyncEngine, objects: ObjectStore, folder: BackupFolder, say: Say) -> Listing:
    """Fill an empty folder. Dumps again as long as something vanishes between a dump and its copies.

    What is still missing after that is among the faults of the listing. Raises Invalid where the folder is not empty;
    RuntimeError where Postgres' programs fail; OSError where a store cannot be read or written.
    """
    folder.prepare()
    copied, before = dict[str, Content](), set[str]()
    for _ in range(_ROUNDS):
        dumped = await _dump(url, database, objects, folder)
        say(f"database: {folder.dump.stat().st_size / 1e6:.1f} MB")
        wanted = [one for one in [*dumped.needed, *dumped.perhaps] if one.key not in copied]
        sound, faults = await each(lambda one: copy(objects, folder.objects, one), wanted, say)
        copied |= sound
        faults = {key: faults[key] for key in faults.keys() - {one.key for one in dumped.perhaps}}
        if faults.keys() <= before:
            break
        before = set(faults)
    return await asyncio.to_thread(_finish, folder, dumped, copied, faults)


async def _dump(url: str, database: AsyncEngine, objects: ObjectStore, folder: BackupFolder) -> _Dumped:
    """Dump a snapshot, and read what it needs in the same one."""
    async with database.connect() as connection:
        await connection.execution_options(isolation_level="REPEATABLE READ")
        await take_time(connection)
        snapshot = str(await connection.scalar(text("SELECT pg_export_snapshot()")))
        server = await postgres.server_version(connection)
        await asyncio.to_thread(postgres.dump, url, server, snapshot, folder.dump)
        revision = str(await connection.scalar(text("SELECT version_num FROM alembic_version")))
        needed, jobs = await referenced_objects(connection), await open_jobs(connection)
    stored = set(await asyncio.to_thread(objects.keys, "jobs"))
    return _Dumped(revision, needed, [Referenced(key, None) for key in map(data_key, jobs) if key in stored])


def _finish(
    folder: BackupFolder, dumped: _Dumped, copied: dict[str, Content], faults: dict[str, str]
) -> Listing:  # fmt: skip
    """Without what was deleted while the backup was made."""
    kept = {one.key for one in [*dumped.needed, *dumped.perhaps]}
    for key in copied.keys() - kept:
        folder.objects.delete(key)
    folder.objects.staging().rmdir()
    listing = Listing(
        made_at=datetime.now(UTC),
        kshot=__version__,
        revision=dumped.revision,
        database=content_of(folder.dump),
        objects={key: copied[key] for key in sorted(copied.keys() & kept)},
        faults=faults,
    )
    folder.listing.write_text(listing.model_dump_json(indent=1))
    return listing
