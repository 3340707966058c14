"""A job is held by one trainer at a time; what it was told survives whoever trains it."""

import asyncio
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from kshot.contracts.checkpoints import EncoderSpec, LearnerSpec, VectorInput
from kshot.contracts.datasets import DatasetManifest
from kshot.contracts.errors import Conflict, NotFound
from kshot.contracts.ids import new_id
from kshot.contracts.jobs import JobEvent, JobSpec
from kshot.contracts.recipe import Recipe, Training
from kshot.contracts.tasks import Failure
from kshot.storage import job_runs
from kshot.storage.datasets import insert_dataset
from kshot.storage.job_events import list_events
from kshot.storage.job_runs import MAX_DEATHS, MAX_DEATHS_AT_ONCE, JobClaim, SavedState
from kshot.storage.jobs import (
    NewJob,
    StoredJob,
    cancel_job,
    get_job,
    insert_job,
    list_jobs,
    pause_job,
    resume_job,
)
from kshot.storage.tables import DEFAULT_TENANT

RECIPE = Recipe(
    name="waves", description="", tasks=("regression",), n_targets=1, input=VectorInput(width=1),
    encoder=EncoderSpec(name="mlp"), learner=LearnerSpec(name="maml"), training=Training(steps=100, scheme="episodes"),
)  # fmt: skip


@pytest.fixture(autouse=True)
async def empty(database: AsyncEngine) -> None:
    """Jobs are claimed from all there are, oldest first."""
    async with database.begin() as connection:
        await connection.execute(text("DELETE FROM job_events"))
        await connection.execute(text("DELETE FROM training_jobs"))


async def accept(database: AsyncEngine, **changes: Any) -> str:
    dataset = DatasetManifest(id=new_id("ds"), name=new_id("ds").lower().replace("_", "-"), format="sinusoid",
                              modality="vector", task="regression")  # fmt: skip
    values = {"job": new_id("job"), "recipe": RECIPE, "dataset": dataset.id, "dataset_name": dataset.name}
    spec = JobSpec(**(values | changes))
    async with database.begin() as connection:
        await insert_dataset(connection, tenant=DEFAULT_TENANT, manifest=dataset)
        await insert_job(connection, NewJob(DEFAULT_TENANT, None, {"name": "waves"}, spec, None))
    return spec.job


async def take(database: AsyncEngine, worker: str = "w", lease_s: float = 60) -> JobClaim | None:
    async with database.begin() as connection:
        return await job_runs.claim_job(connection, worker, lease_s)


async def taken(database: AsyncEngine, worker: str = "w", lease_s: float = 60) -> JobClaim:
    claim = await take(database, worker, lease_s)
    assert claim is not None
    return claim


async def call(database: AsyncEngine, action: Any, *arguments: Any, **options: Any) -> Any:
    async with database.begin() as connection:
        return await action(connection, *arguments, **options)


async def job_of(database: AsyncEngine, id: str) -> StoredJob:
    found: StoredJob = await call(database, get_job, id)
    return found


async def kinds(database: AsyncEngine, id: str) -> list[str]:
    events = await call(database, list_events, id, after=0, limit=100)
    assert [event.seq for event in events] == list(range(1, len(events) + 1))
    assert (await job_of(database, id)).last_seq == len(events)
    return [event.kind for event in events]


@pytest.mark.reliability("faults: two workers race", "jobs")
async def test_eight_trainers_race_for_one_job_and_one_wins(database: AsyncEngine):
    job = await accept(database)
    claims = await asyncio.gather(*(take(database, f"w{i}") for i in range(8)))
    assert [claim.job for claim in claims if claim is not None] == [job]


@pytest.mark.reliability("faults: two workers race", "jobs")
async def test_eight_trainers_race_for_a_lost_lease_and_one_wins(database: AsyncEngine):
    job = await accept(database)
    await taken(database, "dead", lease_s=0)
    claims = await asyncio.gather(*(take(database, f"w{i}") for i in range(8)))
    assert [(claim.job, claim.attempt) for claim in claims if claim is not None] == [(job, 2)]


@pytest.mark.reliability("faults: two workers race", "jobs")
async def test_jobs_are_claimed_oldest_first_each_once(database: AsyncEngine):
    jobs = [await accept(database) for _ in range(20)]
    first = await taken(database)
    assert first.job == jobs[0]

    async def claimer(worker: str) -> list[str]:
        mine = []
        while (claim := await take(database, worker)) is not None:
            mine.append(claim.job)
        return mine

    shares = await asyncio.gather(*(claimer(f"w{i}") for i in range(8)))
    assert sorted(job for share in shares for job in share) == sorted(jobs[1:])


