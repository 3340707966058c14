"""What a task's row says at each turn of its life, and that no other row says so too."""

from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from kshot.contracts.ids import new_id
from kshot.contracts.tasks import PAYLOAD_VERSION, Failure
from kshot.storage.adapted_models import insert_adapted_model
from kshot.storage.expiry import delete_adapted_model
from kshot.storage.results import NewResult
from kshot.storage.tables import DEFAULT_TENANT
from kshot.storage.tasks import Claim, Ended, complete, fail, heartbeat, insert_task, reap, release, was_ended
from tests.kshot.storage.claims import claim_these
from tests.kshot.storage.conftest import PAYLOAD, a_model, its_task
from tests.kshot.storage.test_task_life import RESULT, TIMINGS

FAILURE = Failure(code="invalid", message="no")
INLINE = NewResult(None, "sha", None, None, TIMINGS, state=b"state")
LONG_AGO = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture
async def connection(database: AsyncEngine) -> AsyncIterator[AsyncConnection]:
    """Nothing of it is committed."""
    async with database.connect() as opened:
        yield opened


async def held(connection: AsyncConnection, checkpoint: str, **changes: Any) -> Claim:
    """A task of a model that may be found again, claimed."""
    model = a_model(checkpoint, fingerprint=new_id("evt"))
    assert await insert_adapted_model(connection, model)
    await insert_task(connection, replace(its_task(model), **changes))
    (claim,) = await claim_these(connection, "w", 60, [model.task_id])
    return claim


async def row(connection: AsyncConnection, claim: Claim) -> Any:
    asked = "SELECT t.*, m.fingerprint FROM tasks t JOIN adapted_models m ON m.id = adapted_model_id WHERE t.id = :id"
    return (await connection.execute(text(asked), {"id": claim.task_id})).one()


async def write(connection: AsyncConnection, claim: Claim, **values: Any) -> None:
    changes = ", ".join(f"{name} = :{name}" for name in values)
    await connection.execute(text(f"UPDATE tasks SET {changes} WHERE id = :id"), {**values, "id": claim.task_id})


async def test_a_claim_brings_what_was_recorded(connection: AsyncConnection, checkpoint: str):
    given = {"query": b"asked", "reply_to": "kshot:reply:x", "request_id": "req_x", "trace": "00-x"}
    claim = await held(connection, checkpoint, **given)
    assert {name: getattr(claim, name) for name in given} == given
    assert (claim.checkpoint, claim.learner, claim.background) == (checkpoint, "protonet", False)
    assert (claim.payload, claim.bytes) == (PAYLOAD, len(PAYLOAD) + len(b"asked"))
    await connection.execute(text("ALTER TABLE tasks ALTER payload_version DROP DEFAULT"))
    assert (await row(connection, await held(connection, checkpoint))).payload_version == PAYLOAD_VERSION


async def test_what_is_kept_of_a_payload_is_the_results_to_say(connection: AsyncConnection, checkpoint: str):
    whole, less = [await held(connection, checkpoint, query=b"asked") for _ in range(2)]
    assert await complete(connection, whole, RESULT)
    assert await complete(connection, less, replace(RESULT, payload=b"less"))
    assert [(await row(connection, claim)).payload for claim in (whole, less)] == [PAYLOAD, b"less"]
    assert [(await row(connection, claim)).query for claim in (whole, less)] == [None, None]


async def test_who_failed_leaves_nothing_to_be_made_again(connection: AsyncConnection, checkpoint: str):
    failed, neighbour = await held(connection, checkpoint, query=b"asked"), await held(connection, checkpoint)
    assert await fail(connection, failed, FAILURE)
    after, other = await row(connection, failed), await row(connection, neighbour)
    assert (after.status, after.failure["code"], after.lease_until) == ("failed", "invalid", None)
    assert (after.payload, after.query, after.fingerprint) == (None, None, None)
    assert after.finished_at is not None
    assert other.status == "running" and other.payload and other.fingerprint
    assert await fail(connection, failed, FAILURE) is False


async def test_a_replay_that_failed_leaves_its_model_as_it_is(connection: AsyncConnection, checkpoint: str):
    replay = replace(await held(connection, checkpoint), background=True)
    assert await fail(connection, replay, FAILURE)
    after = await row(connection, replay)
    assert (after.status, after.payload) == ("failed", PAYLOAD) and after.fingerprint
    assert await fail(connection, replay, FAILURE) is False


