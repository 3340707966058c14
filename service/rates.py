"""Requests per minute and tenant, counted in Redis for all API processes; in memory while Redis is away."""

import asyncio
import time
from typing import Any

from limits import RateLimitItemPerMinute
from limits.aio.storage import MemoryStorage, RedisStorage
from limits.aio.strategies import SlidingWindowCounterRateLimiter
from redis.asyncio import Redis

from kshot.contracts.errors import RateLimited
from kshot.queue.streams import Away, open_redis

_PATIENCE_S = 0.25
_PAUSE_S = 2.0
"""After Redis did not answer, count in memory this long before asking again: no request waits on a hung server."""


class Rates:
    """The limiter of one API process."""

    def __init__(self, redis_url: str, per_minute: int) -> None:
        self._item = RateLimitItemPerMinute(per_minute)
        self._redis: Redis = open_redis(redis_url)
        options: dict[str, Any] = {"connection_pool": self._redis.connection_pool}
        # The pool knows the address; the URL here only says which of its clients `limits` should use.
        storage = RedisStorage("redis://pool:1", implementation="redispy", **options)
        self._shared = SlidingWindowCounterRateLimiter(storage)
        self._local = SlidingWindowCounterRateLimiter(MemoryStorage())
        self._away_until = 0.0

    async def hit(self, tenant: str) -> None:
        """Count one request. RateLimited where the tenant has none left."""
        limiter = self._shared if time.monotonic() >= self._away_until else self._local
        try:
            async with asyncio.timeout(_PATIENCE_S):
                wait_s = await self._count(limiter, tenant)
        except Away:
            self._away_until = time.monotonic() + _PAUSE_S
            wait_s = await self._count(self._local, tenant)
        if wait_s is not None:
            raise RateLimited(
                f"more than {self._item.amount} requests in a minute; try again later", retry_after=wait_s
            )

    async def _count(self, limiter: SlidingWindowCounterRateLimiter, tenant: str) -> float | None:
        """None where the request is within the rate, else the seconds until the window lets the next one in."""
        if await limiter.hit(self._item, tenant):
            return None
        stats = await limiter.get_window_stats(self._item, tenant)
        return stats.reset_time - time.time()

    async def close(self) -> None:
        """Close the connections."""
        await self._redis.aclose()
