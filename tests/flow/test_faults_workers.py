"""Workers that die, hang, race, or leave: nothing is lost, nothing counts twice."""

import asyncio
import signal

import numpy as np
import pytest
from sqlalchemy import text

from kshot.contracts.ids import new_id
from kshot.contracts.tasks import LearnerOptions, Payload, PredictCall
from kshot.storage import claiming
from tests.flow.fault_stack import LEASE_S, Stack, blobs, long_work

pytestmark = pytest.mark.flow


@pytest.mark.reliability("faults: worker SIGKILLed mid-adapt", "adapt")
async def test_a_worker_killed_in_the_middle_of_an_adaptation_costs_one_attempt(stack: Stack):
    with stack.worker() as first:
        task = await stack.submit("steps", *long_work())
        await stack.until(task, "running")
        first.kill()
        assert await stack.results(task) == 0
    with stack.worker():
        row = await stack.until(task, "succeeded")
    assert row.attempt == 2
    assert await stack.results(task) == 1
    assert stack.states(task) == [f"{task.task_id}-2.safetensors"]


@pytest.mark.reliability("faults: zombie worker", "adapt")
async def test_a_zombie_that_wakes_past_its_lease_leaves_no_second_result(stack: Stack):
    with stack.worker() as zombie, stack.worker() as heir:
        zombie.signal(signal.SIGSTOP)  # so that the heir takes the first one, and is free again
        await stack.until(await stack.submit("near", blobs(0)), "succeeded")
        heir.signal(signal.SIGSTOP)
        zombie.signal(signal.SIGCONT)
        task = await stack.submit("steps", *long_work(1))
        await stack.until(task, "running")
        zombie.signal(signal.SIGSTOP)
        await asyncio.sleep(LEASE_S)
        heir.signal(signal.SIGCONT)
        assert (await stack.until(task, "succeeded")).attempt == 2
        zombie.signal(signal.SIGCONT)
        zombie.wait_for("result_dropped")
        assert zombie.process.poll() is None
    assert await stack.results(task) == 1
    assert stack.states(task) == [f"{task.task_id}-2.safetensors"]


@pytest.mark.reliability("faults: two workers race", "tasks")
async def test_eight_claimers_share_five_hundred_tasks_without_a_double(stack: Stack):
    support = blobs(2)
    submitted = [await stack.submit("near", support, ring=False) for _ in range(500)]

    async def claimer(name: str) -> list[str]:
        mine: list[str] = []
        while True:
            async with stack.database.begin() as connection:
                claims = await claiming.claim(connection, name, 60, 7)
            if not claims:
                return mine
            mine += [claim.task_id for claim in claims]

    shares = await asyncio.gather(*(claimer(new_id("wrk")) for _ in range(8)))
    claimed = [task for share in shares for task in share]
    assert len(claimed) == 500
    assert set(claimed) == {task.task_id for task in submitted}
    assert await stack.scalar("SELECT max(attempt) FROM tasks WHERE id = :id", id=claimed[0]) == 1
    await stack.forget_open()


@pytest.mark.reliability("faults: SIGTERM with 5 running", "five claimed")
async def test_terminated_with_work_running_and_waiting_it_loses_nothing(stack: Stack):
    with stack.worker(KSHOT_BATCH_TASKS="1") as leaving:
        running = await stack.submit("steps", *long_work(3))
        await stack.until(running, "running")
        waiting = [await stack.submit("near", blobs(seed)) for seed in range(4)]
        await stack.until(waiting[0], "running")
        leaving.signal(signal.SIGTERM)
        assert leaving.process.wait(timeout=120) == 0
    assert (await stack.row(running)).status == "succeeded"
    rows = [await stack.row(task) for task in waiting]
    assert {(row.status, row.attempt) for row in rows} == {("queued", 0)}
    assert await stack.scalar("SELECT count(*) FROM workers WHERE id = :id", id=leaving.id) == 0
    with stack.worker():
        for task in waiting:
            assert (await stack.until(task, "succeeded")).attempt == 1


