"""Work comes in: from the streams, from Postgres, and from workers that died."""

import asyncio
import time
from collections.abc import Coroutine, Sequence
from typing import Any

import structlog

from kshot.contracts.errors import KshotError
from kshot.contracts.selection import AUTO
from kshot.contracts.worker_stats import Unwanted
from kshot.queue.work import Delivered
from kshot.storage import claiming
from kshot.storage.tasks import Claim
from workers.answering import Answerer
from workers.batching import Queues
from workers.decoding import adapt_work, in_thread_if_large, predict_work
from workers.lateness import Lateness
from workers.leases import Leases
from workers.models import Models
from workers.patience import is_away
from workers.settling import Settler
from workers.spans import trace_ended
from workers.stack import Stack
from workers.steps import Steps
from workers.work import Failed, Work

_BATCHES_AHEAD = 2  # one is computed or committed while the next one fills
_BYTES_AHEAD = 256 * 1024 * 1024  # of payloads, each of claims and of calls
_CALLS_AT_ONCE = 32  # of up to some 64 MiB each: what one read of the stream may bring
_REDIS_AWAY_S = 0.5
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.5, 10.0

_log = structlog.get_logger()


class Intake:
    """Claims and takes over work, decodes it, and queues it; never more than two batches ahead of the processor."""

    def __init__(
        self,
        stack: Stack,
        models: Models,
        leases: Leases,
        queues: Queues,
        settler: Settler,
        answerer: Answerer,
        lateness: Lateness,
    ) -> None:
        self._stack = stack
        self._models = models
        self._leases = leases
        self._queues = queues
        self._settler = settler
        self._answerer = answerer
        self._lateness = lateness
        self.steps = Steps()
        self._calls: dict[bytes, int] = {}
        self._resume_at = 0.0
        self._pause_s = _FIRST_PAUSE_S

    async def listen(self) -> None:
        """Take from the streams for ever. While Redis is away, `poll` finds the tasks."""
        while True:
            try:
                await self._take()
            except Exception as error:
                _log.warning("not_listening", error=type(error).__name__, exc_info=not is_away(error))
                await asyncio.sleep(_REDIS_AWAY_S)

    async def _take(self) -> None:
        taken = await self._stack.queue.take(min(await self._room(), _CALLS_AT_ONCE))
        if taken.calls:  # not waited for: some states may have to be read, and the next calls are welcome meanwhile
            self.steps.start(self._accept(taken.calls))
        if taken.bells:
            await self.steps.run(self._claim_rung(len(taken.bells)))

    async def poll(self) -> None:
        """Claim what no bell announced, until nothing is left: the bell was lost, or a lease expired."""
        found = self._task_room()
        while found > 0:
            await self._room()
            found = len(await self.steps.run(self._claim(self._stack.limits.tasks)))

    async def replay(self) -> None:
        """Claim replays, for which nobody waits, a small batch at a time, until nothing is left. The next one only
        when the last has ended: a caller's task never waits for more than one of them."""
        found = 1
        while found > 0:
            while self._leases.background:
                await self._change()
            found = len(await self.steps.run(self._claim(self._stack.limits.replays, background=True)))

    async def claim_last_chance(self) -> Work | None:
        """A task at its last attempt. It must run by itself: its neighbours must not go down with it."""
        if time.monotonic() < self._resume_at:
            return None
        async with self._stack.database.connect() as connection:
            claims = await claiming.claim(connection, self._stack.worker, self._stack.lease_s, 1, last_chance=True)
        works, failed = await self._decoded(claims)
        await self._refuse(failed)
        return works[0] if works else None

    async def take_over(self) -> None:
        """Take over the calls of workers that stopped answering."""
        idle_ms = int(self._stack.lease_s * 1000 / 3)
        calls = await self._stack.queue.take_over(idle_ms, self._stack.limits.queries)
        await self.steps.run(self._accept([call for call in calls if call.message not in self._calls]))

    def pause(self) -> None:
        """Claim nothing for a while: the object store refuses, and computing for it would be in vain."""
        self._resume_at = time.monotonic() + self._pause_s
        _log.warning("claims_paused", seconds=self._pause_s)
        self._pause_s = min(2 * self._pause_s, _LONGEST_PAUSE_S)

    def unpause(self) -> None:
        """The object store takes what it is given."""
        self._pause_s = _FIRST_PAUSE_S

    def ended(self, calls: Sequence[Delivered]) -> None:
        """Calls ended: there is room again."""
        for call in calls:
            self._calls.pop(call.message, None)
        self._leases.roomier.set()

    def _task_room(self) -> int:
        if self._leases.bytes >= _BYTES_AHEAD:
            return 0
        return min(_BATCHES_AHEAD * self._stack.limits.tasks - len(self._leases), self._stack.limits.tasks)

    async def _room(self) -> int:
        while (room := min(self._task_room(), self._call_room())) <= 0:
            await self._change()
        return room

    async def _change(self) -> None:
        self._leases.roomier.clear()
        await self._leases.roomier.wait()

    def _call_room(self) -> int:
        if sum(self._calls.values()) >= _BYTES_AHEAD:
            return 0
        return _BATCHES_AHEAD * self._stack.limits.queries - len(self._calls)

    async def _claim_rung(self, bells: int) -> None:
        """Each bell is good for one task, not for its own: a neighbour may have waited longer. A task whose worker died
        rings none, so it must not use up another's: as many are claimed again."""
        left = bells
        while left > 0:
            claims = await self._claim(min(left, max(self._task_room(), 1)))
            left = sum(claim.attempt > 1 for claim in claims)

    async def _claim(self, most: int, *, background: bool = False) -> Sequence[Claim]:
        if time.monotonic() < self._resume_at:
            return []
        try:
            async with self._stack.database.connect() as connection:
                claims = await claiming.claim(
                    connection, self._stack.worker, self._stack.lease_s, most, background=background
                )
        except Exception as error:
            _log.warning("claim_failed", error=type(error).__name__)
            return []
        works, failed = await self._decoded(claims)
        for work in works:
            self._put(work)
        await self._refuse(failed)
        return claims

    def _put(self, work: Work) -> None:
        if work.key.checkpoint != AUTO:
            self._models.expect(work.key.checkpoint)
        self._queues.put(work)

    async def _decoded(self, claims: Sequence[Claim]) -> tuple[list[Work], list[Failed]]:
        """The work of the claims, which are held from now on: each of them must be queued, or ended."""
        self._leases.hold(claims)
        self._stack.counts.claimed(claims)
        works, failed = [], []
        for claim in claims:
            try:
                works.append(await in_thread_if_large(adapt_work, claim, claim.bytes))
            except Exception as error:
                if not isinstance(error, KshotError):
                    _log.error("task_not_decoded", task_id=claim.task_id, request_id=claim.request_id, exc_info=error)
                failed.append(Failed(claim, error))
        return works, failed

    async def _refuse(self, failed: Sequence[Failed]) -> None:
        """End the claims that are no work."""
        if failed:
            self._stack.counts.ended(failed)
            await self._settler.settle(failed)
            trace_ended(failed)

    def _accept(self, calls: Sequence[Delivered]) -> Coroutine[Any, Any, None]:
        """Counts them at once, before the next are taken."""
        self._calls |= {call.message: len(call.payload) for call in calls}
        return self._decode_all(calls)

    async def drop(self, unwanted: Sequence[tuple[Delivered, Unwanted]]) -> None:
        """Strike calls that nobody waits for; nobody is told."""
        calls = [call for call, _ in unwanted]
        self._stack.counts.dropped(unwanted)
        if calls:
            await self._answerer.drop(calls)
        self.ended(calls)

    async def _decode_all(self, calls: Sequence[Delivered]) -> None:
        reasons = [(call, self._lateness.reason(call, call.waited_ms)) for call in calls]
        await self.drop([(call, reason) for call, reason in reasons if reason is not None])
        calls = [call for call, reason in reasons if reason is None]
        failed = [one for one in await asyncio.gather(*map(self._decode, calls)) if one is not None]
        if failed:
            self._stack.counts.ended(failed)
            await self._answerer.answer(failed)
            self.ended([call for call in calls if any(call is one.origin for one in failed)])
            trace_ended(failed)

    async def _decode(self, call: Delivered) -> Failed | None:
        """Queues the call's work as soon as its state is there; the others of the same read are not waited for."""
        try:
            self._put(await predict_work(call, self._models))
        except Exception as error:
            if not isinstance(error, KshotError) and not is_away(error):
                _log.error("call_not_decoded", request_id=call.call.request_id, model=call.call.model, exc_info=error)
            return Failed(call, error)
        return None
