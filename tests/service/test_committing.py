"""Orders gathered: what comes while a group is written is the next group, and each order hears how its own went."""

import asyncio
from typing import Any

import pytest
from sqlalchemy import event, text
from sqlalchemy.ext.asyncio import AsyncEngine

from kshot.contracts.errors import Unavailable
from kshot.contracts.ids import new_id
from kshot.storage.adapted_models import NewAdaptedModel
from kshot.storage.database import open_database
from kshot.storage.orders import NewOrder, Room
from kshot.storage.tasks import NewTask
from service.committing import Committer
from service.database import Database
from tests.kshot.storage import conftest as stored
from tests.kshot.storage.conftest import a_model, another_tenant, its_task

servers, migrated, database, checkpoint = stored.servers, stored.migrated, stored.database, stored.checkpoint


def a_committer(engine: AsyncEngine, room: Room | None = None) -> Committer:
    return Committer(Database(engine), room or Room(10**6, 10**6))


def an_order(model: NewAdaptedModel, payload: bytes = b"support") -> NewOrder:
    task = its_task(model)
    return NewOrder(model, NewTask(**{**vars(task), "payload": payload}), None)


def leases(engine: AsyncEngine) -> list[Any]:
    """Grows by one for each time a connection is taken from the pool."""
    taken: list[Any] = []
    event.listen(engine.sync_engine, "checkout", lambda *_: taken.append(1))
    return taken


async def count_models(engine: AsyncEngine, orders: list[NewOrder]) -> int:
    statement = text("SELECT count(*) FROM tasks WHERE adapted_model_id = ANY(:ids) AND status = 'queued'")
    async with engine.connect() as connection:
        return int(await connection.scalar(statement, {"ids": [order.model.id for order in orders]}) or 0)


async def test_orders_of_several_tenants_share_a_statement(database: AsyncEngine, checkpoint: str) -> None:
    async with database.begin() as connection:
        tenants = [await another_tenant(connection) for _ in range(3)]
    committer, taken = a_committer(database), leases(database)
    orders = [an_order(a_model(checkpoint, tenant=tenants[i % 3])) for i in range(30)]
    made = await asyncio.gather(*(committer.record(order) for order in orders))
    assert [model.id if model else None for model in made] == [order.model.id for order in orders]
    assert [model.tenant for model in made if model] == [order.model.tenant for order in orders]
    assert len(taken) == 1
    assert await count_models(database, orders) == 30


async def test_twins_and_those_without_room_are_left_to_themselves(database: AsyncEngine, checkpoint: str) -> None:
    async with database.begin() as connection:
        tenant = await another_tenant(connection)
    fingerprint = new_id("evt")
    twins = [an_order(a_model(checkpoint, tenant=tenant, fingerprint=fingerprint)) for _ in range(2)]
    committer = a_committer(database, Room(10**6, 3))
    made = await asyncio.gather(*(committer.record(order) for order in twins))
    assert [model is None for model in made] in ([False, True], [True, False])
    others = [an_order(a_model(checkpoint, tenant=tenant)) for _ in range(4)]
    made = await asyncio.gather(*(committer.record(order) for order in others))
    assert sum(model is not None for model in made) == 2
    assert await count_models(database, [*twins, *others]) == 3


async def test_one_bad_order_does_not_fail_its_neighbours(database: AsyncEngine, checkpoint: str) -> None:
    """None is written by the group: each is told to try alone, and those that are good come through."""
    committer = a_committer(database)
    bad, good = (an_order(a_model(checkpoint, parent=parent)) for parent in (new_id("am"), None))
    assert await asyncio.gather(*(committer.record(order) for order in (bad, good))) == [None, None]
    assert await count_models(database, [bad, good]) == 0
    assert await committer.record(good) is not None


async def test_a_cancelled_request_takes_its_order_back_or_leaves_it_whole(
    database: AsyncEngine, checkpoint: str
) -> None:
    committer, taken = a_committer(database), leases(database)
    orders = [an_order(a_model(checkpoint)) for _ in range(4)]
    requests = [asyncio.create_task(committer.record(orders[0]))]
    while not taken:
        await asyncio.sleep(0)
    requests += [asyncio.create_task(committer.record(order)) for order in orders[1:]]  # these wait for the first
    await asyncio.sleep(0)
    for request in requests[:2]:
        request.cancel()
    done = await asyncio.gather(*requests, return_exceptions=True)
    assert [isinstance(one, asyncio.CancelledError) for one in done] == [True, True, False, False]
    assert [await count_models(database, [order]) for order in orders] == [1, 0, 1, 1]


async def test_what_comes_while_a_group_is_written_is_the_next_one(database: AsyncEngine, checkpoint: str) -> None:
    committer, taken = a_committer(database), leases(database)
    first = asyncio.create_task(committer.record(an_order(a_model(checkpoint))))
    while not taken:
        await asyncio.sleep(0)
    assert all(await asyncio.gather(*(committer.record(an_order(a_model(checkpoint))) for _ in range(20))))
    assert first.done() and len(taken) == 2


async def test_large_orders_go_beside_the_groups(database: AsyncEngine, checkpoint: str) -> None:
    committer, taken = a_committer(database), leases(database)
    orders = [an_order(a_model(checkpoint), bytes(2_000_000)) for _ in range(3)]
    made = await asyncio.gather(*(committer.record(order) for order in orders))
    assert all(made) and len(taken) == 3


async def test_groups_are_bounded_by_bytes(database: AsyncEngine, checkpoint: str) -> None:
    committer, taken = a_committer(database), leases(database)
    orders = [an_order(a_model(checkpoint), bytes(900_000)) for _ in range(20)]
    assert all(await asyncio.gather(*(committer.record(order) for order in orders)))
    assert len(taken) == 3  # 9 + 9 + 2 of 0.9 MB each


async def test_a_database_that_is_away_is_told_to_all_who_wait(checkpoint: str) -> None:
    nowhere = open_database("postgresql://kshot@127.0.0.1:9/kshot")
    committer = a_committer(nowhere)
    done = await asyncio.gather(
        *(committer.record(an_order(a_model(checkpoint))) for _ in range(5)), return_exceptions=True
    )
    assert all(isinstance(one, Unavailable) for one in done)
    await nowhere.dispose()


@pytest.mark.parametrize("n", [1, 300])
async def test_none_waits_for_ever(database: AsyncEngine, checkpoint: str, n: int) -> None:
    committer = a_committer(database)
    orders = [an_order(a_model(checkpoint)) for _ in range(n)]
    async with asyncio.timeout(120):
        assert all(await asyncio.gather(*(committer.record(order) for order in orders)))
        assert all(await asyncio.gather(*(committer.record(an_order(a_model(checkpoint))) for _ in range(n))))
