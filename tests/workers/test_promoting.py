"""The gate as a trainer runs it: real checkpoints, a real process, decided in the database."""

import asyncio
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from kshot.checkpoints import Checkpoint, save_checkpoint
from kshot.contracts.checkpoints import EncoderSpec, VectorInput
from kshot.contracts.datasets import DatasetManifest
from kshot.contracts.ids import new_id
from kshot.encoders.registry import build_encoder
from kshot.storage.aliases import alias_history, get_alias, move_alias
from kshot.storage.checkpoints import PRODUCTION
from kshot.storage.datasets import insert_dataset
from kshot.storage.objects import LocalObjects
from kshot.storage.promotions import NewPromotion, Promotion, get_promotion, insert_promotion
from kshot.storage.tables import DEFAULT_TENANT
from tests.kshot.episodes.dataset_files import inspected
from tests.kshot.training.test_gate import damaged, vectors
from workers import promoting
from workers.promoting import Promoter
from workers.publishing import publish
from workers.trainer_stack import TrainerStack

LEASE_S = 5.0
pytestmark = pytest.mark.flow


class Promotions:
    """Checkpoints ``whole`` and ``blind`` of one name, a data set, and a trainer's part that compares."""

    def __init__(self, database: AsyncEngine, folder: Path) -> None:
        self.database, self.folder = database, folder
        self.objects = LocalObjects(folder / "objects")
        self.name = new_id("ckpt").lower().replace("_", "-")
        self.dataset = ""
        self.published = 0

    def trainer(self, worker: str = "wrk_me") -> Promoter:
        return Promoter(
            TrainerStack(worker, self.database, self.objects, self.folder / f"work-{worker}", LEASE_S, 1, "cpu")
        )

    async def upload(self, data: bytes) -> None:
        manifest: DatasetManifest = inspected(self.folder, data)
        manifest = manifest.model_copy(update={"id": new_id("ds"), "name": new_id("ds").lower().replace("_", "-")})
        self.dataset, key = manifest.id, f"datasets/{manifest.id}"
        self.objects.put(key, data)
        async with self.database.begin() as connection:
            await insert_dataset(connection, tenant=DEFAULT_TENANT, manifest=manifest, object_key=key)

    async def publish(self, checkpoint: Checkpoint) -> str:
        self.published += 1
        changes = {"name": self.name, "description": f"number {self.published}"}
        manifest = checkpoint.manifest.model_copy(update=changes)
        folder = self.folder / f"checkpoint-{self.published}"
        save_checkpoint(folder, Checkpoint(manifest, checkpoint.encoder, checkpoint.head))
        return await publish(self.database, self.objects, folder)

    async def ask(self, challenger: str, incumbent: str) -> str:
        async with self.database.begin() as connection:
            now = await move_alias(connection, self.name, PRODUCTION, incumbent, "force")
            new = NewPromotion(
                new_id("pro"), DEFAULT_TENANT, self.name, PRODUCTION, challenger, incumbent, now.version, self.dataset,
                None, None,
            )  # fmt: skip
            await insert_promotion(connection, new)
        return new.id

    async def stored(self, id: str) -> Promotion:
        async with self.database.connect() as connection:
            return await get_promotion(connection, id)

    async def in_production(self) -> str:
        async with self.database.connect() as connection:
            alias = await get_alias(connection, self.name, PRODUCTION)
        assert alias is not None
        return alias.checkpoint

    def folders(self) -> Sequence[Path]:
        return list(self.folder.glob("work-*/*"))


@pytest.fixture
async def promotions(database: AsyncEngine, tmp_path: Path) -> Promotions:
    async with database.begin() as connection:
        await connection.execute(text("UPDATE promotions SET status = 'failed' WHERE status IN ('queued', 'running')"))
    found = Promotions(database, tmp_path)
    await found.upload(vectors())
    return found


@pytest.fixture
def whole(checkpoint: Checkpoint) -> Checkpoint:
    """Tells vectors apart."""
    torch.manual_seed(0)
    spec = EncoderSpec(name="mlp", options={"hidden": [16]})
    manifest = checkpoint.manifest.model_copy(update={"input": VectorInput(width=8), "encoder": spec})
    return Checkpoint(manifest, build_encoder(spec, VectorInput(width=8)).eval(), {})


async def test_a_worse_one_is_refused_an_equal_one_and_a_better_one_are_promoted(
    promotions: Promotions, whole: Checkpoint
):
    good, same, blind = [await promotions.publish(one) for one in (whole, whole, damaged(whole))]
    trainer = promotions.trainer()
    await trainer.poll()  # nothing to do
    for challenger, incumbent, verdict, status in [
        (blind, good, "worse", "refused"),
        (same, good, "no_worse", "promoted"),
        (good, blind, "better", "promoted"),
    ]:
        asked = await promotions.ask(challenger, incumbent)
        await trainer.poll()
        after = await promotions.stored(asked)
        assert (after.status, after.attempt) == (status, 1) and after.comparison is not None
        assert after.comparison.verdict == verdict and after.comparison.dataset == promotions.dataset
        assert await promotions.in_production() == (challenger if status == "promoted" else incumbent)
    async with promotions.database.connect() as connection:
        last = (await alias_history(connection, promotions.name, PRODUCTION))[0]
    assert (last.reason, last.promotion) == ("promote", asked)
    assert promotions.folders() == []


