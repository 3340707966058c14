"""Orders in one statement: each whole or not at all, and what stands against one leaves the others alone."""

import asyncio
from dataclasses import replace
from typing import Any

import asyncpg
import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from kshot.contracts.ids import new_id
from kshot.storage.adapted_models import AdaptedModel, NewAdaptedModel, get_adapted_model
from kshot.storage.admission import count_open
from kshot.storage.expiry import delete_adapted_model, erase_states
from kshot.storage.orders import NewOrder, Room, insert_orders
from kshot.storage.tables import DEFAULT_TENANT
from tests.kshot.storage.conftest import a_model, another_tenant, its_task

ROOM = Room(10**6, 10**6)


def an_order(model: NewAdaptedModel) -> NewOrder:
    return NewOrder(model, its_task(model), None)


async def record(database: AsyncEngine, *models: NewAdaptedModel, room: Room = ROOM) -> dict[str, AdaptedModel]:
    autocommit = database.execution_options(isolation_level="AUTOCOMMIT")
    async with autocommit.connect() as connection:
        return await insert_orders(connection, [an_order(model) for model in models], room)


async def rows(database: AsyncEngine, statement: str, **values: Any) -> list[tuple[Any, ...]]:
    async with database.connect() as connection:
        return [tuple(row) for row in await connection.execute(text(statement), values)]


async def test_what_is_recorded_is_what_reading_finds(database: AsyncEngine, checkpoint: str):
    named = a_model(checkpoint, metadata={"bb": 1, "a": [1e25, "x"]}, options={"l2": 2.0}, follow=True, alias="here")
    lasting = a_model(checkpoint, ttl_s=None, task="regression", classes=(), k_shot=(), parent=named.id)
    made = await record(database, named, lasting)
    async with database.connect() as connection:
        for model in (named, lasting):
            read = await get_adapted_model(connection, DEFAULT_TENANT, model.id)
            assert made[model.id] == read and list(made[model.id].metadata) == list(read.metadata)
    told = "SELECT action, object_id FROM audit_log WHERE object_id = :id"
    assert await rows(database, told, id=named.id) == [("adapted_model.create", named.id)]


async def test_each_has_its_own_support_and_query(database: AsyncEngine, checkpoint: str):
    models = [a_model(checkpoint, fingerprint=new_id("evt")) for _ in range(20)]
    asked = [f"query {i}".encode() if i % 2 else None for i in range(20)]
    tasks = [
        replace(its_task(model), payload=f"support {i}".encode(), query=asked[i]) for i, model in enumerate(models)
    ]
    orders = [NewOrder(model, task, None) for model, task in zip(models, tasks, strict=True)]
    async with database.execution_options(isolation_level="AUTOCOMMIT").connect() as connection:
        assert len(await insert_orders(connection, orders, ROOM)) == 20
    for i, model in enumerate(models):
        found = await rows(database, "SELECT payload, query FROM tasks WHERE id = :id", id=model.task_id)
        assert found == [(f"support {i}".encode(), asked[i])]


async def test_twins_in_a_group_and_before_it_are_left_out(database: AsyncEngine, checkpoint: str):
    fingerprint, other = new_id("evt"), new_id("evt")
    first, twin, free = (a_model(checkpoint, fingerprint=one) for one in (fingerprint, fingerprint, other))
    made = await record(database, first, twin, free)
    assert len(made) == 2 and free.id in made
    late = a_model(checkpoint, fingerprint=fingerprint)
    assert await record(database, late) == {}
    assert await rows(database, "SELECT 1 FROM tasks WHERE adapted_model_id = :id", id=late.id) == []
    assert await rows(database, "SELECT 1 FROM audit_log WHERE object_id = :id", id=late.id) == []


async def test_groups_that_race_for_the_same_fingerprints_all_end(database: AsyncEngine, checkpoint: str):
    """In whatever order each has them: they would wait for each other for ever."""
    prints = [new_id("evt") for _ in range(12)]
    groups = [[a_model(checkpoint, fingerprint=one) for one in prints[k:] + prints[:k]] for k in range(12)]
    made = await asyncio.gather(*(record(database, *group) for group in groups))
    assert sum(len(one) for one in made) == len(prints)


async def test_a_group_takes_no_more_than_there_is_room_for(database: AsyncEngine, checkpoint: str):
    async with database.begin() as connection:
        mine, theirs = await another_tenant(connection), await another_tenant(connection)
    models = [a_model(checkpoint, tenant=tenant) for tenant in (mine, theirs) for _ in range(5)]
    made = await record(database, *models, room=Room(10**6, 3))
    assert sorted(model.tenant for model in made.values()) == sorted([mine, theirs] * 3)
    assert await record(database, a_model(checkpoint, tenant=mine), room=Room(10**6, 3)) == {}
    async with database.connect() as connection:
        everyone, own = await count_open(connection, mine)
    assert own == 3
    assert len(await record(database, *(a_model(checkpoint) for _ in range(4)), room=Room(everyone + 2, 10**6))) == 2


async def test_a_deleted_checkpoint_takes_only_its_own_orders(database: AsyncEngine, checkpoint: str):
    gone = new_id("ckpt")
    async with database.begin() as connection:
        await connection.execute(
            text(
                "INSERT INTO checkpoints (id, name, content_sha256, manifest, object_key, bytes, deleted_at) "
                "SELECT :gone, name, :gone, manifest, object_key, bytes, now() FROM checkpoints WHERE id = :id"
            ),
            {"gone": gone, "id": checkpoint},
        )
    kept, refused = a_model(checkpoint), a_model(gone)
    open_choice = replace(a_model(checkpoint), checkpoint=None, checkpoint_name=None, learner=None)
    assert set(await record(database, kept, refused, open_choice)) == {kept.id, open_choice.id}


async def test_an_error_records_none(database: AsyncEngine, checkpoint: str):
    good, bad = a_model(checkpoint), a_model(checkpoint, parent=new_id("am"))
    with pytest.raises(asyncpg.ForeignKeyViolationError):
        await record(database, good, bad)
    assert await rows(database, "SELECT 1 FROM adapted_models WHERE id = :id", id=good.id) == []


@pytest.mark.parametrize("how", ["deleted", "expired"])
async def test_support_and_query_of_an_order_nobody_took_are_erased(database: AsyncEngine, checkpoint: str, how: str):
    model = a_model(checkpoint, ttl_s=3600.0 if how == "deleted" else -3600.0)
    async with database.execution_options(isolation_level="AUTOCOMMIT").connect() as connection:
        order = NewOrder(model, replace(its_task(model), query=b"query"), None)
        assert await insert_orders(connection, [order], ROOM)
    async with database.begin() as connection:
        if how == "deleted":
            await delete_adapted_model(connection, DEFAULT_TENANT, model.id)
        else:
            await erase_states(connection, 1000)
    read = "SELECT payload, query, status FROM tasks WHERE id = :id"
    assert await rows(database, read, id=model.task_id) == [(None, None, "cancelled")]