async def test_a_report_carries_progress_events_and_the_saved_state(database: AsyncEngine):
    job = await accept(database)
    claim = await taken(database)
    events = [
        JobEvent(kind="total", data={"total": 50}),
        JobEvent(kind="step", data={"step": 9, "loss": 1.0, "steps_per_s": 3.5}),
        JobEvent(kind="saved", data={"step": 10}),
        JobEvent(kind="phase", data={"phase": "evaluating"}),
    ]
    status = await call(database, job_runs.report, claim, 60, events, SavedState("jobs/x/1-10.safetensors", 10))
    assert status == "running"
    row = await job_of(database, job)
    assert (row.step, row.total, row.steps_per_s, row.saved_step, row.phase) == (10, 50, 3.5, 10, "evaluating")
    assert row.heartbeat_at is not None and row.started_at is not None
    assert await kinds(database, job) == ["queued", "started", "total", "step", "saved", "phase"]


async def test_a_trainer_past_its_lease_writes_nothing(database: AsyncEngine):
    job = await accept(database)
    zombie = await taken(database, "zombie", lease_s=0)
    heir = await taken(database, "heir")
    saved = SavedState("jobs/x/1-10.safetensors", 10)
    assert await call(database, job_runs.report, zombie, 60, [JobEvent(kind="saved")], saved) is None
    assert not await call(database, job_runs.fail, zombie, Failure(code="invalid", message="no"))
    assert await call(database, job_runs.let_go, zombie, spent=False) is None
    row = await job_of(database, job)
    assert (row.status, row.attempt, row.saved_step) == ("running", 2, 0)
    assert await kinds(database, job) == ["queued", "started", "started"]
    assert await call(database, job_runs.report, heir, 60) == "running"


async def test_the_next_attempt_goes_on_from_the_last_state(database: AsyncEngine):
    await accept(database)
    first = await taken(database)
    await call(database, job_runs.report, first, 60, [], SavedState("jobs/x/1-30.safetensors", 30))
    assert await call(database, job_runs.let_go, first, spent=True, reason="ended by SIGKILL") == "queued"
    second = await taken(database)
    assert (second.attempt, second.state_key, second.state_step) == (2, "jobs/x/1-30.safetensors", 30)


async def test_a_job_that_gets_no_further_is_given_up(database: AsyncEngine):
    job = await accept(database)
    for attempt in range(MAX_DEATHS_AT_ONCE):
        assert (await taken(database, lease_s=0)).attempt == attempt + 1
    assert await take(database) is None
    row = await job_of(database, job)
    assert (row.status, row.failure and row.failure.code) == ("failed", "poison")
    assert (await kinds(database, job))[-1] == "failed"


async def test_twenty_deaths_with_progress_between_them_are_survived(database: AsyncEngine):
    job = await accept(database)
    for death in range(20):
        claim = await taken(database)
        if death % 2:  # every other attempt gets nowhere
            saved = SavedState(f"jobs/x/{claim.attempt}-{death}.safetensors", death)
            await call(database, job_runs.report, claim, 60, [], saved)
        await call(database, job_runs.let_go, claim, spent=True, reason="ended by SIGKILL")
    assert (await job_of(database, job)).status == "queued"


async def test_an_attempt_that_gets_to_train_may_die_more_often(database: AsyncEngine):
    job = await accept(database)
    for attempt in range(MAX_DEATHS):
        claim = await taken(database)
        for step in (1, 2):
            event = JobEvent(kind="step", data={"step": step, "loss": 1.0, "steps_per_s": 1.0})
            await call(database, job_runs.report, claim, 60, [event])
        await call(database, job_runs.let_go, claim, spent=True)
        assert (await job_of(database, job)).attempt == attempt + 1
    assert await take(database) is None
    assert (await job_of(database, job)).status == "failed"


async def test_saving_the_same_step_again_is_no_progress(database: AsyncEngine):
    await accept(database)
    for _ in range(MAX_DEATHS_AT_ONCE):
        claim = await taken(database)
        await call(database, job_runs.report, claim, 60, [], SavedState(f"jobs/x/{claim.attempt}-0.safetensors", 0))
        await call(database, job_runs.let_go, claim, spent=True)
    assert await take(database) is None


async def test_attempts_that_were_stopped_do_not_count(database: AsyncEngine):
    await accept(database)
    for _ in range(2 * MAX_DEATHS_AT_ONCE):
        assert await call(database, job_runs.let_go, await taken(database), spent=False) == "queued"
    assert await take(database) is not None