async def test_what_ended_is_kept_alive_no_longer(connection: AsyncConnection, checkpoint: str):
    done, given_up, still = [await held(connection, checkpoint) for _ in range(3)]
    assert await complete(connection, done, RESULT) is True
    assert await fail(connection, given_up, FAILURE) is True
    assert await heartbeat(connection, [done, given_up, still], 60) == {still.task_id}
    assert await heartbeat(connection, [], 60) == set()
    assert (await row(connection, done)).lease_until is None
    assert await complete(connection, done, RESULT) is False


async def test_only_the_attempt_that_ended_a_task_is_told_so(connection: AsyncConnection, checkpoint: str):
    done, inline, failed, running = [await held(connection, checkpoint) for _ in range(4)]
    await complete(connection, done, RESULT)
    await complete(connection, inline, INLINE)
    await fail(connection, failed, FAILURE)
    assert await was_ended(connection, done) == await was_ended(connection, inline) == Ended(None, kept=True)
    assert await was_ended(connection, failed) == Ended(FAILURE, kept=False)
    for other in (running, replace(done, attempt=2), replace(done, worker="x"), replace(done, task_id="x")):
        assert await was_ended(connection, other) is None
    await delete_adapted_model(connection, DEFAULT_TENANT, done.adapted_model)
    assert await was_ended(connection, done) is None


@pytest.mark.parametrize("other", [{"attempt": 2}, {"worker": "x"}, {"task_id": "x"}])
async def test_who_does_not_hold_a_task_changes_nothing(
    connection: AsyncConnection, checkpoint: str, other: dict[str, Any]
):
    claim = await held(connection, checkpoint)
    stranger, before = replace(claim, **other), await row(connection, claim)
    assert await complete(connection, stranger, RESULT) is False
    assert await fail(connection, stranger, FAILURE) is False
    assert await heartbeat(connection, [stranger], 600) == set()
    await release(connection, [stranger])
    assert await row(connection, claim) == before


async def test_what_is_given_back_is_as_it_was_and_what_ended_stays(connection: AsyncConnection, checkpoint: str):
    back, kept, done = [await held(connection, checkpoint) for _ in range(3)]
    await complete(connection, done, RESULT)
    before = await row(connection, kept)
    await release(connection, [back, done])
    after = await row(connection, back)
    assert (after.status, after.attempt, after.lease_until) == ("queued", 0, None)
    assert (await row(connection, done)).status == "succeeded"
    assert await row(connection, kept) == before


async def test_the_reaper_takes_those_alone_whose_last_lease_ended(connection: AsyncConnection, checkpoint: str):
    ended, replay = [await held(connection, checkpoint, query=b"asked") for _ in range(2)]
    early, alive, queued = [await held(connection, checkpoint) for _ in range(3)]
    for claim in (ended, replay, queued):
        await write(connection, claim, attempt=3, lease_until=LONG_AGO)
    await write(connection, replay, background=True)
    await write(connection, early, lease_until=LONG_AGO)
    await write(connection, alive, attempt=3)
    await write(connection, queued, status="queued")
    found = {one.task_id: one for one in await reap(connection)}
    poisoned, background = found[ended.task_id], found[replay.task_id]
    assert found.keys().isdisjoint({early.task_id, alive.task_id, queued.task_id})
    assert (poisoned.adapted_model, poisoned.checkpoint) == (ended.adapted_model, checkpoint)
    assert (poisoned.attempts, poisoned.background, background.background) == (3, False, True)
    after = await row(connection, ended)
    assert (after.status, after.failure["code"], after.fingerprint) == ("failed", "poison", None)
    assert (after.payload, after.query) == (None, None) and after.finished_at is not None
    assert all([(await row(connection, one)).fingerprint for one in (replay, early, alive, queued)])


async def test_of_two_reapers_one_reaps(database: AsyncEngine, checkpoint: str):
    async with database.begin() as connection:
        claim = await held(connection, checkpoint)
        await write(connection, claim, attempt=3, lease_until=LONG_AGO)
    async with database.begin() as first, database.begin() as second:
        assert claim.task_id in [one.task_id for one in await reap(first)]
        assert await reap(second) == []
