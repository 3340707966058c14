"""The adaptation worker: take work in, compute batch after batch, end each item, drain when asked to stop."""

import asyncio
import gc
import time
from collections.abc import Coroutine, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import structlog

from kshot.contracts.selection import AUTO
from kshot.queue.work import Delivered
from kshot.storage.tasks import Claim
from kshot.storage.workers import worker_gone, worker_seen
from kshot.tracing import Stretch
from workers.answering import Answerer, delivered_of
from workers.batching import Queues
from workers.choosing import decide
from workers.device import DeviceLost, is_lost
from workers.executing import solve
from workers.intake import Intake
from workers.lateness import Lateness
from workers.leases import Leases
from workers.models import Models
from workers.patience import every
from workers.reaper import erase, reap
from workers.settling import Settler
from workers.spans import trace_ended
from workers.stack import Stack
from workers.steps import Steps
from workers.sweeping import sweep
from workers.warming import warm_up
from workers.work import Failed, Outcome, Work

_POLL_S = 2.0
_SEEN_S = 2.0
_REAP_S = 5.0
_ERASE_S = 60.0
_SWEEP_S = 3600.0
_DRAIN_S = 10.0

_log = structlog.get_logger()


class AdaptationWorker:
    """One worker process. Several may run side by side, on one machine or many."""

    def __init__(self, stack: Stack) -> None:
        self._stack = stack
        self._models = Models(stack.database, stack.objects, stack.device, stack.state_bytes)
        self._leases = Leases(stack.database, stack.lease_s)
        self._queues = Queues(stack.limits)
        self._settler = Settler(stack, self._models, self._leases)
        self._answerer = Answerer(stack.database, stack.queue)
        self._lateness = Lateness(stack.queue.left)
        self._intake = Intake(
            stack, self._models, self._leases, self._queues, self._settler, self._answerer, self._lateness
        )
        self._torch = ThreadPoolExecutor(1, "torch")
        self._processor = asyncio.Lock()
        self._endings = Steps()

    async def run(self, stop: asyncio.Event) -> None:
        """Work until ``stop`` is set, then drain. Raises DeviceLost."""
        stopped = asyncio.create_task(stop.wait())
        warm = asyncio.create_task(warm_up(self._stack.database, self._models, self._torch))
        await asyncio.wait([stopped, warm], return_when=asyncio.FIRST_COMPLETED)
        if stopped.done():
            return await _cancel([warm])
        gc.freeze()  # what was imported and loaded so far stays: no later collection need look through it
        _log.info("worker_ready", worker=self._stack.worker, device=str(self._stack.device))
        beat_s = self._stack.lease_s / 3
        hearts = _start(every(beat_s, self._leases.beat), every(_SEEN_S, self._seen))
        sources = _start(
            self._intake.listen(),
            self._lateness.listen(),
            every(_POLL_S, self._intake.poll),
            every(_POLL_S, self._intake.replay),
            every(_POLL_S, self._last_chances),
            every(_REAP_S, self._reap),
            every(_ERASE_S, self._erase),
            every(_SWEEP_S, self._sweep),
            every(beat_s, self._intake.take_over),
        )
        compute = asyncio.create_task(self._compute())
        await asyncio.wait([compute, stopped, *sources], return_when=asyncio.FIRST_COMPLETED)
        await self._drain(compute, sources)
        await _cancel([*hearts, stopped])
        await self._leave()
        _raise_first([compute, *sources])

    async def _compute(self) -> None:
        while (batch := await self._queues.next()) is not None:
            async with self._processor:
                if batch[0].key.checkpoint == AUTO:
                    for work in await self._decide(batch):
                        self._queues.put(work)
                else:
                    await self._run(batch)

    async def _last_chances(self) -> None:
        """Run each task at its last attempt by itself, between batches, so that it takes no other task down: those
        that were computed are committed before it starts, and it is before the next one does."""
        more = True
        while more:
            async with self._processor:
                more = await self._intake.steps.run(self._last_chance())
                if more:
                    await self._endings.finish()

    async def _last_chance(self) -> bool:
        work = await self._intake.claim_last_chance()
        if work is None:
            return False
        await self._endings.finish()
        await self._run([work] if work.key.checkpoint != AUTO else await self._decide([work]))
        return True

    async def _run(self, batch: list[Work]) -> None:
        if wanted := self._wanted(batch):
            began = time.monotonic()
            outcomes = await self._outcomes(wanted)
            self._endings.start(self._end(outcomes, (began, time.monotonic())))

    async def _decide(self, batch: list[Work]) -> list[Work]:
        """The work of the batch with its checkpoints chosen; what none can be chosen for is ended."""
        found = [await decide(work, self._models, self._torch) for work in self._wanted(batch)]
        failed = [outcome for outcome in found if isinstance(outcome, Failed)]
        self._check_device(failed)
        if failed:
            self._endings.start(self._end(failed))
        return [outcome for outcome in found if isinstance(outcome, Work)]

    async def _outcomes(self, batch: Sequence[Work]) -> list[Outcome]:
        try:
            checkpoint = await self._models.checkpoint(batch[0].key.checkpoint)
        except Exception as error:
            _log.error("checkpoint_not_loaded", checkpoint=batch[0].key.checkpoint, exc_info=error)
            return [Failed(work.origin, error) for work in batch]
        loop, started = asyncio.get_running_loop(), time.monotonic()
        if self._stack.device.type == "cpu" and self._queues.is_quick(batch):
            outcomes = solve(checkpoint, batch)
        else:
            outcomes = await loop.run_in_executor(self._torch, solve, checkpoint, batch)
        self._queues.took(batch, time.monotonic() - started)
        self._stack.counts.batch(len(batch))
        self._check_device(outcomes)
        return outcomes

    def _check_device(self, outcomes: Sequence[Outcome]) -> None:
        if any(isinstance(outcome, Failed) for outcome in outcomes) and is_lost(self._stack.device):
            raise DeviceLost("the GPU's context is broken")

    async def _end(self, outcomes: Sequence[Outcome], computed: Stretch | None = None) -> None:
        first = outcomes[0].origin if isinstance(outcomes[0], Failed) else outcomes[0].work.origin
        try:
            self._stack.counts.ended(outcomes)
            if isinstance(first, Claim):
                kept_up = await self._settler.settle(outcomes)
                self._intake.unpause() if kept_up else self._intake.pause()
            else:
                await self._answerer.answer(outcomes)
        except Exception as error:
            _log.error("ending_failed", count=len(outcomes), exc_info=error)
        finally:
            if not isinstance(first, Claim):
                self._intake.ended([delivered_of(outcome) for outcome in outcomes])
            trace_ended(outcomes, computed)

    def _wanted(self, batch: Sequence[Work]) -> list[Work]:
        """Without what nobody waits for any more: claims that were lost, which are another's by now, and calls whose
        deadline passed or whose caller left."""
        wanted, unwanted = [], []
        for work in batch:
            if isinstance(work.origin, Claim):
                if self._leases.holds(work.origin):
                    wanted.append(work)
            elif (reason := self._lateness.reason(work.origin, _waited_ms(work, work.origin))) is None:
                wanted.append(work)
            else:
                unwanted.append((work.origin, reason))
        if len(wanted) < len(batch):
            self._endings.start(self._intake.drop(unwanted))
        return wanted

    async def _drain(self, compute: "asyncio.Task[None]", sources: Sequence["asyncio.Task[None]"]) -> None:
        """No new claims; the running batch and short predictions are finished, claims not started are given back."""
        _log.info("draining", worker=self._stack.worker)
        await _cancel(sources)
        await self._intake.steps.finish(_DRAIN_S)
        unstarted = self._queues.take_out(lambda work: isinstance(work.origin, Claim))
        self._queues.close()
        await self._give_back([work.origin for work in unstarted if isinstance(work.origin, Claim)])
        await asyncio.wait([compute])
        await self._endings.finish(_DRAIN_S)

    async def _give_back(self, claims: Sequence[Claim]) -> None:
        """Whoever is idle takes them at once: their own bells were spent when they were claimed."""
        await self._settler.give_back(claims)
        try:
            await self._stack.queue.ring([claim.task_id for claim in claims])
        except Exception as error:
            _log.warning("not_rung", count=len(claims), error=type(error).__name__)

    async def _seen(self) -> None:
        stats = self._stack.counts.stats(self._models.counted())
        async with self._stack.database.begin() as connection:
            await worker_seen(connection, self._stack.worker, str(self._stack.device), stats=stats)

    async def _reap(self) -> None:
        await reap(self._stack.database, self._stack.objects)

    async def _erase(self) -> None:
        await erase(self._stack.database, self._stack.objects)

    async def _sweep(self) -> None:
        await sweep(self._stack.database, self._stack.objects, self._stack.keep)

    async def _leave(self) -> None:
        try:
            async with self._stack.database.begin() as connection:
                await worker_gone(connection, self._stack.worker)
        except Exception as error:
            _log.warning("not_signed_off", error=type(error).__name__)


def _waited_ms(work: Work, origin: Delivered) -> float:
    """Since the call was sent."""
    return origin.waited_ms + work.queued_ms + work.computed_ms + (time.monotonic() - work.arrived) * 1000


def _start(*loops: Coroutine[Any, Any, None]) -> list["asyncio.Task[None]"]:
    return [asyncio.create_task(loop) for loop in loops]


def _raise_first(ended: Sequence["asyncio.Task[None]"]) -> None:
    for task in ended:
        if not task.cancelled():
            task.result()


async def _cancel(tasks: Sequence["asyncio.Task[Any]"]) -> None:
    """Cancel until they end: in Python 3.11 a cancellation may be swallowed below, by `asyncio.wait_for` for one."""
    pending = {task for task in tasks if not task.done()}
    while pending:
        for task in pending:
            task.cancel()
        _, pending = await asyncio.wait(pending, timeout=0.5)
