"""The trainer: claims meta-training jobs and has them trained, one at a time, and beside that compares checkpoints
that are to be promoted. It imports no torch itself, so it starts at once, and its heartbeats never wait for a
computation."""

import asyncio

import structlog

from kshot.storage.job_runs import JobClaim, claim_job, end_unheld
from kshot.storage.workers import worker_gone, worker_seen
from workers.job_run import JobRun
from workers.job_sweep import sweep_jobs
from workers.patience import every, is_away
from workers.promoting import Promoter
from workers.trainer_stack import TrainerStack

_POLL_S = 1.0
_LONGEST_PAUSE_S = 30.0
_SEEN_S = 2.0
_END_S = 5.0
_SWEEP_S = 60.0
_DRAIN_S = 30.0
"""For the child to save and end, and for its last words to be kept."""

_log = structlog.get_logger()


class Trainer:
    """One trainer process. Several may run side by side, on one machine or many."""

    def __init__(self, stack: TrainerStack) -> None:
        self._stack = stack
        self._promoter = Promoter(stack)

    async def run(self, stop: asyncio.Event) -> None:
        """Work until ``stop`` is set; then the running job saves its state and is queued again for the next trainer."""
        _log.info("trainer_ready", worker=self._stack.worker, device=self._stack.device, threads=self._stack.threads)
        async with asyncio.TaskGroup() as group:
            working = group.create_task(self._work(stop))
            beside = [
                group.create_task(every(_SEEN_S, self._seen)),
                group.create_task(every(_END_S, self._end_unheld)),
                group.create_task(every(_SWEEP_S, self._sweep)),
                group.create_task(every(_POLL_S, self._promoter.poll)),
            ]
            await stop.wait()
            _log.info("draining", worker=self._stack.worker)
            await asyncio.wait([working], timeout=_DRAIN_S)
            for task in (working, *beside):
                task.cancel()
        await self._leave()

    async def _work(self, stop: asyncio.Event) -> None:
        """One job after the other. Postgres is the queue; nothing rings. Where a job cannot be begun the pauses grow:
        each try leaves two events."""
        pause_s = _POLL_S
        while not stop.is_set():
            try:
                claim = await self._claim()
                if claim is not None and await JobRun(self._stack, claim, stop).run():
                    pause_s = _POLL_S
                    continue
            except Exception as error:
                _log.warning("job_broken_off", error=type(error).__name__, exc_info=None if is_away(error) else error)
                claim = None
            pause_s = _POLL_S if claim is None else min(2 * pause_s, _LONGEST_PAUSE_S)
            await _until(stop, pause_s)

    async def _claim(self) -> JobClaim | None:
        async with self._stack.database.begin() as connection:
            return await claim_job(connection, self._stack.worker, self._stack.lease_s)

    async def _end_unheld(self) -> None:
        async with self._stack.database.begin() as connection:
            await end_unheld(connection)

    async def _seen(self) -> None:
        async with self._stack.database.begin() as connection:
            await worker_seen(connection, self._stack.worker, self._stack.device, "trainer")

    async def _sweep(self) -> None:
        await sweep_jobs(self._stack.database, self._stack.objects)

    async def _leave(self) -> None:
        try:
            async with self._stack.database.begin() as connection:
                await worker_gone(connection, self._stack.worker)
        except Exception as error:
            _log.warning("not_signed_off", error=type(error).__name__)


async def _until(stop: asyncio.Event, seconds: float) -> None:
    """Sleep so long, or until ``stop`` is set."""
    try:
        async with asyncio.timeout(seconds):
            await stop.wait()
    except TimeoutError:
        pass
