"""A worker's own clock counts for nothing: leases and deadlines go by the servers' clocks."""

import asyncio
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.flow.fault_stack import LEASE_S, Stack, Submitted, WorkerProcess, blobs, long_work
from tests.flow.stacks import wrong_clock

pytestmark = pytest.mark.flow


@pytest.mark.reliability("faults: worker clock off by an hour", "tasks", "predict")
async def test_worker_clock_off_by_an_hour_leases_unchanged(stack: Stack, tmp_path: Path):
    with worker_off_by(stack, 3600, tmp_path) as ahead, worker_off_by(stack, -3600, tmp_path) as behind:
        for holder, other in ((ahead, behind), (behind, ahead)):
            other.signal(signal.SIGSTOP)
            task = await stack.submit("steps", *long_work(1))
            assert (await stack.until(task, "running")).worker == holder.id
            other.signal(signal.SIGCONT)
            await held_until_done(stack, task)
        behind.signal(signal.SIGSTOP)
        task = await stack.submit("steps", *long_work(2))
        await stack.until(task, "running")
        ahead.kill()
        behind.signal(signal.SIGCONT)
        assert (await stack.until(task, "succeeded")).attempt == 2
        assert (await stack.predict(task, blobs(2).inputs)).predictions


@contextmanager
def worker_off_by(stack: Stack, seconds: int, folder: Path) -> Iterator[WorkerProcess]:
    with stack.worker(**wrong_clock(folder, seconds)) as worker:
        worker.wait_for("clock_moved")
        yield worker


async def held_until_done(stack: Stack, task: Submitted) -> None:
    """Nobody takes the task while its holder beats, and the holder has it no longer than a lease from now."""
    lease_left = "SELECT extract(epoch FROM lease_until - clock_timestamp()) FROM tasks WHERE id = :id"
    while (row := await stack.row(task)).status == "running":
        left = await stack.scalar(lease_left, id=task.task_id)
        assert row.attempt == 1
        assert left is None or 0 < left <= LEASE_S  # None: it ended between the two looks
        await asyncio.sleep(0.05)
    assert (row.status, row.attempt) == ("succeeded", 1)
