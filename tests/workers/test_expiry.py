"""What expired models and dead attempts leave is erased; nothing else is."""

import os
import time
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import text
from structlog.testing import capture_logs

from kshot.contracts.errors import Expired
from kshot.contracts.ids import new_id
from kshot.contracts.tasks import Timings
from kshot.storage.expiry import delete_adapted_model
from kshot.storage.objects import LocalObjects
from kshot.storage.predictions import NewPrediction, insert_predictions
from kshot.storage.tables import DEFAULT_TENANT
from kshot.storage.tasks import Claim
from tests.workers.place import Place
from tests.workers.samples import blobs
from workers.decoding import adapt_work
from workers.executing import solve
from workers.reaper import erase, reap


async def succeeded(place: Place) -> Claim:
    claim = await place.claim(await place.accepted(query=blobs(0).inputs))
    await place.settler.settle(place.solved(claim))
    return claim


async def expire(place: Place, claim: Claim, *, seconds_ago: int = 3600, pinned: bool = False) -> None:
    await place.execute(
        "UPDATE adapted_models SET expires_at = now() - make_interval(secs => :ago), pinned = :pinned WHERE id = :id",
        ago=seconds_ago, pinned=pinned, id=claim.adapted_model,
    )  # fmt: skip


async def predictions(place: Place, claim: Claim) -> object:
    async with place.stack.database.connect() as connection:
        statement = text("SELECT predictions FROM results WHERE task_id = :id")
        return await connection.scalar(statement, {"id": claim.task_id})


@pytest.mark.usefixtures("either_way")
async def test_an_expired_model_is_erased_and_still_said_to_have_expired(place: Place):
    gone = [await succeeded(place) for _ in range(60)]  # more than one transaction takes
    kept = {
        "alive": await succeeded(place),
        "pinned": await succeeded(place),
        "just expired": await succeeded(place),
    }
    for claim in gone:
        await expire(place, claim)
    await expire(place, kept["pinned"], pinned=True)
    await expire(place, kept["just expired"], seconds_ago=1)
    with capture_logs() as logs:
        await erase(place.stack.database, place.objects)
    assert {"states_erased", "supports_erased"} <= {line["event"] for line in logs}
    for claim in gone:
        assert ((await place.row(claim.task_id)).payload, await predictions(place, claim)) == (None, None)
        assert await place.states(claim) == 0
        with pytest.raises(Expired):
            await place.model(claim)
    for claim in kept.values():
        assert (await place.row(claim.task_id)).payload and await predictions(place, claim)
        assert await place.states(claim) == 1


async def test_a_prediction_under_way_while_its_model_is_deleted_is_erased_all_the_same(place: Place):
    """Its insert waits for no deletion: a lock on the model would cost every prediction."""
    deleted, expired = await succeeded(place), await succeeded(place)
    async with place.stack.database.begin() as connection:
        await delete_adapted_model(connection, deleted.tenant, deleted.adapted_model)
    asked = [
        NewPrediction(
            new_id("pred"), claim.tenant, claim.adapted_model, str(claim.checkpoint), [{"label": "a"}], b"inputs",
            Timings(queue_ms=0, compute_ms=0, batch_size=1),
        )
        for claim in (deleted, expired)
    ]  # fmt: skip
    async with place.stack.database.begin() as connection:
        await insert_predictions(connection, asked)
    for claim in (deleted, expired):
        await expire(place, claim)
    await erase(place.stack.database, place.objects)
    async with place.stack.database.connect() as connection:
        statement = text("SELECT predictions, inputs FROM predictions WHERE id = :id")
        rows = [(await connection.execute(statement, {"id": one.id})).one() for one in asked]
    assert [tuple(row) for row in rows] == [([], None), ([{"label": "a"}], b"inputs")]


@pytest.mark.usefixtures("either_way")
async def test_a_task_nobody_computed_in_time_is_cancelled(place: Place):
    claim = await place.claimed()
    await expire(place, claim)
    await erase(place.stack.database, place.objects)
    row = await place.row(claim.task_id)
    assert (row.status, row.payload) == ("cancelled", None)
    await place.settler.settle(place.solved(claim))  # too late
    assert await place.results(claim) == await place.states(claim) == 0


@pytest.mark.usefixtures("stored")
async def test_a_state_that_cannot_be_deleted_now_is_deleted_later(place: Place):
    claim = await succeeded(place)
    await expire(place, claim)
    (state,) = place.state_files(claim.task_id)
    path = place.objects._folder / "states" / state
    path.unlink()
    path.mkdir()  # in its place, what unlink refuses
    with pytest.raises(OSError, match=state):
        await erase(place.stack.database, place.objects)
    assert (await place.row(claim.task_id)).payload
    path.rmdir()
    await erase(place.stack.database, place.objects)
    assert (await place.row(claim.task_id)).payload is None


