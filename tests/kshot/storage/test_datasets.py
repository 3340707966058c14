"""Data sets in the database: names are unique among those that are there, and nothing in use goes."""

import asyncio
from typing import Any

import pytest
from sqlalchemy import insert, update
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from kshot.contracts.datasets import DatasetManifest
from kshot.contracts.errors import Conflict, NotFound
from kshot.contracts.ids import new_id
from kshot.contracts.jobs import OPEN_STATUSES
from kshot.storage.datasets import (
    check_name_is_free,
    delete_dataset,
    forget_object,
    get_dataset,
    insert_dataset,
    list_datasets,
    objects_left,
    users_of,
)
from kshot.storage.tables import DEFAULT_TENANT
from kshot.storage.training_tables import promotions, training_jobs


def a_name() -> str:
    return new_id("ds").lower().replace("_", "-")


async def a_dataset(connection: AsyncConnection, name: str | None = None) -> str:
    manifest = DatasetManifest(
        id=new_id("ds"), name=name or a_name(), format="text_csv", modality="text", file="data.csv",
        splits={"train": ("a", "b"), "valid": (), "test": ()}, sizes={"train": (3, 4), "valid": (), "test": ()},
    )  # fmt: skip
    row = await insert_dataset(
        connection, tenant=DEFAULT_TENANT, manifest=manifest, object_key=f"datasets/{manifest.id}.csv", n_bytes=9
    )
    assert row.manifest == manifest and row.bytes == 9
    return row.id


async def a_job(connection: AsyncConnection, dataset: str, status: str = "queued") -> str:
    values: dict[str, Any] = {"id": new_id("job"), "tenant_id": DEFAULT_TENANT, "name": "made", "dataset_id": dataset}
    await connection.execute(insert(training_jobs).values(**values, request={}, spec={}, status=status))
    return str(values["id"])


async def test_found_by_id_and_by_name_and_listed_without_class_names(database: AsyncEngine) -> None:
    async with database.begin() as connection:
        dataset = await a_dataset(connection)
        row = await get_dataset(connection, dataset)
        assert await get_dataset(connection, row.name) == row
        listed = await list_datasets(connection, limit=1, after=None)
        assert [found.id for found in listed] == [dataset]
        assert listed[0].manifest.splits == listed[0].manifest.sizes == {} and listed[0].manifest.file == "data.csv"
        assert dataset not in [found.id for found in await list_datasets(connection, limit=100, after=dataset)]
        for missing in (new_id("ds"), a_name(), "../etc", "a\0b", "", "X" * 200):
            with pytest.raises(NotFound):
                await get_dataset(connection, missing)


async def test_a_name_is_free_again_once_its_data_set_is_deleted(database: AsyncEngine) -> None:
    name = a_name()
    async with database.begin() as connection:
        await check_name_is_free(connection, name)
        first = await a_dataset(connection, name)
        for ask in (check_name_is_free(connection, name), a_dataset(connection, name)):
            with pytest.raises(Conflict) as refused:
                await ask
            assert refused.value.param == "name"
        key = await delete_dataset(connection, first)
        assert key == f"datasets/{first}.csv"
        second = await a_dataset(connection, name)
        assert (await get_dataset(connection, name)).id == second
        for gone in (get_dataset(connection, first), delete_dataset(connection, first)):
            with pytest.raises(NotFound):
                await gone
        assert (await objects_left(connection, limit=100))[first] == key
        for dataset in (first, second):
            await forget_object(connection, dataset)
        assert first not in await objects_left(connection, limit=100)
        assert (await get_dataset(connection, second)).object_key is not None, "it is not deleted"


@pytest.mark.parametrize("status", OPEN_STATUSES)
async def test_a_data_set_of_an_open_job_is_not_deleted(database: AsyncEngine, status: str) -> None:
    async with database.begin() as connection:
        dataset = await a_dataset(connection)
        job = await a_job(connection, dataset, status)
        with pytest.raises(Conflict, match=job):
            await delete_dataset(connection, dataset)
        await connection.execute(update(training_jobs).where(training_jobs.c.id == job).values(status="failed"))
        assert await delete_dataset(connection, dataset) is not None


async def test_five_users_are_named_and_the_others_counted(database: AsyncEngine) -> None:
    async with database.begin() as connection:
        dataset = await a_dataset(connection)
        jobs = [await a_job(connection, dataset) for _ in range(7)]
        assert await users_of(connection, dataset) == sorted(jobs)
        with pytest.raises(Conflict) as refused:
            await delete_dataset(connection, dataset)
    assert sum(job in refused.value.message for job in jobs) == 5 and "2 more" in refused.value.message


async def test_a_data_set_of_an_open_promotion_is_not_deleted(database: AsyncEngine, checkpoint: str) -> None:
    async with database.begin() as connection:
        dataset, promotion = await a_dataset(connection), new_id("pro")
        await connection.execute(
            insert(promotions).values(
                id=promotion, tenant_id=DEFAULT_TENANT, name="plain", alias="production", challenger_id=checkpoint,
                incumbent_id=checkpoint, alias_version=1, dataset_id=dataset,
            )
        )  # fmt: skip
        with pytest.raises(Conflict, match=promotion):
            await delete_dataset(connection, dataset)
        await connection.execute(update(promotions).where(promotions.c.id == promotion).values(status="refused"))
        await delete_dataset(connection, dataset)


async def test_a_deletion_waits_for_whoever_holds_the_data_set_and_sees_its_job(database: AsyncEngine) -> None:
    async with database.begin() as connection:
        dataset = await a_dataset(connection)

    async def delete() -> str | None:
        async with database.begin() as connection:
            return await delete_dataset(connection, dataset)

    async with database.begin() as connection:
        await get_dataset(connection, dataset, hold=True)
        deleting = asyncio.create_task(delete())
        await asyncio.sleep(0.2)
        assert not deleting.done()
        job = await a_job(connection, dataset)
    with pytest.raises(Conflict, match=job):
        await deleting
