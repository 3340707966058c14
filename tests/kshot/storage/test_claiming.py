"""Who is claimed first: a tenant's first task before another's second, whatever came before."""

from collections.abc import AsyncIterator
from dataclasses import replace

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from kshot.contracts.tasks import PAYLOAD_VERSION
from kshot.storage.adapted_models import insert_adapted_model
from kshot.storage.claiming import claim
from kshot.storage.tasks import Claim, insert_task
from tests.kshot.storage.conftest import a_model, another_tenant, its_task


@pytest.fixture
async def connection(database: AsyncEngine) -> AsyncIterator[AsyncConnection]:
    """Nothing is open when the test begins."""
    async with database.begin() as opened:
        await opened.execute(text("UPDATE tasks SET status = 'cancelled' WHERE status IN ('queued', 'running')"))
    async with database.connect() as opened:
        yield opened


async def accepted(connection: AsyncConnection, checkpoint: str, tenant: str, *, payload: bytes | None = None) -> str:
    model = replace(a_model(checkpoint), tenant=tenant)
    task = its_task(model)
    await insert_adapted_model(connection, model)
    await insert_task(connection, task if payload is None else replace(task, payload=payload))
    await connection.commit()
    return task.id


async def a_tenant(connection: AsyncConnection) -> str:
    tenant = await another_tenant(connection)
    await connection.commit()
    return tenant


def ids(claims: list[Claim]) -> list[str]:
    return [found.task_id for found in claims]


async def test_a_flood_of_one_tenant_keeps_no_other_waiting(connection: AsyncConnection, checkpoint: str):
    loud, quiet = await a_tenant(connection), await a_tenant(connection)
    flood = [await accepted(connection, checkpoint, loud) for _ in range(6)]
    few = [await accepted(connection, checkpoint, quiet) for _ in range(2)]
    assert ids(await claim(connection, "w", 60, 4)) == [flood[0], few[0], flood[1], few[1]]
    assert ids(await claim(connection, "w", 60, 9)) == flood[2:]


async def test_what_runs_already_counts_so_one_at_a_time_is_fair_too(connection: AsyncConnection, checkpoint: str):
    loud, quiet = await a_tenant(connection), await a_tenant(connection)
    flood = [await accepted(connection, checkpoint, loud) for _ in range(3)]
    late = await accepted(connection, checkpoint, quiet)
    taken = [ids(await claim(connection, f"w{i}", 60, 1)) for i in range(4)]
    assert taken == [[flood[0]], [late], [flood[1]], [flood[2]]]


async def test_a_large_support_counts_for_as_many_small_ones(connection: AsyncConnection, checkpoint: str):
    heavy, light = await a_tenant(connection), await a_tenant(connection)
    large = [await accepted(connection, checkpoint, heavy, payload=bytes(2 * 65536)) for _ in range(2)]
    small = [await accepted(connection, checkpoint, light) for _ in range(4)]
    assert ids(await claim(connection, "w", 60, 9)) == [large[0], *small[:3], large[1], small[3]]


async def test_a_task_whose_worker_died_waits_like_any_other(connection: AsyncConnection, checkpoint: str):
    tenant = await a_tenant(connection)
    first, second = [await accepted(connection, checkpoint, tenant) for _ in range(2)]
    assert ids(await claim(connection, "dead", -1, 1)) == [first]
    assert ids(await claim(connection, "heir", 60, 2)) == [first, second]


async def test_fairness_does_not_claim_more_than_fits(connection: AsyncConnection, checkpoint: str):
    loud, quiet = await a_tenant(connection), await a_tenant(connection)
    large = [await accepted(connection, checkpoint, loud, payload=b"x" * 100) for _ in range(2)]
    other = await accepted(connection, checkpoint, quiet, payload=b"x" * 100)
    assert ids(await claim(connection, "w", 60, 9, max_bytes=200)) == [large[0], other]
    assert ids(await claim(connection, "w", 60, 9, max_bytes=1)) == [large[1]]


async def test_a_payload_of_a_later_version_is_left_to_who_reads_it(connection: AsyncConnection, checkpoint: str):
    """Claimed by an older one, it would fail, though nothing is wrong with it."""
    tenant = await a_tenant(connection)
    newer, older = [await accepted(connection, checkpoint, tenant) for _ in range(2)]
    written_in = text("UPDATE tasks SET payload_version = :version WHERE id = :id")
    await connection.execute(written_in, {"version": PAYLOAD_VERSION + 1, "id": newer})
    await connection.commit()
    assert ids(await claim(connection, "w", 60, 9)) == [older]
    assert ids(await claim(connection, "w", 60, 9, last_chance=True)) == []
    await connection.execute(written_in, {"version": PAYLOAD_VERSION, "id": newer})
    await connection.commit()
    assert [(one.task_id, one.attempt) for one in await claim(connection, "w", 60, 9)] == [(newer, 1)]


async def test_only_the_claim_does_not_wait_for_the_disk(connection: AsyncConnection, checkpoint: str):
    """What a statement sets for itself can be seen from inside a transaction; such a one is opened here first."""
    waits = text("SHOW synchronous_commit")
    await accepted(connection, checkpoint, await a_tenant(connection))
    assert await connection.scalar(waits) == "on"
    assert len(await claim(connection, "w", 60, 1)) == 1
    assert await connection.scalar(waits) == "off", "the claim does not wait"
    await connection.commit()
    assert await connection.scalar(waits) == "on", "the next transaction does"
