"""Trainers and training processes that die, hang, race, or leave: a job loses at most what was not saved."""

import asyncio
import resource
import signal
import sys
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest
from sqlalchemy import text

from kshot.storage.job_runs import MAX_DEATHS_AT_ONCE
from kshot.storage.jobs import cancel_job, pause_job, resume_job
from standalone import EmbeddedServers
from tests.flow.job_stack import (
    LEASE_S,
    JobStack,
    TrainerProcess,
    job_stack,
    migrated_servers,
    run_in_peace,
    run_with_kills,
)
from tests.flow.job_watch import kinds, restart, saved, steer, until_failed, until_gone
from tests.flow.stacks import wrong_clock

pytestmark = pytest.mark.flow
STEPS = 240
ENDLESS = 10_000  # minutes; it reports every hundred steps


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, EmbeddedServers]]:
    folder = tmp_path_factory.mktemp("jobs")
    with migrated_servers(folder) as servers:
        yield folder, servers


@pytest.fixture
async def stack(place: tuple[Path, EmbeddedServers]) -> AsyncIterator[JobStack]:
    """Each test leaves nothing to do for those that follow."""
    async with job_stack(*place) as opened:
        yield opened


@pytest.fixture(scope="module", autouse=True)
def beside(tmp_path_factory: pytest.TempPathFactory) -> Iterator["Future[Beside]"]:
    """What takes its time happens beside the tests, with servers of its own: killing a process that hears no SIGTERM
    and, while that is waited for, a job of several processes."""
    folder = tmp_path_factory.mktemp("beside")
    with migrated_servers(folder) as servers, ThreadPoolExecutor(1) as thread:
        yield thread.submit(lambda: asyncio.run(_beside(folder, servers)))


@dataclass(frozen=True)
class Beside:
    """What happened to the job that was cancelled, and to the one of several processes, with its attempts."""

    frozen: list[str]
    shared: list[str]
    attempts: int


async def _beside(folder: Path, servers: EmbeddedServers) -> Beside:
    async with job_stack(folder, servers) as stack:
        frozen, often = await stack.submit(ENDLESS), {"KSHOT_SAVE_S": "0.1"}
        with stack.trainer(**often) as first, stack.trainer(**often) as second:
            await stack.until(frozen, "running", step=1)
            holder, other = (first, second) if first.children() else (second, first)
            shared = await stack.submit(200, workers_per_job=2)
            await stack.until(shared, "running")
            child = await holder.child()
            child.suspend()
            await steer(stack, cancel_job, frozen)
            assert (await stack.job(frozen)).status == "cancelling"
            await _lose_one_of_two(stack, other, shared)
            await stack.until(frozen, "cancelled")
            await until_gone(child)
            await stack.until_cleared()
        assert (await stack.job(frozen)).saved_step > 0
        attempts = (await stack.job(shared)).attempt
        return Beside(await kinds(stack, frozen), await kinds(stack, shared), attempts)


async def _lose_one_of_two(stack: JobStack, trainer: TrainerProcess, job: str) -> None:
    """Kill one of the two processes that train a job, and see it to its end."""
    await saved(stack, job)
    ranks = [child for child in trainer.children() if "kshot.training.ranks" not in child.cmdline()]
    assert len(ranks) == 2
    ranks[1].kill()
    await stack.until(job, "succeeded")


@pytest.fixture(scope="module")
def peace(place: tuple[Path, EmbeddedServers]) -> str:
    """The weights of the run that nothing happens to."""

    async def run() -> str:
        async with job_stack(*place) as opened:
            outcome = await run_in_peace(opened, STEPS)
            assert outcome.attempts == 1
            return outcome.weights

    return asyncio.run(run())


@pytest.mark.reliability("faults: trainer SIGKILLed", "trainer", "its child")
async def test_killed_trainers_and_children_cost_no_more_than_a_save_interval(stack: JobStack, peace: str):
    """Twenty kills are in `benchmarks/job_faults.py`."""
    outcome = await run_with_kills(stack, STEPS, kills=2, seed=0)
    assert outcome.kills == {"child": 1, "trainer": 1}
    assert outcome.attempts == 3 and len(outcome.redone) == 2
    assert max(outcome.redone) <= outcome.interval
    assert outcome.weights == peace


