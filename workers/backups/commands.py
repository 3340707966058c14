"""``python -m workers backup TO | restore FROM | check [FROM]``."""

from pathlib import Path

from kshot.storage.database import open_database
from workers.backups.checking import check_backup, check_store
from workers.backups.folder import BackupFolder
from workers.backups.making import make_backup
from workers.backups.restoring import restore_backup
from workers.settings import StoreSettings

_LONGEST_STATEMENT_S = 3600
_SHOWN = 20


async def run(command: str, folder: Path | None, settings: StoreSettings) -> bool:
    """Whether all is sound: a backup with gaps is kept, and so is a restored one, but nobody is to overlook it."""
    if command == "check" and folder is not None:
        return _verdict(await check_backup(BackupFolder(folder), _say))
    objects = settings.open_objects()
    database = open_database(settings.database, statement_timeout_s=_LONGEST_STATEMENT_S)
    try:
        if folder is None:
            return _verdict(await check_store(database, objects, _say))
        if command == "restore":
            return _verdict(await restore_backup(settings.database, database, objects, BackupFolder(folder), _say))
        listing = await make_backup(settings.database, database, objects, BackupFolder(folder), _say)
        _say(f"backup: {folder}, {len(listing.objects)} objects, {listing.bytes / 1e6:.1f} MB")
        return _verdict(listing.faults)
    finally:
        await database.dispose()


def _verdict(faults: dict[str, str]) -> bool:
    for key in sorted(faults)[:_SHOWN]:
        _say(f"{key}: {faults[key]}")
    if len(faults) > _SHOWN:
        _say(f"and {len(faults) - _SHOWN} more")
    _say(f"{len(faults)} faults" if faults else "everything that rows need is there, and is what was stored")
    return not faults


def _say(line: str) -> None:
    print(line, flush=True)  # noqa: T201 (an operator's command)
