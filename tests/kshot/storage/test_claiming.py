"""Who is claimed first: a tenant's first task before another's second, whatever came before."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from kshot.contracts.ids import new_id
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


async def test_who_claims_waits_for_no_other_claim_and_takes_nothing_of_it(
    connection: AsyncConnection, checkpoint: str, database: AsyncEngine
):
    tenant = await a_tenant(connection)
    first, second = [await accepted(connection, checkpoint, tenant) for _ in range(2)]
    async with database.connect() as other:
        await other.execute(text("SELECT 1"))  # opens a transaction, which the claim then stays in
        assert ids(await claim(other, "slow", 60, 1)) == [first]
        async with asyncio.timeout(30):
            assert ids(await claim(connection, "quick", 60, 9)) == [second]
        await other.commit()
    assert ids(await claim(connection, "late", 60, 9)) == []


async def replay_of(connection: AsyncConnection, checkpoint: str, tenant: str, payload: bytes) -> str:
    """A task that replays the support of a model that was made; its id."""
    first = await accepted(connection, checkpoint, tenant, payload=payload)
    await connection.execute(text("UPDATE tasks SET status = 'succeeded' WHERE id = :id"), {"id": first})
    replay = new_id("task")
    again = text(
        "INSERT INTO tasks (id, tenant_id, adapted_model_id, checkpoint_id, learner, background) "
        "SELECT :id, tenant_id, adapted_model_id, checkpoint_id, learner, true FROM tasks WHERE id = :first"
    )
    await connection.execute(again, {"id": replay, "first": first})
    await connection.commit()
    return replay


async def test_replays_come_after_callers_tasks_each_with_the_support_of_its_model(
    connection: AsyncConnection, checkpoint: str
):
    tenant = await a_tenant(connection)
    replays = [await replay_of(connection, checkpoint, tenant, payload) for payload in (b"one", b"another")]
    asked = await accepted(connection, checkpoint, tenant, payload=b"asked")
    claims = await claim(connection, "w", 60, 9)
    assert ids(claims) == [asked, *replays]
    assert [one.payload for one in claims] == [b"asked", b"one", b"another"]
    assert [one.background for one in claims] == [False, True, True]


async def test_the_size_of_a_replay_is_that_of_the_support_it_replays(connection: AsyncConnection, checkpoint: str):
    tenant = await a_tenant(connection)
    replays = [await replay_of(connection, checkpoint, tenant, b"x" * size) for size in (100, 50, 50)]
    assert ids(await claim(connection, "w", 60, 9, background=False)) == []
    assert ids(await claim(connection, "w", 60, 9, background=True, max_bytes=150)) == replays[:2]
    assert ids(await claim(connection, "w", 60, 9, background=True)) == replays[2:]


async def test_callers_turns_do_not_count_replays(connection: AsyncConnection, checkpoint: str):
    """A tenant whose models follow an alias is not behind others for that."""
    following, other = await a_tenant(connection), await a_tenant(connection)
    await replay_of(connection, checkpoint, following, b"x")
    asked = await accepted(connection, checkpoint, following)
    late = await accepted(connection, checkpoint, other)
    assert ids(await claim(connection, "w", 60, 2, background=False)) == [asked, late]


async def test_callers_tasks_come_before_replays_whoever_has_had_more(connection: AsyncConnection, checkpoint: str):
    loud, following = await a_tenant(connection), await a_tenant(connection)
    replays = [await replay_of(connection, checkpoint, following, b"x") for _ in range(2)]
    asked = [await accepted(connection, checkpoint, loud) for _ in range(3)]
    assert ids(await claim(connection, "w", 60, 3)) == asked
    assert ids(await claim(connection, "w", 60, 9)) == replays


async def test_replays_take_turns_too(connection: AsyncConnection, checkpoint: str):
    many, few = await a_tenant(connection), await a_tenant(connection)
    flood = [await replay_of(connection, checkpoint, many, b"x") for _ in range(2)]
    late = await replay_of(connection, checkpoint, few, b"x")
    assert ids(await claim(connection, "w", 60, 9, background=True)) == [flood[0], late, flood[1]]


async def test_what_runs_counts_before_what_waits_though_it_came_later(connection: AsyncConnection, checkpoint: str):
    tenant, other = await a_tenant(connection), await a_tenant(connection)
    old, running = [await accepted(connection, checkpoint, tenant) for _ in range(2)]
    runs = text("UPDATE tasks SET status = 'running', lease_until = now() + interval '1 h' WHERE id = :id")
    await connection.execute(runs, {"id": running})
    await connection.commit()
    late = await accepted(connection, checkpoint, other)
    assert ids(await claim(connection, "w", 60, 9)) == [late, old]


async def test_a_query_counts_as_its_support_does(connection: AsyncConnection, checkpoint: str):
    tenant = await a_tenant(connection)
    first, second = [await accepted(connection, checkpoint, tenant, payload=b"x" * 50) for _ in range(2)]
    await connection.execute(text("UPDATE tasks SET query = :query WHERE id = :id"), {"query": b"x" * 60, "id": first})
    await connection.commit()
    assert ids(await claim(connection, "w", 60, 9, max_bytes=150)) == [first]
    assert ids(await claim(connection, "w", 60, 9, max_bytes=150)) == [second]
