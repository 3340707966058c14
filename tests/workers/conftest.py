from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from kshot.checkpoints import Checkpoint
from kshot.contracts.ids import new_id
from kshot.storage.access import ensure_tenant
from kshot.storage.database import open_database
from standalone import EmbeddedServers
from tests.flow.job_stack import migrated_servers
from tests.workers import samples
from tests.workers.moving import Moving
from tests.workers.place import Place, open_place
from tests.workers.recorder import Recorder
from tests.workers.versions import write_versions
from workers import storing
from workers.publishing import publish


@pytest.fixture(scope="session")
def checkpoint() -> Checkpoint:
    return samples.checkpoint()


@pytest.fixture(scope="session")
def servers() -> Iterator[EmbeddedServers]:
    """Real Postgres, migrated, and real Valkey."""
    with migrated_servers() as running:
        yield running


@pytest.fixture
async def database(servers: EmbeddedServers) -> AsyncIterator[AsyncEngine]:
    opened = open_database(servers.database_url)
    yield opened
    await opened.dispose()


@pytest.fixture
async def place(
    servers: EmbeddedServers, database: AsyncEngine, tmp_path: Path, checkpoint: Checkpoint
) -> AsyncIterator[Place]:
    async with open_place(servers, database, tmp_path, checkpoint) as opened:
        yield opened


@pytest.fixture
def stored(monkeypatch: pytest.MonkeyPatch) -> None:
    """States lie in the object store, as large ones do."""
    monkeypatch.setattr(storing, "INLINE_BYTES", 0)


@pytest.fixture(params=["in their rows", "in the object store"])
def either_way(request: pytest.FixtureRequest) -> None:
    """States lie where small ones do, then where large ones do."""
    if request.param == "in the object store":
        request.getfixturevalue("stored")


@pytest.fixture
async def recorder(place: Place, tmp_path: Path) -> AsyncIterator[Recorder]:
    async with place.stack.database.begin() as connection:
        tenant = await ensure_tenant(connection, new_id("ten").lower().replace("_", "-"))
    recorder = Recorder(place, tenant, f"r-{tenant[-12:].lower()}", tmp_path / "work")
    await recorder.record()
    yield recorder


@pytest.fixture
async def moving(place: Place, tmp_path: Path) -> AsyncIterator[Moving]:
    await place.execute("UPDATE adapted_models SET follow = false")  # of tests before
    found = {}
    for label, folder in write_versions(tmp_path / "versions").items():
        found[label] = await publish(place.stack.database, place.objects, folder)
    moving = Moving(place, found)
    await moving.move("first")
    yield moving
