"""Sweeps: weights go after the commit that says so, and whatever a crash leaves is found by the next sweep."""

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from kshot.checkpoints import Checkpoint
from kshot.contracts.errors import Expired, NotFound
from kshot.contracts.ids import new_id
from kshot.contracts.selection import CheckpointRef, Selection
from kshot.storage.aliases import move_alias
from kshot.storage.checkpoints import StoredCheckpoint, get_checkpoint, register
from kshot.storage.objects import LocalObjects
from kshot.storage.results import Chosen
from kshot.storage.retention import delete_checkpoint, deleted_with_weights, sweeps_alone
from tests.workers.place import Place
from tests.workers.test_publishing import write
from workers.decoding import adapt_work
from workers.executing import solve
from workers.models import Models
from workers.publishing import publish
from workers.sweeping import Keep, clear_checkpoints, sweep
from workers.work import Solved


async def made_by_a_job(place: Place, days: int) -> StoredCheckpoint:
    """A checkpoint that nobody promoted, so many days old, with weights in the store."""
    fresh = new_id("ckpt")
    manifest = place.checkpoint.manifest.model_copy(update={"name": fresh.lower().replace("_", "-")})
    key = f"checkpoints/{manifest.name}/{fresh}.safetensors"
    async with place.stack.database.begin() as connection:
        await register(connection, fresh, manifest, fresh, key, 7, "job_1")
    place.objects.put(key, b"weights")
    await place.execute(
        "UPDATE checkpoints SET created_at = now() - make_interval(days => :days) WHERE id = :id", days=days, id=fresh
    )
    return await stored(place, fresh)


async def stored(place: Place, id: str) -> StoredCheckpoint:
    async with place.stack.database.connect() as connection:
        return await get_checkpoint(connection, id, even_deleted=True)


async def swept(place: Place) -> None:
    await sweep(place.stack.database, place.objects, Keep(prediction_days=30, checkpoint_days=30))


def has_weights(place: Place, checkpoint: StoredCheckpoint) -> bool:
    try:
        return place.objects.get(checkpoint.object_key) == b"weights"
    except NotFound:
        return False


async def delete(place: Place, id: str) -> None:
    async with place.stack.database.begin() as connection:
        await delete_checkpoint(connection, id)


async def test_an_unpromoted_checkpoint_goes_after_its_time_with_its_weights(place: Place):
    old, young, promoted = [await made_by_a_job(place, days) for days in (31, 29, 31)]
    async with place.stack.database.begin() as connection:
        await move_alias(connection, promoted.manifest.name, "production", promoted.id, "promote")
    await swept(place)
    gone = await stored(place, old.id)
    assert gone.deleted_at is not None and gone.bytes == 0 and not has_weights(place, old)
    for kept in (young, promoted):
        assert (await stored(place, kept.id)).deleted_at is None and has_weights(place, kept)


async def test_weights_left_by_a_crash_after_the_commit_are_removed_by_the_next_sweep(place: Place):
    checkpoint = await made_by_a_job(place, 0)
    await delete(place, checkpoint.id)  # and here the process died
    assert has_weights(place, checkpoint)
    await swept(place)
    assert not has_weights(place, checkpoint) and (await stored(place, checkpoint.id)).bytes == 0


async def test_weights_that_cannot_be_removed_now_keep_no_others_from_it(place: Place):
    stuck, free = await made_by_a_job(place, 31), await made_by_a_job(place, 31)
    path = place.objects._folder / stuck.object_key
    path.unlink()
    path.mkdir()  # in its place, what unlink refuses
    await swept(place)
    assert not has_weights(place, free) and (await stored(place, stuck.id)).bytes > 0
    path.rmdir()
    await swept(place)
    assert (await stored(place, stuck.id)).bytes == 0


async def test_one_sweeps_at_a_time(place: Place):
    old = await made_by_a_job(place, 31)
    async with place.stack.database.begin() as another:
        assert await sweeps_alone(another)
        await swept(place)
        assert (await stored(place, old.id)).deleted_at is None
    await asyncio.gather(*(swept(place) for _ in range(4)))
    assert (await stored(place, old.id)).deleted_at is not None