@pytest.mark.reliability("faults: SIGTERM with 5 running", "five running")
async def test_terminated_with_five_running_it_finishes_them_and_claims_no_other(stack: Stack):
    async with stack.database.connect() as connection:
        await connection.execute(text("LOCK TABLE results IN EXCLUSIVE MODE"))  # a commit takes its time
        with stack.worker() as leaving:
            leaving.signal(signal.SIGSTOP)  # so that all of them wait in one batch
            running = [await stack.submit("near", blobs(seed)) for seed in range(10, 15)]
            leaving.signal(signal.SIGCONT)
            for task in running:
                await stack.until(task, "running")
            await stack.until_locked_out()
            leaving.signal(signal.SIGTERM)
            await leaving.says("draining")
            late = await stack.submit("near", blobs(15))
            await connection.rollback()
            assert leaving.process.wait(timeout=120) == 0
    ended = {tuple(await stack.row(task))[:2] for task in running}
    assert ("succeeded", 1) in ended and ended <= {("succeeded", 1), ("queued", 0)}  # finished, or given back unspent
    assert tuple(await stack.row(late))[:2] == ("queued", 0)
    await stack.forget_open()


@pytest.mark.reliability("faults: poison task", "adapt")
async def test_a_task_that_ends_its_worker_each_time_is_given_up_and_takes_no_other_down(stack: Stack):
    poison = None
    for attempt in (1, 2, 3):
        with stack.worker() as worker:
            poison = poison or await stack.submit("steps", *long_work(4))
            await eventually_at(stack, poison, attempt)
            if attempt == 1:  # claimed beside the poison, and lost with it
                neighbours = [await stack.submit("near", blobs(seed)) for seed in range(5)]
                await stack.until(neighbours[-1], "running")
            worker.kill()
    with stack.worker():
        row = await stack.until(poison, "failed")
        assert row.failure["code"] == "poison"
        for task in neighbours:
            await stack.until(task, "succeeded")


@pytest.mark.reliability("faults: poison task", "adapt")
async def test_an_innocent_at_its_last_attempt_is_safe_from_the_poison_behind_it(stack: Stack):
    innocent = await stack.submit("near", blobs(7), ring=False)
    poison = await stack.submit("steps", *long_work(8), ring=False)
    async with stack.database.begin() as connection:
        await connection.execute(
            text("UPDATE tasks SET attempt = max_attempts - 1 WHERE id IN (:a, :b)"),
            {"a": innocent.task_id, "b": poison.task_id},
        )
    async with stack.database.connect() as connection:
        await connection.execute(text("LOCK TABLE results IN EXCLUSIVE MODE"))  # a commit takes its time
        with stack.worker() as worker:
            await stack.until(innocent, "running")
            await asyncio.sleep(1)  # time enough to start the next, and to die of it
            assert (await stack.row(poison)).status == "queued"
            await connection.rollback()
            await stack.until(poison, "running")
            worker.kill()
    assert (await stack.row(innocent)).status == "succeeded"
    with stack.worker():
        assert (await stack.until(poison, "failed")).failure["code"] == "poison"


async def eventually_at(stack: Stack, task: object, attempt: int) -> None:
    async with asyncio.timeout(120):
        while (row := await stack.row(task)).status != "running" or row.attempt != attempt:
            await asyncio.sleep(0.02)


@pytest.mark.reliability("faults: one invalid item inside a batch", "adapt")
async def test_one_bad_item_in_a_batch_fails_alone(stack: Stack):
    good, bad = [blobs(seed) for seed in range(12)], blobs(99)
    bad.inputs[2, 3] = np.nan
    with stack.worker() as worker:
        worker.signal(signal.SIGSTOP)  # so that all of them wait in one batch
        submitted = [await stack.submit("near", support) for support in good]
        broken = await stack.submit("near", bad)
        unreadable = await stack.submit("near", blobs(98), payload=b"no safetensors at all")
        worker.signal(signal.SIGCONT)
        assert (await stack.until(broken, "failed")).failure["code"] == "adaptation_failed"
        assert (await stack.until(unreadable, "failed")).failure["code"] == "invalid"
        for task in submitted:
            await stack.until(task, "succeeded")
        worst = await stack.scalar("SELECT max((timings->>'batch_size')::int) FROM results")
        assert worst > 1
        assert "no safetensors" not in worker.log.read_text()