async def test_cancelling(database: AsyncEngine):
    waiting = await accept(database)
    await call(database, cancel_job, waiting)
    assert (await job_of(database, waiting)).status == "cancelled"
    await call(database, cancel_job, waiting)
    assert await kinds(database, waiting) == ["queued", "cancelled"]

    held = await accept(database)
    claim = await taken(database)
    for _ in range(2):
        await call(database, cancel_job, held)
        assert (await job_of(database, held)).status == "cancelling"
    assert await call(database, job_runs.report, claim, 60) == "cancelling"
    assert not await call(database, job_runs.fail, claim, Failure(code="invalid", message="no"))
    assert await call(database, job_runs.let_go, claim, spent=False) == "cancelled"
    assert (await job_of(database, held)).finished_at is not None
    assert await kinds(database, held) == ["queued", "started", "cancelled"]


async def test_a_wish_about_a_job_that_nobody_holds_comes_true_at_once(database: AsyncEngine):
    lost, resting = await accept(database), await accept(database)
    claim = await taken(database, lease_s=0)
    await call(database, cancel_job, lost)
    assert (await job_of(database, lost)).status == "cancelled"
    assert await call(database, job_runs.report, claim, 60) is None
    await call(database, pause_job, resting)
    assert (await job_of(database, resting)).status == "paused"
    await call(database, cancel_job, resting)
    assert await take(database) is None


@pytest.mark.parametrize(("wish", "status"), [(cancel_job, "cancelled"), (pause_job, "paused")])
async def test_a_wish_that_its_trainer_did_not_live_to_grant_comes_true(database: AsyncEngine, wish: Any, status: str):
    job = await accept(database)
    claim = await taken(database)
    await call(database, wish, job)
    await call(database, job_runs.report, claim, 0)  # its last heartbeat
    assert await take(database) is None
    assert (await job_of(database, job)).status == status
    assert await kinds(database, job) == ["queued", "started", status]


async def test_pausing_and_resuming(database: AsyncEngine):
    job = await accept(database)
    claim = await taken(database)
    await call(database, pause_job, job)
    assert await call(database, job_runs.report, claim, 60, [], SavedState("jobs/x/1-7.safetensors", 7)) == "pausing"
    assert await call(database, job_runs.let_go, claim, spent=False) == "paused"
    assert await take(database) is None
    await call(database, resume_job, job)
    again = await taken(database)
    assert (again.job, again.attempt, again.state_step) == (job, 2, 7)
    assert await kinds(database, job) == ["queued", "started", "paused", "queued", "started"]


async def test_what_cannot_be_is_refused(database: AsyncEngine):
    job = await accept(database)
    with pytest.raises(Conflict, match="queued"):
        await call(database, resume_job, job)
    claim = await taken(database)
    for _ in range(2):  # asking twice is asking once
        await call(database, pause_job, job)
        assert (await job_of(database, job)).status == "pausing"
    with pytest.raises(Conflict, match="pausing"):
        await call(database, resume_job, job)
    assert await call(database, job_runs.fail, claim, Failure(code="invalid", message="no such column"))
    for action in (cancel_job, pause_job, resume_job):
        with pytest.raises(Conflict, match="failed"):
            await call(database, action, job)
        with pytest.raises(NotFound):
            await call(database, action, new_id("job"))
    row = await job_of(database, job)
    assert (row.is_finished, row.failure) == (True, Failure(code="invalid", message="no such column"))


async def test_success_is_written_once(database: AsyncEngine, checkpoint: str):
    job = await accept(database)
    claim = await taken(database)
    assert await call(database, job_runs.succeed, claim, checkpoint)
    assert not await call(database, job_runs.succeed, claim, checkpoint)
    assert await call(database, job_runs.is_succeeded, claim)
    row = await job_of(database, job)
    assert (row.status, row.checkpoint, row.evaluation) == ("succeeded", checkpoint, [])
    assert await kinds(database, job) == ["queued", "started", "succeeded"]
    assert job not in await call(database, job_runs.open_jobs)


async def test_newest_first_in_pages(database: AsyncEngine):
    jobs = [await accept(database) for _ in range(3)]
    page = await call(database, list_jobs, limit=2, after=None)
    assert [job.id for job in page] == jobs[:0:-1]
    rest = await call(database, list_jobs, limit=2, after=page[-1].id)
    assert [job.id for job in rest] == jobs[:1]
