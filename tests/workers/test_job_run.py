"""An attempt at a job whose trainer was too late, or could not begin, or came to an end that nobody waits for."""

import asyncio
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from kshot.checkpoints import Checkpoint, save_checkpoint
from kshot.contracts.checkpoints import EncoderSpec, LearnerSpec, VectorInput
from kshot.contracts.datasets import DatasetManifest
from kshot.contracts.ids import new_id
from kshot.contracts.jobs import Exit, JobSpec
from kshot.contracts.recipe import Recipe, Training
from kshot.storage import job_runs
from kshot.storage.checkpoints import register
from kshot.storage.datasets import insert_dataset
from kshot.storage.job_events import list_events
from kshot.storage.job_runs import JobClaim, SavedState
from kshot.storage.jobs import NewJob, StoredJob, cancel_job, get_job, insert_job
from kshot.storage.objects import LocalObjects
from kshot.storage.tables import DEFAULT_TENANT
from workers import job_run, trainer
from workers.job_folder import data_key, state_key
from workers.job_run import JobRun
from workers.job_sweep import sweep_jobs
from workers.publishing import publish, weights_key
from workers.trainer import Trainer
from workers.trainer_stack import TrainerStack

pytestmark = pytest.mark.flow
RECIPE = Recipe(
    name="waves", description="", tasks=("regression",), n_targets=1, input=VectorInput(width=1),
    encoder=EncoderSpec(name="mlp"), learner=LearnerSpec(name="maml"), training=Training(steps=100, scheme="episodes"),
)  # fmt: skip


@dataclass(frozen=True)
class Jobs:
    """A trainer's parts, and jobs in every state of their life."""

    stack: TrainerStack

    async def accepted(self) -> str:
        dataset = DatasetManifest(id=new_id("ds"), name=new_id("ds").lower().replace("_", "-"), format="sinusoid",
                                  modality="vector", task="regression")  # fmt: skip
        spec = JobSpec(job=new_id("job"), recipe=RECIPE, dataset=dataset.id, dataset_name=dataset.name)
        async with self.stack.database.begin() as connection:
            await insert_dataset(connection, tenant=DEFAULT_TENANT, manifest=dataset)
            await insert_job(connection, NewJob(DEFAULT_TENANT, None, {"name": "waves"}, spec, None))
        return spec.job

    async def claimed(self, worker: str = "wrk_me", lease_s: float = 60) -> JobClaim:
        async with self.stack.database.begin() as connection:
            claim = await job_runs.claim_job(connection, worker, lease_s)
        assert claim is not None
        return claim

    async def saved(self, claim: JobClaim, step: int, lease_s: float = 60) -> str:
        """The attempt has stored a state, which counts; its key."""
        key = state_key(claim, step)
        self.stack.objects.put(key, b"state")
        async with self.stack.database.begin() as connection:
            await job_runs.report(connection, claim, lease_s, [], SavedState(key, step))
        return key

    async def call(self, action: Any, *arguments: Any) -> Any:
        async with self.stack.database.begin() as connection:
            return await action(connection, *arguments)

    async def job(self, id: str) -> StoredJob:
        async with self.stack.database.connect() as connection:
            return await get_job(connection, id)

    async def last_event(self, id: str) -> tuple[str, dict[str, Any]]:
        async with self.stack.database.connect() as connection:
            event = (await list_events(connection, id, after=0, limit=1000))[-1]
        return event.kind, event.data

    def run(self, claim: JobClaim) -> JobRun:
        return JobRun(self.stack, claim, asyncio.Event())


@pytest.fixture
async def jobs(database: AsyncEngine, tmp_path: Path) -> Jobs:
    async with database.begin() as connection:
        await connection.execute(text("DELETE FROM job_events"))
        await connection.execute(text("DELETE FROM training_jobs"))
        await connection.execute(text("UPDATE promotions SET status = 'failed' WHERE status IN ('queued', 'running')"))
    (tmp_path / "work").mkdir()
    return Jobs(TrainerStack("wrk_me", database, LocalObjects(tmp_path / "objects"), tmp_path / "work", 60, 1, "cpu"))


async def test_a_trainer_stopped_right_after_its_claim_leaves_the_states_of_its_heir_alone(jobs: Jobs):
    job = await jobs.accepted()
    first = await jobs.claimed("wrk_first", lease_s=0)
    kept = await jobs.saved(first, 10, lease_s=0)
    late = await jobs.claimed(lease_s=0)
    live = await jobs.saved(await jobs.claimed("wrk_heir"), 20)
    jobs.stack.objects.put(data_key(job), b"data")
    assert await jobs.run(late).run()
    assert jobs.stack.objects.keys(f"jobs/{job}") == sorted([kept, live, data_key(job)])


async def test_an_attempt_removes_what_earlier_ones_stored_and_did_not_make_count(jobs: Jobs, monkeypatch: Any):
    job = await jobs.accepted()
    first = await jobs.claimed("wrk_first", lease_s=0)
    kept = await jobs.saved(first, 10, lease_s=0)
    jobs.stack.objects.put(state_key(first, 15), b"state")
    monkeypatch.setattr(job_run, "run_child", _child(Exit.STOPPED))
    await jobs.run(await jobs.claimed()).run()
    assert jobs.stack.objects.keys(f"jobs/{job}") == [kept]