async def test_what_cannot_be_compared_fails_with_its_reason_at_once(promotions: Promotions, whole: Checkpoint):
    good, blind = await promotions.publish(whole), await promotions.publish(damaged(whole))
    await promotions.upload(b"text,label\nhello,a\nbye,b\nhi,a\nciao,b\n")
    asked = await promotions.ask(blind, good)
    await promotions.trainer().poll()
    after = await promotions.stored(asked)
    assert after.status == "failed" and after.failure is not None and after.failure.param == "dataset"
    assert "kind text" in after.failure.message


async def test_a_comparison_that_dies_is_begun_again_and_given_up_after_three(
    promotions: Promotions, whole: Checkpoint
):
    good, blind = await promotions.publish(whole), await promotions.publish(damaged(whole))
    asked = await promotions.ask(good, blind)
    trainer = promotions.trainer()
    await killed_at_once(trainer)
    assert (await promotions.stored(asked)).status == "running"
    await trainer.poll()
    assert ((await promotions.stored(asked)).status, (await promotions.stored(asked)).attempt) == ("promoted", 2)
    asked = await promotions.ask(blind, good)
    for _ in range(3):
        await killed_at_once(trainer)
    await trainer.poll()
    after = await promotions.stored(asked)
    assert after.status == "failed" and after.failure is not None and after.failure.code == "poison"
    assert await promotions.in_production() == good and promotions.folders() == []


async def killed_at_once(trainer: Promoter) -> None:
    """Poll, and kill the process that compares as soon as it runs."""
    polling = asyncio.create_task(trainer.poll())
    while not polling.done():
        await asyncio.sleep(0.02)
        for child in psutil.Process().children(recursive=True):
            try:
                if "kshot.training.gate" in child.cmdline():
                    child.send_signal(signal.SIGKILL)
            except psutil.Error:
                pass
    await polling


async def test_a_trainer_that_ends_gives_the_claim_back_and_leaves_no_process(
    promotions: Promotions, whole: Checkpoint
):
    good, blind = await promotions.publish(whole), await promotions.publish(damaged(whole))
    asked = await promotions.ask(good, blind)
    polling = asyncio.create_task(promotions.trainer().poll())
    while not (children := gates()):
        await asyncio.sleep(0.02)
    polling.cancel()
    with pytest.raises(asyncio.CancelledError):
        await polling
    after = await promotions.stored(asked)
    assert (after.status, after.attempt) == ("queued", 0)
    psutil.wait_procs(children, timeout=5)
    assert gates() == [] and promotions.folders() == []


async def test_what_is_away_costs_a_promotion_no_attempt(
    promotions: Promotions, whole: Checkpoint, monkeypatch: pytest.MonkeyPatch
):
    good, blind = await promotions.publish(whole), await promotions.publish(damaged(whole))
    asked = await promotions.ask(good, blind)
    with monkeypatch.context() as away:
        away.setattr(LocalObjects, "file", _away(5, promotions.objects.file))
        for _ in range(5):
            await promotions.trainer().poll()
            after = await promotions.stored(asked)
            assert (after.status, after.attempt) == ("queued", 0)
    with monkeypatch.context() as away:
        away.setattr(promoting, "decide_promotion", _away(2, promoting.decide_promotion))
        await promotions.trainer().poll()
    after = await promotions.stored(asked)
    assert (after.status, after.attempt) == ("promoted", 1)


def _away(times: int, action: Any) -> Any:
    """The same, but what it needs cannot be reached for some time."""
    left = [OSError("away")] * times

    def call(*arguments: Any, **options: Any) -> Any:
        if left:
            raise left.pop()
        return action(*arguments, **options)

    return call


def gates() -> list[psutil.Process]:
    """Processes of this test that compare."""
    found = []
    for child in psutil.Process().children(recursive=True):
        try:
            if "kshot.training.gate" in child.cmdline():
                found.append(child)
        except psutil.Error:
            pass
    return found


async def test_a_trainer_whose_lease_passed_stops_and_changes_nothing(promotions: Promotions, whole: Checkpoint):
    good, blind = await promotions.publish(whole), await promotions.publish(damaged(whole))
    asked = await promotions.ask(good, blind)
    polling = asyncio.create_task(promotions.trainer().poll())
    while not gates():
        await asyncio.sleep(0.02)
    async with promotions.database.begin() as connection:  # as if it had been stopped for so long
        await connection.execute(
            text("UPDATE promotions SET attempt = 2, worker = 'wrk_heir', lease_until = now() + interval '1 h'")
        )
    await polling
    after = await promotions.stored(asked)
    assert (after.status, after.worker, after.comparison) == ("running", "wrk_heir", None)
    assert await promotions.in_production() == blind
