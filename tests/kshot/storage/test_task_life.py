"""A task is claimed by one worker at a time, and only the holder of the lease finishes it."""

import asyncio
from dataclasses import replace

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from kshot.contracts.errors import NotFound
from kshot.contracts.ids import new_id
from kshot.contracts.tasks import Failure, Timings
from kshot.storage.adapted_models import (
    get_adapted_model,
    insert_adapted_model,
    list_adapted_models,
)
from kshot.storage.expiry import delete_adapted_model
from kshot.storage.predictions import NewPrediction, insert_predictions
from kshot.storage.results import NewResult
from kshot.storage.tables import DEFAULT_TENANT
from kshot.storage.tasks import Claim, complete, fail, heartbeat, insert_task, reap, release
from tests.kshot.storage.claims import claim_these
from tests.kshot.storage.conftest import a_model, its_task

TIMINGS = Timings(queue_ms=0, compute_ms=0, batch_size=1)
RESULT = NewResult("states/x", "sha", None, None, TIMINGS)


async def accept(database: AsyncEngine, checkpoint: str) -> tuple[str, str]:
    model = a_model(checkpoint)
    task = its_task(model)
    async with database.begin() as connection:
        assert await insert_adapted_model(connection, model)
        await insert_task(connection, task)
    return task.id, model.id


async def take(
    database: AsyncEngine, worker: str, *ids: str, lease_s: float = 60, last_chance: bool = False
) -> list[Claim]:
    async with database.begin() as connection:
        return await claim_these(connection, worker, lease_s, ids, last_chance=last_chance)


@pytest.mark.reliability("faults: two workers race", "tasks")
async def test_two_workers_race_and_one_wins(database: AsyncEngine, checkpoint: str):
    task, _ = await accept(database, checkpoint)
    taken = await asyncio.gather(*(take(database, f"w{i}", task) for i in range(8)))
    assert sorted(len(claims) for claims in taken) == [0] * 7 + [1]


async def test_completion_writes_one_result_and_a_late_one_nothing(database: AsyncEngine, checkpoint: str):
    task, model = await accept(database, checkpoint)
    (first,) = await take(database, "slow", task, lease_s=0)
    (second,) = await take(database, "quick", task)
    assert (first.attempt, second.attempt) == (1, 2)
    async with database.begin() as connection:
        assert await heartbeat(connection, [first, second], 60) == {task}
        assert not await complete(connection, first, RESULT)
        assert await complete(connection, second, RESULT)
        assert not await complete(connection, second, RESULT)
        assert not await fail(connection, first, Failure(code="internal", message="late"))
        found = await get_adapted_model(connection, DEFAULT_TENANT, model)
        results = await connection.scalar(text("SELECT count(*) FROM results WHERE task_id = :t"), {"t": task})
    assert (found.status, found.attempt, results) == ("succeeded", 2, 1)


async def test_a_zombie_of_the_same_name_is_told_apart_by_its_attempt(database: AsyncEngine, checkpoint: str):
    task, _ = await accept(database, checkpoint)
    (before,) = await take(database, "w", task, lease_s=0)
    (after,) = await take(database, "w", task)
    async with database.begin() as connection:
        assert await heartbeat(connection, [before], 60) == set()
        assert not await complete(connection, before, RESULT)
        assert await complete(connection, after, RESULT)


async def test_released_work_costs_no_attempt(database: AsyncEngine, checkpoint: str):
    task, _ = await accept(database, checkpoint)
    for _ in range(5):
        claims = await take(database, "w", task)
        assert [held.attempt for held in claims] == [1]
        async with database.begin() as connection:
            await release(connection, claims)