@pytest.mark.reliability("faults: trainer SIGKILLed", "trainer")
@pytest.mark.reliability("faults: Valkey killed, hung", "training")
async def test_a_trainer_killed_after_a_saved_step_is_followed_from_there_also_without_valkey(
    stack: JobStack, peace: str
):
    await asyncio.to_thread(stack.servers.stop, "valkey")
    async with stack.database.connect() as holding:
        await holding.execute(text("LOCK TABLE checkpoints IN SHARE MODE"))  # it cannot end before it is killed
        job = await stack.submit(STEPS)
        with stack.trainer() as killed:
            await saved(stack, job)
            killed.kill()
    with stack.trainer():
        assert (await stack.until(job, "succeeded")).attempt == 2
        await stack.until_cleared()
    events = await stack.events(job)
    kept = [e.data["step"] for e in events if e.kind == "saved" and e.attempt == 1]
    assert [e.data["step"] for e in events if e.kind == "resumed"] == kept[-1:]
    assert await stack.weights(job) == peace
    await asyncio.to_thread(stack.servers.start, "valkey")


@pytest.mark.reliability("faults: disk full", "training")
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="prlimit is Linux only")
async def test_a_full_disk_delays_what_a_job_saves_and_leaves_no_partial_state(stack: JobStack):
    job = await stack.submit(ENDLESS)
    with stack.trainer(KSHOT_SAVE_S="0.5") as trainer:
        before = await saved(stack, job)
        unlimited = resource.prlimit(trainer.process.pid, resource.RLIMIT_FSIZE)
        resource.prlimit(trainer.process.pid, resource.RLIMIT_FSIZE, (20_000, unlimited[1]))  # a state is larger
        await trainer.says("state_not_stored")
        full = (await stack.job(job)).saved_step
        resource.prlimit(trainer.process.pid, resource.RLIMIT_FSIZE, unlimited)
        assert await saved(stack, job, beyond=full) > full >= before
        assert (await stack.job(job)).attempt == 1
        await steer(stack, cancel_job, job)
        await stack.until(job, "cancelled")
        await stack.until_cleared()


@pytest.mark.reliability("faults: worker clock off by an hour", "jobs")
async def test_trainers_whose_clocks_are_off_by_an_hour_take_no_job_from_each_other(stack: JobStack, tmp_path: Path):
    own = {"KSHOT_LEASE_S": "60"}
    with stack.trainer(**own, **wrong_clock(tmp_path, -3600)), stack.trainer(**own, **wrong_clock(tmp_path, 3600)):
        job = await stack.submit(40)
        assert (await stack.until(job, "succeeded")).attempt == 1
        await stack.until_cleared()


@pytest.mark.reliability("faults: zombie worker", "training")
async def test_a_zombie_trainer_is_fenced_out(stack: JobStack, peace: str):
    job = await stack.submit(STEPS)
    with stack.trainer() as zombie:
        await stack.until(job, "running", step=1)
        child = await zombie.child()
        zombie.signal(signal.SIGSTOP)  # its child goes on, and saves
        with stack.trainer() as heir:
            await stack.until(job, "running", attempt=2)
            zombie.signal(signal.SIGCONT)
            await zombie.says("job_lost")
            await until_gone(child)
            await stack.until(job, "succeeded")
            await stack.until_cleared()
            assert [line["attempt"] for line in heir.said if line["event"] == "job_ended"] == [2]
        assert zombie.process.poll() is None
    events = await stack.events(job)
    first_of_heir = next(e.seq for e in events if e.kind == "started" and e.attempt == 2)
    assert all(e.attempt == 2 for e in events if e.seq > first_of_heir)
    assert (await kinds(stack, job)).count("succeeded") == 1
    assert await stack.weights(job) == peace