async def test_publishing_again_brings_nothing_back_that_was_deleted(
    database: AsyncEngine, tmp_path: Path, checkpoint: Checkpoint, place: Place
):
    folder = write(tmp_path / "back", checkpoint, "back")
    first = await publish(database, place.objects, folder)
    write(folder, checkpoint, "back", description="second")
    second = await publish(database, place.objects, folder)
    await delete(place, first)
    await clear_checkpoints(database, place.objects)
    write(folder, checkpoint, "back", description="first")
    assert await publish(database, place.objects, folder) == first
    gone = await stored(place, first)
    assert gone.deleted_at is not None and gone.object_key.split("/")[-1] not in weights_of(place.objects, "back")
    assert (await stored(place, second)).deleted_at is None


def weights_of(objects: LocalObjects, name: str) -> set[str]:
    return {path.name for path in (objects._folder / "checkpoints" / name).iterdir()}


async def test_no_sweep_removes_weights_that_are_being_published(place: Place):
    """The row is held from before the weights are stored until the commit."""
    checkpoint = await made_by_a_job(place, 0)
    await delete(place, checkpoint.id)
    manifest, name = checkpoint.manifest, checkpoint.manifest.name
    async with place.stack.database.begin() as publishing:
        known = await register(publishing, new_id("ckpt"), manifest, checkpoint.id, checkpoint.object_key, 7)
        assert known == checkpoint.id, name
        async with place.stack.database.begin() as sweeping:
            assert checkpoint.id not in [one.id for one in await deleted_with_weights(sweeping, 100)]


async def test_a_deleted_checkpoint_is_loaded_no_more_and_says_why(place: Place):
    gone, in_this_moment = await made_by_a_job(place, 0), await made_by_a_job(place, 0)
    await delete(place, gone.id)
    with pytest.raises(Expired):
        await place.models.checkpoint(gone.id)
    loop = asyncio.get_running_loop()

    class Vanishing(LocalObjects):
        def get(self, key: str) -> bytes:
            """Between the look at the row and this one at the weights somebody deletes both."""
            asyncio.run_coroutine_threadsafe(delete(place, in_this_moment.id), loop).result()
            raise NotFound("the stored object is gone")

    models = Models(place.stack.database, Vanishing(place.objects._folder), place.stack.device)
    with pytest.raises(Expired):
        await models.checkpoint(in_this_moment.id)


async def test_a_choice_of_a_checkpoint_that_was_deleted_meanwhile_makes_no_model(place: Place):
    """Of `auto`: the worker still has it in memory."""
    claim = await place.claimed()
    (solved,) = solve(place.checkpoint, [adapt_work(claim)])
    checkpoint = await made_by_a_job(place, 0)
    await delete(place, checkpoint.id)
    assert isinstance(solved, Solved)
    reference = CheckpointRef(id=checkpoint.id, name=checkpoint.manifest.name, alias="production")
    selection = Selection(considered=(), reason="the only one", reliable=False)
    chosen = Chosen(reference, "protonet", (4,), selection)
    await place.settler.settle([replace(solved, work=replace(solved.work, chosen=chosen))])
    row = await place.row(claim.task_id)
    assert row.status == "failed" and row.failure["code"] == "expired" and await place.results(claim) == 0


async def test_the_sweep_of_predictions_takes_all_that_are_old(place: Place):
    made = [(new_id("pred"), days) for days in (31, 31, 1)]
    for prediction, days in made:
        await place.execute(
            "INSERT INTO predictions (id, tenant_id, checkpoint_id, n_query, predictions, timings, created_at) SELECT "
            ":id, id, :checkpoint, 1, '[]', '{}', now() - make_interval(days => :days) FROM tenants LIMIT 1",
            id=prediction, checkpoint=place.checkpoint_id, days=days,
        )  # fmt: skip
    await swept(place)
    async with place.stack.database.connect() as connection:
        left = await connection.scalars(
            text("SELECT id FROM predictions WHERE id = ANY(:ids)"), {"ids": [prediction for prediction, _ in made]}
        )
    assert list(left) == [made[-1][0]]
