"""Checkpoints, aliases and promotions in a database, each test with names of its own."""

from typing import Any

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from kshot.contracts.checkpoints import Estimate
from kshot.contracts.datasets import DatasetManifest
from kshot.contracts.ids import new_id
from kshot.contracts.registry import ComparedShape, Comparison, Verdict
from kshot.storage.aliases import Alias, Reason, get_alias, move_alias
from kshot.storage.checkpoints import PRODUCTION, register
from kshot.storage.datasets import insert_dataset
from kshot.storage.promotions import NewPromotion, Promotion, insert_promotion
from kshot.storage.tables import DEFAULT_TENANT
from tests.kshot.storage.conftest import a_manifest


def a_name() -> str:
    return new_id("ckpt").lower().replace("_", "-")


async def register_one(connection: AsyncConnection, name: str, *, job: str | None = "job_1") -> str:
    """A fresh checkpoint of that name, made by a job unless told otherwise."""
    fresh = new_id("ckpt")
    manifest = a_manifest().model_copy(update={"name": name})
    assert await register(connection, fresh, manifest, fresh, f"checkpoints/{name}/{fresh}", 7, job) == fresh
    return fresh


async def registered(database: AsyncEngine, name: str, **options: Any) -> str:
    async with database.begin() as connection:
        return await register_one(connection, name, **options)


async def moved(
    database: AsyncEngine, name: str, checkpoint: str, reason: Reason = "set", alias: str = PRODUCTION, **options: Any
) -> Alias:
    async with database.begin() as connection:
        return await move_alias(connection, name, alias, checkpoint, reason, **options)


async def version_of(database: AsyncEngine, name: str) -> int:
    async with database.connect() as connection:
        found = await get_alias(connection, name, PRODUCTION)
    assert found is not None
    return found.version


async def a_dataset(database: AsyncEngine) -> str:
    manifest = DatasetManifest(id=new_id("ds"), name=a_name(), format="vector_npz", modality="vector")
    async with database.begin() as connection:
        return (await insert_dataset(connection, tenant=DEFAULT_TENANT, manifest=manifest)).id


async def asked(database: AsyncEngine, name: str, challenger: str, incumbent: str, version: int) -> Promotion:
    """A queued promotion to ``name@production``."""
    dataset = await a_dataset(database)
    new = NewPromotion(
        new_id("pro"), DEFAULT_TENANT, name, PRODUCTION, challenger, incumbent, version, dataset, None, "req_1"
    )
    async with database.begin() as connection:
        return await insert_promotion(connection, new)


def comparison(promotion: Promotion, verdict: Verdict) -> Comparison:
    ahead = Estimate(mean={"better": 0.1, "no_worse": 0.0, "worse": -0.1}[verdict], interval=0.01)
    figure = Estimate(mean=0.5, interval=0.1)
    shape = ComparedShape(
        n_way=5, k_shot=1, metric="accuracy", challenger=figure, incumbent=figure, ahead=ahead, episodes=300
    )
    return Comparison(
        challenger=promotion.challenger, incumbent=promotion.incumbent, dataset=promotion.dataset, rows=(shape,),
        verdict=verdict,
    )  # fmt: skip


async def execute(database: AsyncEngine, statement: str, **values: Any) -> None:
    async with database.begin() as connection:
        await connection.execute(text(statement), values)
