"""Models that are deleted in the moment their alias moves: nothing of theirs stays behind, or stands in the way."""

import asyncio

import pytest
from sqlalchemy import text

from kshot.storage.aliases import move_alias
from kshot.storage.expiry import delete_adapted_model
from kshot.storage.following import catch_up
from kshot.storage.revisions import lock_model
from kshot.storage.tables import DEFAULT_TENANT
from kshot.storage.tasks import Claim
from tests.workers.moving import Moving
from tests.workers.place import Place
from tests.workers.versions import NAME
from workers.adaptation import AdaptationWorker

_OPEN = "SELECT count(*) FROM tasks WHERE adapted_model_id = :id AND status IN ('queued', 'running')"


async def _open(place: Place, claim: Claim) -> int:
    return int(await place.scalar(_OPEN, id=claim.adapted_model))


async def _until_one_waits(place: Place) -> None:
    """A transaction, for another."""
    while not await place.scalar("SELECT count(*) FROM pg_locks WHERE NOT granted"):
        await asyncio.sleep(0.01)


async def test_one_deleted_while_the_move_is_not_committed(moving: Moving):
    claim, place = await moving.follower(), moving.place

    async def delete() -> None:
        async with place.stack.database.begin() as connection:
            await delete_adapted_model(connection, DEFAULT_TENANT, claim.adapted_model)

    async with place.stack.database.begin() as connection:
        await move_alias(connection, NAME, "production", moving.versions["second"], "set")
        deleting = asyncio.create_task(delete())
        await _until_one_waits(place)
    await deleting
    assert await _open(place, claim) == 0


async def test_one_whose_deletion_is_not_committed_when_the_alias_moves(moving: Moving):
    claim, other, place = await moving.follower(), await moving.follower(), moving.place
    async with place.stack.database.begin() as connection:
        await delete_adapted_model(connection, DEFAULT_TENANT, claim.adapted_model)
        await moving.move("second")  # waits for nothing
    assert await _open(place, claim) == 0 and await _open(place, other) == 1


async def test_one_whose_deletion_came_to_nothing_follows_later(moving: Moving):
    claim, place = await moving.follower(), moving.place
    with pytest.raises(RuntimeError):
        async with place.stack.database.begin() as connection:
            await delete_adapted_model(connection, DEFAULT_TENANT, claim.adapted_model)
            await moving.move("second")
            raise RuntimeError("and nothing is deleted")
    async with place.stack.database.begin() as connection:
        assert await catch_up(connection) == 1


async def test_a_model_that_goes_over_meanwhile_is_found_by_whoever_waits_for_it(moving: Moving):
    claim, database = await moving.follower(), moving.place.stack.database
    await moving.move("second")
    (replay,) = await moving.replays()

    async def task_of_the_locked() -> str:
        async with database.begin() as connection:
            return str((await lock_model(connection, claim.adapted_model)).task_id)

    async with database.begin() as connection:
        goes_over = "UPDATE adapted_models SET task_id = :task WHERE id = :id"
        await connection.execute(text(goes_over), {"task": replay.task_id, "id": claim.adapted_model})
        waiting = asyncio.create_task(task_of_the_locked())
        await _until_one_waits(moving.place)
    assert await waiting == replay.task_id


async def test_a_replay_without_its_support_keeps_nobody_waiting(moving: Moving):
    """Earlier versions could leave one behind."""
    before, claim, after = [await moving.follower() for _ in range(3)]
    await moving.move("second")
    await moving.place.execute("UPDATE tasks SET payload = NULL WHERE id = :id", id=claim.task_id)
    worker = AdaptationWorker(moving.place.stack)  # and nobody computes
    replaying = asyncio.create_task(worker._intake.replay())
    while await _open(moving.place, claim):
        await asyncio.sleep(0.01)
    replaying.cancel()
    assert (await moving.place.row(claim.task_id)).status == "succeeded"
    waiting = worker._queues.take_out(lambda _: True)
    assert [work.origin.adapted_model for work in waiting] == [before.adapted_model, after.adapted_model]
    assert worker._leases.background == len(worker._leases) == 2
