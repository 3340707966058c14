"""A database of any revision, with rows in every table, is brought to the newest: no row is lost, and all is served.

What is put in are recordings (`record_revision`) of what the code of that time left behind. Another processor's answers
may differ in their last digits.
"""

import asyncio
import gzip
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import pytest
import torch
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from redis import Redis
from sqlalchemy import Connection, make_url, text

from kshot.contracts.ids import new_id
from kshot.queue.work import WorkQueue
from kshot.storage.database import open_database
from kshot.storage.objects import LocalObjects
from kshot.storage.tables import metadata
from service.app import create_app
from service.settings import Settings
from standalone import EmbeddedServers, embedded_servers
from tests.flow.http_stack import ADMIN_KEY, CHECKOUT
from tests.flow.revision_rows import FOLDER, Rows, fill, put_files, put_in, rows_of
from workers.adaptation import AdaptationWorker
from workers.batching import Limits
from workers.stack import Stack

pytestmark = pytest.mark.flow
CONFIG = Config(CHECKOUT / "alembic.ini")
REVISIONS = [script.revision for script in ScriptDirectory.from_config(CONFIG).walk_revisions()][::-1]
RECORDED = sorted(file.name.partition(".")[0] for file in FOLDER.glob("*.json.gz"))


@dataclass(frozen=True)
class Databases:
    """Databases of one server, one for each test."""

    servers: EmbeddedServers

    def url(self, name: str) -> str:
        return make_url(self.servers.database_url).set(database=name).render_as_string(hide_password=False)

    def migrate(self, name: str, revision: str, *, back: bool = False) -> None:
        """As an operator does it, in this process."""
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("DATABASE_URL", self.url(name))
            (command.downgrade if back else command.upgrade)(CONFIG, revision)

    def recorded(self, revision: str) -> tuple[str, dict[str, Any]]:
        """A database at a revision with rows in every table, and the recording that they come from."""
        file = FOLDER / f"{max(one for one in RECORDED if one <= revision)}.json.gz"
        recording = json.loads(gzip.decompress(file.read_bytes()))
        name = new_id("db").lower()
        self.run("kshot", f"CREATE DATABASE {name} TEMPLATE at_{recording['revision']}")
        self.run(name, put_in, recording["tables"])
        self.migrate(name, revision)
        self.run(name, fill)
        return name, recording

    def rows(self, name: str) -> Rows:
        found: Rows = self.run(name, rows_of)
        return found

    def run(self, name: str, what: Any, *values: Any) -> Any:
        """A statement, or a function of a connection."""

        async def run() -> Any:
            connection = await asyncpg.connect(self.url(name))
            try:
                return await (connection.fetch(what) if isinstance(what, str) else what(connection, *values))
            finally:
                await connection.close()

        return asyncio.run(run())


@pytest.fixture(scope="module")
def databases() -> Iterator[Databases]:
    """An empty database ``at_...`` each revision that was recorded, to make copies of."""
    with embedded_servers() as servers:
        databases = Databases(servers)
        secret = (servers.home / "servers" / "postgres-secret").read_text()
        superuser = make_url(servers.database_url).set(username="postgres", password=secret)
        asyncio.run(_execute(superuser.render_as_string(hide_password=False), "ALTER ROLE kshot CREATEDB"))
        databases.run("kshot", "CREATE DATABASE growing")
        for revision in RECORDED:
            databases.migrate("growing", revision)
            databases.run("kshot", f"CREATE DATABASE at_{revision} TEMPLATE growing")
        yield databases


async def _execute(url: str, statement: str) -> None:
    connection = await asyncpg.connect(url)
    await connection.execute(statement)
    await connection.close()


@pytest.mark.parametrize("revision", REVISIONS)
def test_nothing_is_lost_and_all_is_served(databases: Databases, tmp_path: Path, revision: str):
    name, recording = databases.recorded(revision)
    before = databases.rows(name)
    assert all(before.values()), "every table has rows"
    databases.migrate(name, "head")
    assert_kept(before, databases.rows(name))
    assert asyncio.run(differences(databases.url(name))) == []
    put_files(tmp_path, recording["objects"])
    with Redis.from_url(databases.servers.redis_url) as redis:
        redis.flushall()
    asyncio.run(assert_served(databases.url(name), databases.servers.redis_url, tmp_path, recording))


def test_the_newest_step_back_and_forward_keeps_every_row(databases: Databases):
    name, _ = databases.recorded(REVISIONS[-2])
    before = databases.rows(name)
    databases.migrate(name, "head")
    newest = databases.rows(name)
    databases.migrate(name, "-1", back=True)
    assert databases.rows(name) == before
    databases.migrate(name, "head")
    assert databases.rows(name) == newest


_MAY_BE_LARGE = "'adapted_models', 'tasks', 'results', 'predictions', 'audit_log', 'feedback', 'job_events'"
_FILES = f"""
SELECT c.relname, pg_relation_filenode(c.oid) AS file FROM pg_class t
LEFT JOIN pg_index ON indrelid = t.oid JOIN pg_class c ON c.oid IN (t.oid, indexrelid)
WHERE t.relname IN ({_MAY_BE_LARGE})
"""
_FROM = "0008"
"""Steps from here on may meet an installation in use."""


