"""A chaos run: callers and faults side by side, then quiet, then the audit."""

import asyncio
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

import asyncpg
import httpx

from benchmarks.faults.administrator import DATASET, Administrator
from benchmarks.faults.asking import Line, client
from benchmarks.faults.audit import Audit, Books, Index, audit_books, awaited_sweeps
from benchmarks.faults.callers import Caller, Shared
from benchmarks.faults.injecting import Injector
from benchmarks.faults.ledger import Ledger
from benchmarks.faults.schedule import Fault
from tests.flow.chaos_stack import WholeService, wait_until
from tests.flow.http_stack import ADMIN_KEY

TENANTS = ("red", "green", "blue")
_STANDSTILL_S = 120.0
_PATIENCE_S = 180.0
_SERVED = 30
_SWEEPS_S = 300.0
_MOST_PREDICTIONS = 1000

_OPEN = """
SELECT (SELECT count(*) FROM tasks WHERE status IN ('queued', 'running')),
    (SELECT count(*) FROM training_jobs WHERE status IN ('queued', 'running', 'pausing', 'cancelling')),
    (SELECT count(*) FROM promotions WHERE status IN ('queued', 'running')),
    (SELECT coalesce(sum(last_seq), 0) FROM training_jobs), (SELECT coalesce(sum(attempt), 0) FROM tasks)
"""

_STANDING = (
    "SELECT id, background, status, attempt, max_attempts, worker, lease_until, now(), created_at, started_at"
    " FROM tasks WHERE status IN ('queued', 'running')",
    "SELECT pid, state, wait_event_type, wait_event, pg_blocking_pids(pid), xact_start, query_start, query"
    " FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()",
)
_UNSWEPT = "SELECT count(*) FROM adapted_models WHERE deleted_at IS NOT NULL AND state_erased_at IS NULL"


@dataclass(frozen=True)
class Day:
    """``callers``: of each tenant. ``steps``: of a job. ``until_swept``: whether to wait for the sweeps, which come a
    minute after what they remove."""

    faults: Sequence[Fault]
    seconds: float
    seed: int
    callers: int
    steps: int
    until_swept: bool


@dataclass(frozen=True)
class Spent:
    """A day that is over: the books, and what the auditor read and found in them."""

    books: Books
    index: Index
    audit: Audit


async def spend(day: Day, service: WholeService, ledger: Ledger) -> Spent:
    """The whole of it."""
    keys = await _open_shop(service)
    await _work(day, service, ledger, keys)
    ledger.close()
    await asyncio.to_thread(wait_until, service.is_whole, service)
    await _until_quiet(service)
    if day.until_swept:
        await _until_swept(service)
    books = Books(ledger.path, service.database_url, service.objects, service.url, keys)
    index, audit = await audit_books(books, most_predictions=_MOST_PREDICTIONS, seed=day.seed)
    return Spent(books, index, audit)


async def _open_shop(service: WholeService) -> dict[str, str]:
    """Tenants with a key each, and a data set for jobs; fsync is on, as in production."""
    connection = await asyncpg.connect(service.database_url)
    try:
        assert await connection.fetchval("SHOW fsync") == "on"
        assert await connection.fetchval("SHOW synchronous_commit") == "on"
    finally:
        await connection.close()
    async with client(service.url, ADMIN_KEY) as admin:
        made = await admin.post("/v1/datasets", json={"name": DATASET, "source": "sinusoid"})
        made.raise_for_status()
        return {tenant: await _key(admin, tenant) for tenant in TENANTS}


async def _key(admin: httpx.AsyncClient, tenant: str) -> str:
    made = await admin.post("/v1/api-keys", json={"name": "chaos", "tenant": tenant})
    made.raise_for_status()
    return str(made.json()["key"])


async def _work(day: Day, service: WholeService, ledger: Ledger, keys: dict[str, str]) -> None:
    """Callers and faults, until the time is up and every fault is over."""
    over, shared = asyncio.Event(), Shared()
    injector = Injector(service, ledger)
    async with AsyncExitStack() as stack, asyncio.TaskGroup() as group:

        async def line(caller: str, tenant: str, key: str) -> Line:
            return Line(caller, tenant, await stack.enter_async_context(client(service.url, key)), ledger, over)

        for tenant, key in keys.items():
            for number in range(day.callers):
                name = f"{tenant}-{number}"
                worker = Caller(await line(name, tenant, key), shared, f"{day.seed} {name}")
                group.create_task(worker.work())
        admin = Administrator(await line("admin", "admin", ADMIN_KEY), shared, f"{day.seed} admin", day.steps)
        group.create_task(admin.work())
        await _until_served(ledger)
        keeping = group.create_task(injector.keep())
        started = ledger.now()
        await injector.carry_out(day.faults)
        await asyncio.sleep(max(0.0, started + day.seconds - ledger.now()))
        await _until_served(ledger)
        keeping.cancel()
        over.set()


async def _until_served(ledger: Ledger) -> None:
    """Until some more requests are accepted: before the first fault, and after the last one, unaided."""
    wanted, deadline = ledger.accepted + _SERVED, time.monotonic() + _PATIENCE_S
    while ledger.accepted < wanted:
        if time.monotonic() > deadline:
            raise RuntimeError("nobody is served any more")
        await asyncio.sleep(0.1)


async def _until_quiet(service: WholeService) -> None:
    """Until nothing is open, or nothing moves any more: then the audit says what stands still."""
    seen: object = None
    deadline = 0.0
    while True:
        row = tuple(await _row(service, _OPEN))
        if not any(row[:3]):
            return
        if row != seen:
            seen, deadline = row, time.monotonic() + _STANDSTILL_S
        if time.monotonic() > deadline:
            await _note_standstill(service)
            return
        await asyncio.sleep(0.3)


async def _note_standstill(service: WholeService) -> None:
    """What is open, and what Postgres does, beside the logs: for whoever looks for the reason."""
    connection = await asyncpg.connect(service.database_url)
    try:
        rows = [row for query in _STANDING for row in await connection.fetch(query)]
    finally:
        await connection.close()
    (service.folder / "standstill.log").write_text("\n".join(str(dict(row)) for row in rows) + "\n")


async def _row(service: WholeService, query: str) -> asyncpg.Record:
    connection = await asyncpg.connect(service.database_url)
    try:
        return await connection.fetchrow(query)
    finally:
        await connection.close()


async def _until_swept(service: WholeService) -> None:
    """Until the sweeps have removed what is theirs; half-written files, which they leave for an hour, stay."""
    deadline = time.monotonic() + _SWEEPS_S
    while time.monotonic() < deadline:
        connection = await asyncpg.connect(service.database_url)
        try:
            swept, _ = await awaited_sweeps(connection, service.objects)
            deleted = await connection.fetchval(_UNSWEPT)
        finally:
            await connection.close()
        if not deleted and all(Path(key).name.startswith(".") for key in swept):
            return
        await asyncio.sleep(2)