async def test_the_reaper_gives_up_after_the_last_attempt_only(database: AsyncEngine, checkpoint: str):
    task, model = await accept(database, checkpoint)
    for attempt in range(3):
        async with database.begin() as connection:
            assert task not in [found.task_id for found in await reap(connection)]
        last = attempt == 2
        assert await take(database, "other", task, last_chance=not last) == []
        assert len(await take(database, f"w{attempt}", task, lease_s=0, last_chance=last)) == 1
    assert await take(database, "w4", task) + await take(database, "w4", task, last_chance=True) == []
    async with database.begin() as connection:
        assert task in [found.task_id for found in await reap(connection)]
        found = await get_adapted_model(connection, DEFAULT_TENANT, model)
    assert found.status == "failed"
    assert found.failure is not None
    assert found.failure.code == "poison"


async def test_a_deleted_model_is_never_claimed_nor_completed(database: AsyncEngine, checkpoint: str):
    queued, queued_model = await accept(database, checkpoint)
    running, running_model = await accept(database, checkpoint)
    (held,) = await take(database, "w", running)
    async with database.begin() as connection:
        await delete_adapted_model(connection, DEFAULT_TENANT, queued_model)
        await delete_adapted_model(connection, DEFAULT_TENANT, running_model)
        assert not await complete(connection, held, RESULT)
        kept = await connection.scalar(
            text("SELECT count(*) FROM tasks WHERE id IN (:a, :b) AND payload IS NOT NULL"), {"a": queued, "b": running}
        )
    assert kept == 0
    assert await take(database, "w", queued) == []


async def test_deletion_waits_for_a_worker_that_is_completing_and_erases_what_it_wrote(
    database: AsyncEngine, checkpoint: str
):
    task, model = await accept(database, checkpoint)
    (held,) = await take(database, "w", task)
    asked = NewPrediction(new_id("pred"), DEFAULT_TENANT, model, checkpoint, [{"label": "a"}], b"inputs", TIMINGS)

    async def delete() -> dict[str, int]:
        async with database.begin() as connection:
            return await delete_adapted_model(connection, DEFAULT_TENANT, model)

    async with database.begin() as connection:
        assert await complete(connection, held, replace(RESULT, predictions=[{"label": "a"}]))
        await insert_predictions(connection, [asked])
        deleting = asyncio.create_task(delete())
        assert not (await asyncio.wait([deleting], timeout=0.3))[0], "it waits for the row"
    assert await deleting == {task: 1}
    async with database.begin() as connection:
        erased = await connection.execute(
            text("SELECT r.predictions, p.predictions, p.inputs FROM results r, predictions p "
                 "WHERE r.task_id = :t AND p.id = :p"), {"t": task, "p": asked.id},
        )  # fmt: skip
        assert tuple(erased.one()) == (None, [], None)
        with pytest.raises(NotFound):
            await delete_adapted_model(connection, DEFAULT_TENANT, model)


async def test_deletion_and_a_failing_worker_do_not_wait_for_each_other(database: AsyncEngine, checkpoint: str):
    task, model = await accept(database, checkpoint)
    (held,) = await take(database, "w", task)
    async with database.begin() as failing:
        await failing.execute(text("SELECT 1 FROM tasks WHERE id = :t FOR UPDATE"), {"t": task})

        async def delete() -> dict[str, int]:
            async with database.begin() as connection:
                return await delete_adapted_model(connection, DEFAULT_TENANT, model)

        deleting = asyncio.create_task(delete())
        assert not (await asyncio.wait([deleting], timeout=0.3))[0]
        assert await fail(failing, held, Failure(code="invalid", message="no"))
    assert await deleting == {task: 1}


async def test_lists_leave_predictions_out(database: AsyncEngine, checkpoint: str):
    task, model = await accept(database, checkpoint)
    (held,) = await take(database, "w", task)
    async with database.begin() as connection:
        assert await complete(connection, held, replace(RESULT, predictions=[{"label": "a"}]))
        assert (await get_adapted_model(connection, DEFAULT_TENANT, model)).predictions == [{"label": "a"}]
        listed = await list_adapted_models(connection, DEFAULT_TENANT, limit=100, after=None)
    assert [item.predictions for item in listed if item.id == model] == [None]