@pytest.mark.usefixtures("stored")
async def test_the_state_of_an_attempt_that_was_killed_goes_when_a_later_one_counts(place: Place):
    claim = await place.claimed()
    place.objects.put(f"states/{claim.task_id}-1.safetensors", b"stored, and never committed")
    heir = await place.taken_by_another(claim)
    await place.settler.settle(place.solved(heir))
    assert place.state_files(claim.task_id) == [f"{claim.task_id}-2.safetensors"]


@pytest.mark.usefixtures("stored")
async def test_a_later_one_counts_also_where_that_state_cannot_be_deleted(place: Place):
    claim = await place.claimed()
    heir = await place.taken_by_another(claim)
    (place.objects._folder / "states" / f"{claim.task_id}-1.safetensors").mkdir(parents=True)  # unlink refuses it
    assert await place.settler.settle(place.solved(heir))
    assert (await place.model(claim)).status == "succeeded"


async def test_and_when_the_task_is_given_up_as_poison(place: Place):
    claim = await place.claimed()
    place.objects.put(f"states/{claim.task_id}-1.safetensors", b"stored, and never committed")
    await place.execute("UPDATE tasks SET attempt = 3, lease_until = now() WHERE id = :id", id=claim.task_id)
    await place.execute("UPDATE adapted_models SET follow = false")  # of tests before
    with capture_logs() as logs:
        await reap(place.stack.database, place.objects)
    assert [(line["event"], line.get("task_id")) for line in logs] == [("task_poisoned", claim.task_id)]
    assert (await place.row(claim.task_id)).failure["code"] == "poison"
    assert place.state_files(claim.task_id) == []
    told = "SELECT count(*) FROM adapted_model_history WHERE adapted_model_id = :id"
    assert await place.scalar(told, id=claim.adapted_model) == 0, "only of a replay"


async def test_old_idempotency_keys_and_workers_long_gone_are_forgotten(place: Place):
    names = {"old": new_id("evt"), "young": new_id("evt")}
    for one, ago in ((names["old"], "25 hours"), (names["young"], "0 hours")):
        bound = "INSERT INTO idempotency_keys (tenant_id, key, body_sha256, object_id, created_at)"
        when = f"now() - interval '{ago}'"
        await place.execute(f"{bound} VALUES (:tenant, :id, 'x', 'x', {when})", id=one, tenant=DEFAULT_TENANT)
        await place.execute(f"INSERT INTO workers (id, device, seen_at) VALUES (:id, 'cpu', {when})", id=one)
    await reap(place.stack.database, place.objects)
    for column, table in (("key", "idempotency_keys"), ("id", "workers")):
        left = f"SELECT array_agg({column}) FROM {table} WHERE {column} IN (:old, :young)"
        assert await place.scalar(left, **names) == [names["young"]]


@pytest.mark.usefixtures("either_way")
async def test_a_state_whose_commit_is_refused_goes(place: Place):
    claim = await place.claimed()
    (spoiled,) = place.solved(claim)
    await place.settler.settle([replace(spoiled, predictions=[{"label": "a \x00 that JSONB cannot hold"}])])
    assert (await place.row(claim.task_id)).status == "failed"
    assert await place.states(claim) == 0


def test_files_half_written_are_removed_after_an_hour(tmp_path: Path):
    objects = LocalObjects(tmp_path)
    objects.put("states/a", b"whole")
    old, young = tmp_path / "states" / ".b.0123", tmp_path / "states" / ".c.4567"
    long_ago = time.time() - 7200
    for path in (old, young):
        path.write_bytes(b"half")
    for path in (old, tmp_path / "states" / "a"):
        os.utime(path, (long_ago, long_ago))
    objects.sweep()
    assert {path.name for path in (tmp_path / "states").iterdir()} == {"a", young.name}


@pytest.mark.parametrize("how", ["query", "asked"])  # in the payload, as older versions had it, and beside it
async def test_what_was_asked_is_not_kept_and_the_support_is(place: Place, how: str):
    claim = await place.claim(await place.accepted(**{how: blobs(0).inputs}))
    (solved,) = place.solved(claim)
    assert len(solved.predictions) == len(blobs(0).inputs)
    await place.settler.settle([solved])
    row = await place.row(claim.task_id)
    assert row.query is None and (row.payload == claim.payload) == (how == "asked")
    kept = adapt_work(replace(claim, payload=row.payload, query=None))
    assert kept.payload.query is None
    assert kept.payload.support.classes == blobs(0).classes
    assert solve(place.checkpoint, [kept])[0].state.n_way == 2
