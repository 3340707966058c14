"""Valkey or Postgres goes away, the disk is full: workers stay alive, accepted work is done in the end, once."""

import asyncio
import os
import resource
import signal
import sys

import pytest

from tests.flow.fault_stack import Stack, blobs, long_work

pytestmark = pytest.mark.flow


@pytest.mark.reliability("faults: Valkey killed, hung", "killed", "data deleted")
async def test_valkey_killed_and_its_data_deleted_loses_nothing(stack: Stack):
    support = blobs(1)
    with stack.worker() as worker:
        worker.signal(signal.SIGSTOP)  # these bells and this group are in the data that goes
        rung = [await stack.submit("near", blobs(seed)) for seed in range(3)]
        os.kill(stack.servers.pid("valkey"), signal.SIGKILL)
        await asyncio.to_thread(stack.servers.stop, "valkey")
        stack.servers.delete_data("valkey")
        worker.signal(signal.SIGCONT)
        unheard = [await stack.submit("near", support) for _ in range(3)]
        for task in [*rung, *unheard]:
            await stack.until(task, "succeeded")
        await asyncio.to_thread(stack.servers.start, "valkey")
        reply = await ask_until_answered(stack, unheard[0], support.inputs)
        assert [p["label"] for p in reply.predictions] == [support.classes[k] for k in support.targets]
        assert worker.process.poll() is None
    for task in [*rung, *unheard]:
        assert (await stack.row(task)).attempt == 1
        assert await stack.results(task) == 1


@pytest.mark.reliability("faults: Valkey killed, hung", "hung 10 s")
async def test_a_hung_valkey_delays_but_does_not_stop_adaptations(stack: Stack):
    support = blobs(2)
    with stack.worker() as worker:
        valkey = stack.servers.pid("valkey")
        os.kill(valkey, signal.SIGSTOP)
        try:
            task = await stack.submit("near", support)
            await stack.until(task, "succeeded")
            await asyncio.sleep(10)  # long enough for every timeout of every client to pass
            late = await stack.submit("near", support)
            await stack.until(late, "succeeded")
        finally:
            os.kill(valkey, signal.SIGCONT)
        reply = await ask_until_answered(stack, task, support.inputs)
        assert reply.failure is None
        assert worker.process.poll() is None


async def ask_until_answered(stack: Stack, model, query):
    """A call made while Valkey comes back may be lost, as any caller knows: he asks again."""
    for _ in range(10):
        try:
            return await stack.predict(model, query, wait_s=3)
        except (TimeoutError, AssertionError):
            continue
    raise AssertionError("no prediction was answered")


@pytest.mark.reliability("faults: Postgres down 10 s", "worker")
async def test_postgres_down_the_worker_stays_and_finishes_what_it_computed(stack: Stack):
    with stack.worker() as worker:
        task = await stack.submit("steps", *long_work(3))
        await stack.until(task, "running")
        await asyncio.to_thread(stack.servers.stop, "postgres")
        await worker.says("waiting")  # computed, and the commit does not go through
        await asyncio.to_thread(stack.servers.start, "postgres")
        await stack.until(task, "succeeded")
        assert await stack.results(task) == 1
        assert len(stack.states(task)) == 1
        other = await stack.submit("near", blobs(4))
        await stack.until(other, "succeeded")
        assert worker.process.poll() is None


@pytest.mark.reliability("faults: disk full", "adapt")
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="prlimit is Linux only")
async def test_a_full_disk_delays_a_task_and_leaves_no_partial_state(stack: Stack):
    with stack.worker() as worker:
        unlimited = resource.prlimit(worker.pid, resource.RLIMIT_FSIZE)
        resource.prlimit(worker.pid, resource.RLIMIT_FSIZE, (500_000, unlimited[1]))  # the state of `steps` is larger
        large = await stack.submit("steps", blobs(5))
        await worker.says("object_store_refused")
        small = await stack.submit("near", blobs(6))
        await stack.until(small, "succeeded")
        assert stack.states(large) == []
        assert (await stack.row(large)).status in ("queued", "running")
        resource.prlimit(worker.pid, resource.RLIMIT_FSIZE, unlimited)
        row = await stack.until(large, "succeeded")
        assert (row.attempt, len(stack.states(large))) == (1, 1)
