"""Backups of a service that goes on working, and those that are not whole. (tests/flow/test_backup.py: by command.)"""

import asyncio
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from kshot.contracts.datasets import DatasetManifest
from kshot.contracts.errors import Conflict, Invalid
from kshot.contracts.ids import new_id
from kshot.storage.database import open_database
from kshot.storage.datasets import delete_dataset, insert_dataset
from kshot.storage.objects import LocalObjects, sha256
from kshot.storage.tables import DEFAULT_TENANT
from kshot.storage.tenancy import confine
from standalone import EmbeddedServers, embedded_servers
from tests.flow.http_stack import CHECKOUT
from workers.backups.checking import check_backup, check_store
from workers.backups.copying import DIFFERS, MISSING
from workers.backups.folder import BackupFolder, Listing
from workers.backups.making import make_backup
from workers.backups.restoring import restore_backup


class Vanishing(LocalObjects):
    """Deletes its data sets, row and file, when the first of them is read."""

    shelf: "Shelf"

    @contextmanager
    def file(self, key: str) -> Iterator[Path]:
        for other in (key for key in self.keys("datasets") if key in self.shelf.doomed):
            self.delete(other)
            self.shelf.delete(other)
        with super().file(key) as file:
            yield file


class Away(LocalObjects):
    """A disk that fails."""

    @contextmanager
    def file(self, key: str) -> Iterator[Path]:
        raise OSError("away")
        yield


@dataclass
class Shelf:
    """Data sets stand for everything that lies in the store."""

    servers: EmbeddedServers
    database: AsyncEngine
    objects: LocalObjects
    loop: asyncio.AbstractEventLoop
    doomed: frozenset[str] = frozenset()

    @property
    def url(self) -> str:
        return self.servers.database_url

    async def add(self, blob: bytes) -> str:
        """The key of a data set that holds this."""
        dataset = new_id("ds")
        manifest = DatasetManifest(
            id=dataset, name=dataset.lower().replace("_", "-"), format="vector_npz", modality="vector",
            task="classification", file="data.npz", sha256=sha256(blob),
        )  # fmt: skip
        key = f"datasets/{dataset}.npz"
        self.objects.put(key, blob)
        async with self.database.begin() as connection:
            await insert_dataset(
                connection, tenant=DEFAULT_TENANT, manifest=manifest, object_key=key, n_bytes=len(blob)
            )  # fmt: skip
        return key

    def delete(self, key: str) -> None:
        """From another thread."""

        async def delete() -> None:
            async with self.database.begin() as connection:
                await delete_dataset(connection, Path(key).stem)

        asyncio.run_coroutine_threadsafe(delete(), self.loop).result(60)

    async def backup(self, folder: BackupFolder) -> Listing:
        return await make_backup(self.url, self.database, self.objects, folder, print)

    async def restore(self, folder: BackupFolder, objects: LocalObjects) -> dict[str, str]:
        return await restore_backup(self.url, self.database, objects, folder, print)

    async def wipe(self) -> None:
        async with self.database.begin() as connection:
            await connection.execute(text("DROP SCHEMA public CASCADE"))
            await connection.execute(text("CREATE SCHEMA public"))


@pytest.fixture(scope="module")
def own_servers() -> Iterator[EmbeddedServers]:
    """A database that these tests may wipe."""
    with embedded_servers() as running:
        yield running


@pytest.fixture
async def shelf(own_servers: EmbeddedServers, tmp_path: Path) -> AsyncIterator[Shelf]:
    database = open_database(own_servers.database_url)
    opened = Shelf(own_servers, database, LocalObjects(tmp_path / "objects"), asyncio.get_running_loop())
    await opened.wipe()
    environ = {**os.environ, **own_servers.environ}
    subprocess.run([sys.executable, "-m", "alembic", "upgrade", "head"], cwd=CHECKOUT, env=environ, check=True)
    yield opened
    await database.dispose()


async def test_what_is_deleted_while_it_is_copied_is_in_no_row_of_the_backup(shelf: Shelf, tmp_path: Path):
    kept, doomed = await shelf.add(b"kept"), await shelf.add(b"doomed")
    folder = BackupFolder(tmp_path / "backup")
    vanishing = Vanishing(tmp_path / "objects")
    vanishing.shelf = shelf
    shelf.objects, shelf.doomed = vanishing, frozenset([doomed])
    listing = await shelf.backup(folder)
    assert set(listing.objects) == {kept} == set(folder.objects.keys("datasets")) and listing.faults == {}
    assert await check_backup(folder, print) == {}
    await shelf.wipe()
    assert await shelf.restore(folder, LocalObjects(tmp_path / "other")) == {}
    async with shelf.database.connect() as connection:
        rows = await connection.execute(text("SELECT object_key FROM datasets WHERE deleted_at IS NULL"))
        assert [row.object_key for row in rows] == [kept]
    assert LocalObjects(tmp_path / "other").get(kept) == b"kept"
    async with shelf.database.begin() as connection:  # a dump leaves out what its roles may do
        await confine(connection, DEFAULT_TENANT)
        assert kept in list(await connection.scalars(text("SELECT object_key FROM datasets")))


async def test_gaps_are_named_and_the_rest_is_kept(shelf: Shelf, tmp_path: Path):
    sound, lost, spoilt = [await shelf.add(blob) for blob in (b"sound", b"lost", b"spoilt")]
    shelf.objects.delete(lost)
    shelf.objects.put(spoilt, b"other bytes")
    expected = {lost: MISSING, spoilt: DIFFERS}
    assert await check_store(shelf.database, shelf.objects, print) == expected
    folder = BackupFolder(tmp_path / "backup")
    listing = await shelf.backup(folder)
    assert listing.faults == expected and set(listing.objects) == {sound}
    assert await check_backup(folder, print) == expected
    await shelf.wipe()
    assert await shelf.restore(folder, shelf.objects) == expected


async def test_a_store_that_is_away_ends_a_backup_that_nobody_takes_for_a_whole_one(shelf: Shelf, tmp_path: Path):
    await shelf.add(b"data")
    shelf.objects = Away(tmp_path / "objects")
    with pytest.raises(OSError, match="away"):
        await shelf.backup(BackupFolder(tmp_path / "backup"))
    with pytest.raises(Invalid, match="no whole backup"):
        await check_backup(BackupFolder(tmp_path / "backup"), print)


async def test_a_damaged_backup_and_a_database_in_use_are_refused(shelf: Shelf, tmp_path: Path):
    key = await shelf.add(b"data")
    folder = BackupFolder(tmp_path / "backup")
    with pytest.raises(Invalid, match="no whole backup"):
        await shelf.restore(folder, shelf.objects)
    await shelf.backup(folder)
    with pytest.raises(Invalid, match="is not empty"):
        await shelf.backup(folder)
    with pytest.raises(Conflict, match="is not empty"):
        await shelf.restore(folder, shelf.objects)
    await shelf.wipe()
    folder.objects.put(key, b"dat_")
    assert await check_backup(folder, print) == {key: DIFFERS}
    with pytest.raises(Invalid, match="damaged"):
        await shelf.restore(folder, shelf.objects)
    folder.objects.put(key, b"data")
    await shelf.restore(folder, shelf.objects)
    folder.dump.write_bytes(folder.dump.read_bytes()[:-1])
    assert await check_backup(folder, print) == {"database.dump": DIFFERS}
