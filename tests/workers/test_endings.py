"""Claims of a batch end together, in one statement, and each as if it were alone."""

from dataclasses import replace

import pytest
from redis.asyncio import Redis

from kshot.contracts.errors import AdaptationFailed
from kshot.contracts.tasks import Reply
from kshot.storage.tasks import Claim
from tests.workers.place import Place
from workers.decoding import adapt_work
from workers.executing import solve
from workers.work import Failed, Outcome

REPLIES = "kshot:reply:endings"
FORGET = "UPDATE tasks SET status = 'queued', attempt = 0, worker = NULL WHERE id = :id"


async def ten(place: Place) -> list[Claim]:
    await place.execute("UPDATE tasks SET reply_to = NULL")
    accepted = [await place.accepted() for _ in range(10)]
    await place.execute("UPDATE tasks SET reply_to = :to WHERE id = ANY(:ids)", to=REPLIES, ids=accepted)
    return [await place.claim(task) for task in accepted]


def together(place: Place, claims: list[Claim]) -> list[Outcome]:
    return solve(place.checkpoint, [adapt_work(claim) for claim in claims])


async def replied(place: Place, url: str) -> dict[str, Reply]:
    redis = Redis.from_url(url)
    replies = [Reply.model_validate_json(fields[b"reply"]) for _, fields in await redis.xrange(REPLIES)]
    await redis.delete(REPLIES)
    await redis.aclose()
    return {reply.id: reply for reply in replies}


@pytest.mark.usefixtures("either_way")
async def test_one_lease_lost_among_ten_costs_the_others_nothing(place: Place, servers):
    claims = await ten(place)
    outcomes = together(place, claims)
    other = await place.taken_by_another(claims[3])
    assert await place.settler.settle(outcomes)
    kept = [claim for claim in claims if claim is not claims[3]]
    assert [(await place.model(claim)).status for claim in kept] == ["succeeded"] * 9
    assert [await place.results(claim) for claim in kept] == [1] * 9
    assert ((await place.model(other)).status, await place.results(other), await place.states(other)) == (
        "running",
        0,
        0,
    )
    assert set(await replied(place, servers.redis_url)) == {claim.task_id for claim in kept}
    assert len(place.leases) == 0 and place.leases.bytes == 0


@pytest.mark.usefixtures("either_way")
async def test_one_that_the_database_refuses_among_ten_fails_alone(place: Place, servers):
    claims = await ten(place)
    outcomes = together(place, claims)
    outcomes[5] = replace(outcomes[5], predictions=[{"label": "a \x00 that JSONB cannot hold"}])
    assert await place.settler.settle(outcomes)
    replies = await replied(place, servers.redis_url)
    for claim in claims:
        model, good = await place.model(claim), claim is not claims[5]
        assert (model.status, await place.results(claim)) == (("succeeded", 1) if good else ("failed", 0))
        assert (replies[claim.task_id].failure is None) == good
    assert await place.states(claims[5]) == 0


async def test_failures_and_successes_of_a_batch_end_side_by_side(place: Place, servers):
    claims = await ten(place)
    outcomes = together(place, claims)
    outcomes[0] = Failed(claims[0], AdaptationFailed("diverged", param="support"))
    outcomes[1] = Failed(claims[1], ConnectionRefusedError())
    assert not await place.settler.settle(outcomes)
    statuses = [(await place.model(claim)).status for claim in claims]
    assert statuses == ["failed", "queued", *["succeeded"] * 8]
    replies = await replied(place, servers.redis_url)
    assert {claims[0].task_id, *(claim.task_id for claim in claims[2:])} == set(replies)
    assert replies[claims[0].task_id].failure.code == "adaptation_failed"


@pytest.mark.usefixtures("either_way")
async def test_a_batch_whose_commit_went_through_unheard_counts_once_and_is_answered(place: Place, servers):
    claims = await ten(place)
    outcomes = together(place, claims)
    endings = await place.settler._endings(outcomes)
    assert all(done.counts for done in await place.settler._commit(endings))  # and the answer to it was lost
    await place.settler._end(endings)
    assert len(place.leases) == 0
    assert [await place.results(claim) for claim in claims] == [1] * 10
    assert [await place.states(claim) for claim in claims] == [1] * 10
    assert len(await replied(place, servers.redis_url)) == 10


@pytest.mark.usefixtures("stored")
async def test_a_claim_that_postgres_forgot_in_a_crash_touches_no_state_of_the_next(place: Place):
    claim = await place.claimed()
    outcomes = place.solved(claim)
    await place.execute(
        "UPDATE tasks SET status = 'queued', attempt = 0, worker = NULL WHERE id = :id", id=claim.task_id
    )
    heir = replace(await place.claim(claim.task_id), worker="wrk_heir")
    await place.execute("UPDATE tasks SET worker = 'wrk_heir' WHERE id = :id", id=claim.task_id)
    assert (heir.attempt, heir.task_id) == (claim.attempt, claim.task_id)
    await place.settler.settle(place.solved(heir))
    await place.settler.settle(outcomes)  # it knows nothing of the crash
    model = await place.model(claim)
    assert place.objects.get(model.object_key) and await place.results(claim) == 1


@pytest.mark.usefixtures("either_way")
async def test_a_success_stays_where_the_database_then_refuses_to_write_it_again(place: Place):
    claim = await place.claimed()
    (ending,) = await place.settler._endings(place.solved(claim))
    assert await place.settler._end([ending])
    spoiled = replace(ending.result, object_sha256="a \x00 that no text can hold")
    assert not await place.settler._end([replace(ending, result=spoiled)])
    assert ((await place.model(claim)).status, await place.states(claim)) == ("succeeded", 1)


async def test_a_forgotten_claim_ends_nothing(place: Place):
    claim = await place.claimed()
    await place.execute(
        "UPDATE tasks SET status = 'queued', attempt = 0, worker = NULL WHERE id = :id", id=claim.task_id
    )
    assert await place.settler.settle(place.solved(claim))
    assert ((await place.model(claim)).status, await place.results(claim)) == ("queued", 0)
