"""A promotion is compared by one trainer at a time and decided once, with the alias it was about."""

import asyncio

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from kshot.contracts.errors import Conflict
from kshot.contracts.tasks import Failure
from kshot.storage import promotions
from kshot.storage.aliases import alias_history, get_alias
from kshot.storage.checkpoints import PRODUCTION
from kshot.storage.promotions import Promotion, get_promotion
from tests.kshot.storage.registry import a_name, asked, comparison, execute, moved, registered, version_of


@pytest.fixture(autouse=True)
async def nothing_open(database: AsyncEngine) -> None:
    """Promotions are claimed from all there are, oldest first."""
    await execute(database, "UPDATE promotions SET status = 'failed' WHERE status IN ('queued', 'running')")


async def two(database: AsyncEngine) -> tuple[str, str, Promotion]:
    """A name, its incumbent, and a promotion of another checkpoint."""
    name = a_name()
    incumbent, challenger = await registered(database, name), await registered(database, name)
    version = (await moved(database, name, incumbent)).version
    return name, incumbent, await asked(database, name, challenger, incumbent, version)


async def claimed(database: AsyncEngine, worker: str = "wrk_1", lease_s: float = 60) -> Promotion | None:
    async with database.begin() as connection:
        return await promotions.claim_promotion(connection, worker, lease_s)


async def a_claim(database: AsyncEngine, **options: object) -> Promotion:
    claim = await claimed(database, **options)  # type: ignore[arg-type]
    assert claim is not None
    return claim


async def decided(database: AsyncEngine, claim: Promotion, verdict: object) -> str | None:
    async with database.begin() as connection:
        return await promotions.decide_promotion(connection, claim, comparison(claim, verdict))  # type: ignore[arg-type]


async def stored(database: AsyncEngine, id: str) -> Promotion:
    async with database.connect() as connection:
        return await get_promotion(connection, id)


async def test_eight_claimers_one_claim(database: AsyncEngine):
    _, _, promotion = await two(database)
    found = await asyncio.gather(*(claimed(database, f"wrk_{i}") for i in range(8)))
    (claim,) = [one for one in found if one is not None]
    assert (claim.id, claim.attempt, claim.status) == (promotion.id, 1, "running")


@pytest.mark.parametrize("verdict", ["better", "no_worse"])
async def test_a_challenger_that_is_no_worse_moves_the_alias_and_says_by_which_comparison(
    database: AsyncEngine, verdict: str
):
    name, _, promotion = await two(database)
    assert await decided(database, await a_claim(database), verdict) == "promoted"
    async with database.connect() as connection:
        alias = await get_alias(connection, name, PRODUCTION)
        change = (await alias_history(connection, name, PRODUCTION))[0]
        audit = await connection.scalar(
            text("SELECT request_id FROM audit_log WHERE action = 'alias.promote' AND object_id = :id"),
            {"id": f"{name}@production"},
        )
    assert alias is not None and alias.checkpoint == promotion.challenger
    assert (change.reason, change.promotion, audit) == ("promote", promotion.id, "req_1")
    after = await stored(database, promotion.id)
    assert after.status == "promoted" and after.comparison == comparison(promotion, verdict)  # type: ignore[arg-type]
    assert after.finished_at is not None


async def test_a_worse_challenger_is_refused_with_its_comparison(database: AsyncEngine):
    name, incumbent, promotion = await two(database)
    assert await decided(database, await a_claim(database), "worse") == "refused"
    after = await stored(database, promotion.id)
    assert after.status == "refused" and after.comparison is not None and after.comparison.verdict == "worse"
    async with database.connect() as connection:
        alias = await get_alias(connection, name, PRODUCTION)
    assert alias is not None and (alias.checkpoint, alias.version) == (incumbent, 1)
    assert await claimed(database) is None


async def test_an_alias_that_moved_meanwhile_stays_where_it_is(database: AsyncEngine):
    name, _, promotion = await two(database)
    claim = await a_claim(database)
    other = await registered(database, name)
    await moved(database, name, other, "force")
    assert await decided(database, claim, "better") == "failed"
    after = await stored(database, promotion.id)
    assert after.failure is not None and after.failure.code == "conflict" and "moved" in after.failure.message
    assert await version_of(database, name) == 2


async def test_a_trainer_that_lost_its_lease_decides_nothing(database: AsyncEngine):
    name, _, promotion = await two(database)
    zombie = await a_claim(database, worker="wrk_zombie", lease_s=-1)
    heir = await a_claim(database, worker="wrk_heir")
    assert (heir.id, heir.attempt) == (promotion.id, 2)
    assert await decided(database, zombie, "better") is None
    async with database.begin() as connection:
        assert not await promotions.renew_promotion(connection, zombie, 60)
        assert not await promotions.fail_promotion(connection, zombie, Failure(code="internal", message="x"))
        assert await promotions.renew_promotion(connection, heir, 60)
    assert (await stored(database, promotion.id)).status == "running" and await version_of(database, name) == 1
    assert await decided(database, heir, "worse") == "refused"
    assert await decided(database, heir, "better") is None


async def test_three_deaths_are_enough_and_giving_back_is_none(database: AsyncEngine):
    _, _, promotion = await two(database)
    given = await a_claim(database)
    async with database.begin() as connection:
        await promotions.release_promotion(connection, given)
    for attempt in (1, 2, 3):
        claim = await a_claim(database)
        assert claim.attempt == attempt
        async with database.begin() as connection:
            await promotions.retry_promotion(connection, claim)
    assert await claimed(database) is None
    async with database.begin() as connection:
        assert await promotions.fail_spent_promotions(connection) == [promotion.id]
    after = await stored(database, promotion.id)
    assert after.status == "failed" and after.failure is not None and after.failure.code == "poison"


async def test_one_open_promotion_for_each_alias(database: AsyncEngine):
    name, incumbent, promotion = await two(database)
    challengers = [await registered(database, name) for _ in range(3)]
    tries = await asyncio.gather(
        *(asked(database, name, challenger, incumbent, 1) for challenger in challengers), return_exceptions=True
    )
    assert all(isinstance(one, Conflict) for one in tries)
    await decided(database, await a_claim(database), "worse")
    assert (await asked(database, name, promotion.challenger, incumbent, 1)).status == "queued"
