"""A support that grew by a few rows is stored as these alone, and outlives the one it grew from."""

from dataclasses import replace

import numpy as np
import pytest

from kshot.contracts.errors import Conflict
from kshot.contracts.growing import grown, joined
from kshot.contracts.ids import new_id
from kshot.contracts.tasks import Payload, SupportSet
from kshot.storage.expiry import delete_adapted_model
from kshot.storage.orders import NewOrder, Room, insert_orders
from kshot.storage.supports import get_support
from kshot.storage.tasks import Claim, Grown, NewTask, insert_task
from tests.kshot.storage.conftest import a_model
from tests.workers.place import Place
from tests.workers.samples import blobs
from workers.decoding import claimed_work
from workers.models import Models

ROOM = Room(1000, 1000)


def one_more(seed: int, before: SupportSet) -> SupportSet:
    added = blobs(seed)
    return SupportSet(added.task, added.inputs[:1], added.targets[:1], before.classes)


async def grow(place: Place, parent: Claim, before: SupportSet, seed: int) -> tuple[Claim, SupportSet]:
    """A child of ``parent`` with a row more, claimed; and all its rows."""
    added = one_more(seed, before)
    payload = Payload(added, after=len(before)).encode()
    task_id = await place.accepted(payload=Payload(added, after=len(before)), grown=Grown(parent.task_id, 400))
    claim = await place.claim(task_id)
    assert (claim.base, claim.bytes) == (parent.task_id, len(payload) + 400)
    return claim, grown(before, added)


async def parent_of(place: Place) -> Claim:
    claim = await place.claim(await place.accepted())
    await place.settler.settle(place.solved(claim))
    return claim


async def stored(place: Place, claim: Claim) -> SupportSet:
    async with place.stack.database.connect() as connection:
        support = joined((await get_support(connection, claim.tenant, claim.adapted_model)).parts).support
    assert support is not None
    return support


async def delete(place: Place, claim: Claim) -> None:
    async with place.stack.database.begin() as connection:
        await delete_adapted_model(connection, claim.tenant, claim.adapted_model)


def models_of(place: Place) -> Models:
    return Models(place.stack.database, place.objects, place.stack.device)


async def worked(claim: Claim, models: Models) -> SupportSet:
    support = (await claimed_work(claim, models)).payload.support
    assert support is not None
    return support


def assert_same(found: SupportSet, meant: SupportSet) -> None:
    assert found.classes == meant.classes
    np.testing.assert_equal((found.inputs, found.targets), (meant.inputs, meant.targets))


async def test_a_worker_computes_with_all_rows(place: Place):
    parent = await parent_of(place)
    child, rows = await grow(place, parent, blobs(0), 1)
    grandchild, more_rows = await grow(place, child, rows, 2)
    for models in (models_of(place), models_of(place)):  # with the child's rows in memory, and without
        assert_same(await worked(grandchild, models), more_rows)
        assert_same(await worked(child, models), rows)
    assert_same(await worked(grandchild, models), more_rows)
    assert_same(await stored(place, grandchild), more_rows)


async def test_whoever_builds_on_a_deleted_model_keeps_all_rows(place: Place):
    parent = await parent_of(place)
    family = [await grow(place, parent, blobs(0), seed) for seed in (1, 2, 3)]
    family.append(await grow(place, family[1][0], family[1][1], 4))
    await delete(place, parent)
    for claim, rows in family:
        assert_same(await stored(place, claim), rows)
        assert_same(await worked(claim, models_of(place)), rows)  # claimed before, when the parent had its rows
    lying = [(await place.row(claim.task_id)).payload for claim, _ in family]
    assert (await place.row(parent.task_id)).payload is None
    assert [Payload.decode(payload).after for payload in lying] == [0, 4, 4, 5]
    await delete(place, family[0][0])
    for claim, rows in family[1:]:
        assert_same(await stored(place, claim), rows)


async def test_nothing_grows_from_what_was_erased(place: Place):
    parent, other = await parent_of(place), await parent_of(place)
    task = NewTask(
        "task_late", parent.tenant, other.adapted_model, None, None, b"", None, None, grown=Grown(parent.task_id, 1)
    )
    await delete(place, parent)
    async with place.stack.database.begin() as connection:
        with pytest.raises(Conflict):
            await insert_task(connection, task)
    model = a_model(place.checkpoint_id, fingerprint=new_id("task"))
    async with place.stack.database.connect() as connection:
        orders = [NewOrder(model, replace(task, id=model.task_id, adapted_model=model.id), None)]
        assert await insert_orders(connection, orders, ROOM) == {}
        alive = replace(orders[0], task=replace(orders[0].task, grown=Grown(other.task_id, 1)))
        assert set(await insert_orders(connection, [alive], ROOM)) == {model.id}
        stranger = replace(
            alive, model=replace(model, tenant="ten_other"), task=replace(alive.task, tenant="ten_other")
        )
        assert await insert_orders(connection, [stranger], ROOM) == {}