async def test_a_state_whose_commit_was_in_doubt_stays_when_the_job_is_lost(jobs: Jobs):
    job = await jobs.accepted()
    claim = await jobs.claimed(lease_s=0)
    key = await jobs.saved(claim, 10, lease_s=0)  # committed, and Postgres went away before it said so
    heir = await jobs.claimed("wrk_heir")
    await jobs.run(claim)._report(saved=SavedState(key, 10))  # said again
    assert heir.state_key == key and jobs.stack.objects.keys(f"jobs/{job}") == [key]


async def test_a_job_that_finishes_after_it_was_cancelled_is_cancelled_and_did_not_die(
    jobs: Jobs, monkeypatch: Any, checkpoint: Checkpoint
):
    job = await jobs.accepted()
    claim = await jobs.claimed()

    async def child(argv: list[str], **how: Any) -> int:
        manifest = checkpoint.manifest.model_copy(update={"name": "waves"})
        run = Checkpoint(manifest, checkpoint.encoder, checkpoint.head)
        save_checkpoint(jobs.stack.work / f"{job}-1" / "checkpoints" / "_out", run)
        await jobs.call(cancel_job, job)
        return Exit.FINISHED

    monkeypatch.setattr(job_run, "run_child", child)
    await jobs.run(claim).run()
    assert (await jobs.job(job)).status == "cancelled"
    assert await jobs.last_event(job) == ("cancelled", {})
    assert jobs.stack.objects.keys("checkpoints") == jobs.stack.objects.keys("jobs") == []


async def test_a_process_that_says_it_finished_and_leaves_nothing_has_died(jobs: Jobs, monkeypatch: Any):
    job = await jobs.accepted()
    monkeypatch.setattr(job_run, "run_child", _child(Exit.FINISHED))
    await jobs.run(await jobs.claimed()).run()
    kind, data = await jobs.last_event(job)
    assert kind == "released" and "no sound checkpoint" in data["reason"]


async def test_pauses_grow_while_a_job_cannot_be_begun(jobs: Jobs, monkeypatch: Any):
    job = await jobs.accepted()
    jobs.stack.work.rmdir()
    jobs.stack.work.write_bytes(b"")  # no folder can be made in it
    stop, pauses = asyncio.Event(), list[float]()

    async def until(stop: asyncio.Event, seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) == 8:
            stop.set()

    monkeypatch.setattr(trainer, "_until", until)
    await Trainer(jobs.stack).run(stop)
    assert pauses == [2, 4, 8, 16, 30, 30, 30, 30]
    row = await jobs.job(job)
    assert (row.status, row.attempt) == ("queued", 8)


async def test_a_wish_is_granted_although_the_only_trainer_has_a_job(jobs: Jobs, monkeypatch: Any):
    lost = await jobs.accepted()
    dead = await jobs.claimed("wrk_dead")
    await jobs.call(cancel_job, lost)
    await jobs.call(job_runs.report, dead, 0.5)  # its last heartbeat
    busy, stop = await jobs.accepted(), asyncio.Event()

    async def child(argv: list[str], *, stop: asyncio.Event, **how: Any) -> int:
        await stop.wait()
        return Exit.STOPPED

    monkeypatch.setattr(job_run, "run_child", child)
    monkeypatch.setattr(trainer, "_END_S", 0.1)
    running = asyncio.create_task(Trainer(jobs.stack).run(stop))
    async with asyncio.timeout(120):
        while (await jobs.job(lost)).status != "cancelled" or (await jobs.job(busy)).status != "running":
            await asyncio.sleep(0.02)
    stop.set()
    await running
    assert (await jobs.job(busy)).attempt == 1


async def test_what_jobs_left_that_are_over_is_swept_and_nothing_else(
    jobs: Jobs, tmp_path: Path, checkpoint: Checkpoint
):
    objects, database = jobs.stack.objects, jobs.stack.database
    over, _ = await jobs.accepted(), await jobs.accepted()
    claims = {claim.job: claim for claim in (await jobs.claimed(), await jobs.claimed())}
    for claim in claims.values():
        objects.put(state_key(claim, 5), b"state")
        objects.put(weights_key(claim), b"weights")  # stored; its registration is not committed
    save_checkpoint(tmp_path / "protonet", checkpoint)
    await publish(database, objects, tmp_path / "protonet")
    made = JobClaim(new_id("job"), 1, "wrk_me", claims[over].spec, None, 0)
    objects.put(weights_key(made), b"named")
    async with database.begin() as connection:
        await cancel_job(connection, over)
        await job_runs.let_go(connection, claims[over], spent=False)
        manifest = checkpoint.manifest.model_copy(update={"name": "waves"})
        await register(connection, new_id("ckpt"), manifest, made.job, weights_key(made), 5, job=made.job)
    before = set(objects.keys("jobs") + objects.keys("checkpoints"))
    await sweep_jobs(database, objects)
    gone = before - set(objects.keys("jobs") + objects.keys("checkpoints"))
    assert gone == {state_key(claims[over], 5), weights_key(claims[over])}


def _child(code: int) -> Any:
    async def run(argv: list[str], **how: Any) -> int:
        return code

    return run