async def test_a_payload_that_breaks_its_decoding_is_in_no_log(stack: Stack):
    whole = Payload(blobs(9), options=LearnerOptions(learner="protonet")).encode()
    options = whole.replace(b"protonet", b"a secret").replace(b"learner", b"LEARNER")  # an option nobody knows
    with stack.worker() as worker:
        broken = await stack.submit("near", blobs(9), payload=options)
        await stack.until(broken, "failed")
        async with asyncio.timeout(120):  # the line comes after the commit
            while broken.task_id not in (log := worker.log.read_text()):
                await asyncio.sleep(0.1)
    assert "task_failed" in log
    assert "secret" not in log


@pytest.mark.reliability("faults: worker SIGKILLed mid-adapt", "predict")
async def test_predictions_of_a_worker_that_died_are_taken_over(stack: Stack):
    support = blobs(5)
    with stack.worker() as first:
        model = await stack.submit("near", support)
        await stack.until(model, "succeeded")
        first.signal(signal.SIGSTOP)
        answers = [asyncio.create_task(stack.predict(model, support.inputs)) for _ in range(3)]
        with stack.worker():
            first.signal(signal.SIGKILL)
            replies = await asyncio.gather(*answers)
    for reply in replies:
        assert [p["label"] for p in reply.predictions] == [support.classes[k] for k in support.targets]
    assert await stack.scalar("SELECT count(*) FROM predictions WHERE adapted_model_id = :id", id=model.model_id) == 3


@pytest.mark.reliability("faults: zombie worker", "predict")
async def test_predictions_of_a_zombie_are_recorded_once(stack: Stack):
    """It wakes when another worker has answered its calls, and answers them again: to nobody."""
    support = blobs(7)
    recorded = "SELECT count(*) FROM predictions WHERE adapted_model_id = :id"
    with stack.worker() as zombie:
        model = await stack.submit("near", support)
        await stack.until(model, "succeeded")
        zombie.signal(signal.SIGSTOP)
        answers = [asyncio.create_task(stack.predict(model, support.inputs)) for _ in range(3)]
        with stack.worker() as heir:
            assert all(reply.predictions for reply in await asyncio.gather(*answers))
            heir.signal(signal.SIGSTOP)
            zombie.signal(signal.SIGCONT)
            assert (await stack.predict(model, support.inputs)).predictions  # it reads its calls in order
            assert zombie.process.poll() is None
    assert await stack.scalar(recorded, id=model.model_id) == 4


async def test_a_call_that_comes_twice_has_the_one_answer_that_is_recorded(stack: Stack):
    """A worker that records an answer and dies leaves the call to another one, in another batch: other last digits."""
    async with asyncio.timeout(120):
        with stack.worker():
            model = await stack.submit("near", blobs(10))
            await stack.until(model, "succeeded")
            call = PredictCall(
                id=new_id("pred"), tenant=model.tenant, checkpoint=model.checkpoint_id, model=model.model_id,
                reply_to=stack.front.reply_to, deadline_ms=60_000,
            )  # fmt: skip
            inputs = blobs(10).inputs
            first, second = [await stack.call(call, Payload(query=rows)) for rows in (inputs, inputs[::-1] + 0.1)]
    assert second.predictions == first.predictions and second.timings == first.timings
    statement = "SELECT predictions FROM predictions WHERE id = :id"
    assert await stack.scalar(statement, id=call.id) == first.predictions


async def test_a_prediction_nobody_waits_for_any_more_is_dropped(stack: Stack):
    with stack.worker() as worker:
        model = await stack.submit("near", blobs(6))
        await stack.until(model, "succeeded")
        worker.signal(signal.SIGSTOP)
        with pytest.raises(TimeoutError):
            await stack.predict(model, blobs(6).inputs, wait_s=0.3)
        worker.signal(signal.SIGCONT)
        assert (await stack.predict(model, blobs(6).inputs)).predictions  # the stream is read in order
        for _ in range(100):  # a call leaves the stream a moment after its answer does
            if await stack.front.backlog() == 0:
                break
            await asyncio.sleep(0.1)
        assert await stack.front.backlog() == 0
    statement = "SELECT count(*) FROM predictions WHERE adapted_model_id = :id"
    assert await stack.scalar(statement, id=model.model_id) == 1