@pytest.mark.reliability("faults: SIGTERM with 5 running", "trainer")
async def test_a_trainer_leaves_then_a_pause_then_everything_restarts_then_resume(stack: JobStack, peace: str):
    job = await stack.submit(STEPS)
    with stack.trainer() as leaving:
        await stack.until(job, "running", step=1)
        leaving.signal(signal.SIGTERM)
        assert leaving.process.wait(timeout=120) == 0
    given_back = await stack.job(job)
    assert (given_back.status, given_back.attempt) == ("queued", 1)
    assert given_back.saved_step > 0 and len(stack.kept()) == 1
    work = stack.folder / "work"
    assert [path.name for path in work.iterdir()] == [".lock"]
    with stack.trainer() as trainer:
        await stack.until(job, "running", attempt=2, step=given_back.saved_step + 1)
        await steer(stack, pause_job, job)
        paused = await stack.until(job, "paused")
        assert paused.saved_step == paused.step > given_back.saved_step
        assert trainer.children() == []
        trainer.signal(signal.SIGTERM)
        assert trainer.process.wait(timeout=120) == 0
    await asyncio.to_thread(restart, stack.servers)
    await stack.database.dispose()  # our own connections ended with Postgres
    with stack.trainer():
        await steer(stack, resume_job, job)
        await stack.until(job, "succeeded")
        await stack.until_cleared()
    assert await kinds(stack, job) == [
        "queued", "started", "released", "started", "resumed", "paused", "queued", "started", "resumed", "succeeded"
    ]  # fmt: skip
    resumed = [e.data["step"] for e in await stack.events(job) if e.kind == "resumed"]
    assert resumed == [given_back.saved_step, paused.saved_step]
    assert await stack.weights(job) == peace


@pytest.mark.reliability("faults: Postgres down 10 s", "training")
async def test_training_goes_on_while_postgres_is_away(stack: JobStack, peace: str):
    job = await stack.submit(STEPS)
    with stack.trainer() as trainer:
        await stack.until(job, "running", step=1)
        await asyncio.to_thread(stack.servers.stop, "postgres")
        await trainer.says("not_reported")
        await asyncio.sleep(LEASE_S)
        await asyncio.to_thread(stack.servers.start, "postgres")
        done = await stack.until(job, "succeeded")
    assert done.attempt == 1
    assert await kinds(stack, job) == ["queued", "started", "succeeded"]
    assert await stack.weights(job) == peace


@pytest.mark.reliability("faults: poison task", "training")
async def test_a_job_whose_process_dies_at_once_each_time_is_given_up(stack: JobStack):
    job = await stack.submit(ENDLESS)
    with stack.trainer() as trainer:
        for attempt in range(MAX_DEATHS_AT_ONCE):
            await stack.until(job, "running", attempt=attempt + 1)
            (await trainer.child()).kill()
        row = await until_failed(stack, job)
    assert (row.attempt, row.failure.code) == (MAX_DEATHS_AT_ONCE, "poison")
    released = [e.data["reason"] for e in await stack.events(job) if e.kind == "released"]
    assert len(released) == MAX_DEATHS_AT_ONCE and all("SIGKILL" in reason for reason in released)


async def test_what_cannot_be_trained_fails_with_its_reason(stack: JobStack):
    job = await stack.submit(STEPS, optimiser={"lr": 10.0}, options={"inner_lr": 10.0})
    with stack.trainer():
        row = await until_failed(stack, job)
    assert (row.attempt, row.failure.code, row.failure.param) == (1, "diverged", "optimiser.lr")
    assert (await kinds(stack, job))[-1] == "failed"


@pytest.mark.reliability("faults: trainer SIGKILLed", "one of several processes")
async def test_of_several_processes_of_a_job_one_dies_and_all_go_on(beside: "Future[Beside]"):
    found = await asyncio.wrap_future(beside)
    assert found.attempts == 1  # not the trainer's business
    assert found.shared == ["queued", "started", "resumed", "succeeded"]


async def test_a_process_that_does_not_hear_is_killed_when_its_job_is_cancelled(beside: "Future[Beside]"):
    assert (await asyncio.wrap_future(beside)).frozen == ["queued", "started", "cancelled"]