@pytest.mark.parametrize("revision", [one for one in REVISIONS if one >= _FROM])
def test_a_step_neither_rewrites_nor_indexes_a_table_that_may_be_large(databases: Databases, revision: str):
    """Either would keep all callers waiting for as long as it takes."""
    name, _ = databases.recorded(REVISIONS[REVISIONS.index(revision) - 1])
    before = {(row["relname"], row["file"]) for row in databases.run(name, _FILES)}
    databases.migrate(name, revision)
    after = {(row["relname"], row["file"]) for row in databases.run(name, _FILES)}
    assert after <= before, "make the index in a step of its own, CONCURRENTLY; add the column without a rewrite"


def test_a_step_that_waits_for_a_table_lets_callers_pass(databases: Databases):
    """A lock that is waited for is one that all others wait behind: the migration gives up, and tries again."""
    name, _ = databases.recorded(REVISIONS[-2])
    with ThreadPoolExecutor(1) as pool:
        migrating = asyncio.run(_held_up(databases, name, lambda: pool.submit(databases.migrate, name, "head")))
        migrating.result()
    assert databases.run(name, "SELECT version_num FROM alembic_version")[0][0] == REVISIONS[-1]


async def _held_up(databases: Databases, name: str, migrate: Callable[[], "Future[None]"]) -> "Future[None]":
    holder, caller = [await asyncpg.connect(databases.url(name)) for _ in range(2)]
    holding = holder.transaction()
    await holding.start()
    await holder.execute(f"LOCK TABLE {', '.join(await _tables(holder))} IN ROW EXCLUSIVE MODE")
    migrating = migrate()
    async with asyncio.timeout(120):
        while not await caller.fetchval("SELECT count(*) FROM pg_locks WHERE NOT granted"):
            assert not migrating.done(), "it waits for no table: choose a revision that does"
            await asyncio.sleep(0.01)
        for table in await _tables(caller):
            await caller.execute(f"SELECT 1 FROM {table} LIMIT 1")
    await holding.rollback()
    for connection in (holder, caller):
        await connection.close()
    return migrating


async def _tables(connection: Any) -> list[str]:
    rows = await connection.fetch("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
    return [row[0] for row in rows if row[0] != "alembic_version"]


def assert_kept(before: Rows, after: Rows) -> None:
    """Each row is there, with what it held in the columns that there are still."""
    for table, rows in before.items():
        for row in rows if table != "alembic_version" else []:
            same = (found for found in after[table] if all(found.get(name, row[name]) == row[name] for name in row))
            assert next(same, None), (table, row)


async def differences(url: str) -> list[Any]:
    """Between the tables there are and those that the code says; and constraints that rows were not checked against."""
    engine = open_database(url)
    try:
        async with engine.connect() as connection:
            unchecked = list(await connection.scalars(text("SELECT conname FROM pg_constraint WHERE NOT convalidated")))
            return unchecked + await connection.run_sync(_compared)
    finally:
        await engine.dispose()


def _compared(connection: Connection) -> list[Any]:
    context = MigrationContext.configure(connection, opts={"compare_server_default": True})
    return list(compare_metadata(context, metadata))


async def assert_served(url: str, redis_url: str, objects: Path, recording: dict[str, Any]) -> None:
    """What was stored answers as it did; what was waiting is worked off; models grow from examples of that time."""
    app = create_app(Settings(database_url=url, redis_url=redis_url, objects=str(objects)))
    transport = httpx.ASGITransport(app)
    headers = {"Authorization": f"Bearer {ADMIN_KEY}"}
    async with (
        app.router.lifespan_context(app),
        a_worker(url, redis_url, objects),
        httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1", headers=headers, timeout=120) as client,
    ):
        while not (await client.get("/readyz")).json()["parts"]["workers"]:
            await asyncio.sleep(0.02)
        for asked in recording["answered"]:
            answer = await said(client.post("/predict", json=asked["body"]))
            for now, then in zip(answer["predictions"], asked["predictions"], strict=True):
                assert now == {name: close_to(what) for name, what in then.items()}
        for model in recording["queued"]:
            assert (await said(client.get(f"/v1/adapted-models/{model}?wait=60")))["status"] == "succeeded"
            grown = await said(client.post(f"/v1/adapted-models/{model}/examples", json={"support": _MORE}))
            assert grown["status"] == "succeeded" and grown["classes"] == ["left", "right", "up"]


_MORE = {"inputs": [[5.0, 5.0, 0.0, 0.0]], "labels": ["up"]}


def close_to(what: Any) -> Any:
    return what if isinstance(what, str) else pytest.approx(what, rel=1e-4)


async def said(sent: Awaitable[httpx.Response]) -> dict[str, Any]:
    answer = await sent
    assert answer.is_success, answer.text
    body: dict[str, Any] = answer.json()
    return body


@asynccontextmanager
async def a_worker(url: str, redis_url: str, objects: Path) -> AsyncIterator[None]:
    """A worker of today, in this process."""
    worker, database, stop = new_id("wrk"), open_database(url), asyncio.Event()
    queue = WorkQueue(redis_url, worker)
    stack = Stack(worker, torch.device("cpu"), 30, Limits(64, 256), database, queue, LocalObjects(objects))
    running = asyncio.create_task(AdaptationWorker(stack).run(stop))
    try:
        yield
    finally:
        stop.set()
        await running
        await queue.close()
        await database.dispose()
