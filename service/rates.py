"""Requests per minute and tenant, counted in Redis for all API processes; in memory while Redis is away.

A sliding window: the minute under way, and of the minute before the share that is still less than a minute ago. What
one tenant asks in one turn of the event loop is counted in one call.
"""

import asyncio
import time
from collections import defaultdict
from typing import Any

from limits import RateLimitItemPerMinute
from limits.aio.storage import MemoryStorage
from limits.aio.strategies import SlidingWindowCounterRateLimiter
from redis.exceptions import ResponseError

from kshot.contracts.errors import RateLimited, Unavailable
from kshot.queue.link import Link
from kshot.queue.streams import Away
from service.logs import log

_PATIENCE_S = 0.25
_PAUSE_S = 2.0
"""After Redis did not answer, count in memory this long before asking again: no request waits on a hung server."""
_MINUTE_MS = 60_000
_SCRIPT = """
local limit, minute, wanted = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local left = redis.call('pttl', KEYS[2])
if left > 0 and left < minute then  -- the window under way is over: it becomes the one before
    redis.call('rename', KEYS[2], KEYS[1])
    redis.call('set', KEYS[2], 0, 'PX', left + minute)
end
local before = tonumber(redis.call('get', KEYS[1])) or 0
local before_left = math.max(0, redis.call('pttl', KEYS[1]))
local now = tonumber(redis.call('get', KEYS[2])) or 0
local passed = math.max(0, math.min(wanted, limit - math.floor(before * before_left / minute) - now))
if passed > 0 and redis.call('exists', KEYS[2]) == 1 then
    redis.call('incrby', KEYS[2], passed)
elseif passed > 0 then
    redis.call('set', KEYS[2], passed, 'PX', 2 * minute)
end
return {passed, before, before_left, now, math.max(0, redis.call('pttl', KEYS[2]))}
"""
"""How many of the requests pass, and what was counted: before, and how long that counts on (ms); now, and so on."""

_Hits = defaultdict[tuple[str, int], list["asyncio.Future[None]"]]
"""Requests to be counted, by tenant and by how many it may send a minute."""


class Rates:
    """The limiter of one API process."""

    def __init__(self, link: Link, per_minute: int) -> None:
        self._link = link
        self._per_minute = per_minute
        self._local = SlidingWindowCounterRateLimiter(MemoryStorage())
        self._sha: str | None = None
        self._away_until = 0.0
        self._hits: _Hits = defaultdict(list)
        self._counting: set[asyncio.Task[None]] = set()

    def hit(self, tenant: str, per_minute: int | None = None) -> "asyncio.Future[None]":
        """Count one request. The future ends in RateLimited where the tenant has none left of ``per_minute`` (as many
        as anyone, where it has no quota of its own)."""
        loop = asyncio.get_running_loop()
        if not self._hits:
            task = loop.create_task(self._count_all())
            self._counting.add(task)
            task.add_done_callback(self._counting.discard)
        future: asyncio.Future[None] = loop.create_future()
        self._hits[tenant, per_minute or self._per_minute].append(future)
        return future

    async def _count_all(self) -> None:
        """Every tenant's requests of this turn. Each of them ends, whatever goes wrong here."""
        hits, self._hits = self._hits, defaultdict(list)
        try:
            await self._count(hits)
        except Exception as error:
            log.error("rates_not_counted", exc_info=error)
        finally:
            for future in (future for futures in hits.values() for future in futures if not future.done()):
                future.set_exception(Unavailable("requests cannot be counted; try again", retry_after=2))
                future.exception()

    async def _count(self, hits: _Hits) -> None:
        if time.monotonic() >= self._away_until:
            asked = {whose: self._ask(*whose, len(futures)) for whose, futures in hits.items()}
            try:
                async with asyncio.timeout(_PATIENCE_S):
                    for whose, futures in hits.items():
                        _settle(futures, whose[1], await self._answer(asked[whose], *whose, len(futures)))
                return
            except Away:
                self._away_until = time.monotonic() + _PAUSE_S
        for (tenant, limit), futures in hits.items():
            for future in futures:
                if not future.done():
                    await self._count_here(tenant, limit, future)

    def _ask(self, tenant: str, limit: int, count: int) -> "asyncio.Future[Any]":
        keys = (f"kshot:rate:{{{tenant}}}:before", f"kshot:rate:{{{tenant}}}:now")
        how = ("EVAL", _SCRIPT) if self._sha is None else ("EVALSHA", self._sha)
        return self._link.ask(*how, 2, *keys, limit, _MINUTE_MS, count)

    async def _answer(self, asked: "asyncio.Future[Any]", tenant: str, limit: int, count: int) -> list[int]:
        """The script's answer; the script is sent whole where Redis does not know it (any longer)."""
        try:
            answer: list[int] = await asked
        except ResponseError as error:
            if "NOSCRIPT" not in str(error):
                raise
            self._sha = None
            answer = await self._ask(tenant, limit, count)
        if self._sha is None:
            self._sha = (await self._link.ask("SCRIPT", "LOAD", _SCRIPT)).decode()
        return answer

    async def _count_here(self, tenant: str, limit: int, future: "asyncio.Future[None]") -> None:
        item = RateLimitItemPerMinute(limit)
        if await self._local.hit(item, tenant):
            if not future.done():
                future.set_result(None)
            return
        stats = await self._local.get_window_stats(item, tenant)
        _refuse(future, limit, stats.reset_time - time.time())


def _settle(futures: list["asyncio.Future[None]"], limit: int, answer: list[int]) -> None:
    passed, before, before_left, now, now_left = answer
    frees = [before_left % (_MINUTE_MS / before)] if before else []
    frees += [now_left % _MINUTE_MS] if now else []
    wait_s = min(frees, default=0) / 1000
    for i, future in enumerate(futures):
        if i >= passed:
            _refuse(future, limit, wait_s)
        elif not future.done():
            future.set_result(None)


def _refuse(future: "asyncio.Future[None]", limit: int, wait_s: float) -> None:
    if not future.done():
        message = f"more than {limit} requests in a minute; try again later"
        future.set_exception(RateLimited(message, retry_after=wait_s))
        future.exception()  # whoever is refused for another reason first need not hear of it
