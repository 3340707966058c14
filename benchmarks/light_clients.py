"""What one command to Redis and one statement to Postgres cost the process that asks, by our way and by a library's.

`REDIS_URL=... DATABASE_URL=... python -m benchmarks.light_clients`; `python -m standalone servers` prints both.
Processor milliseconds each, the median of five rounds: the reason for `kshot/queue/link.py` and for `fetch` in
`kshot/storage/database.py`.
"""

import asyncio
import os
import statistics
import time
from collections.abc import Awaitable, Callable

import uvloop
from redis.asyncio import BlockingConnectionPool, Redis
from sqlalchemy import literal, select

from kshot.queue.link import Link
from kshot.storage.database import fetch, open_database

_ROUNDS, _COMMANDS, _AT_ONCE = 5, 1024, 64

Ask = Callable[[], Awaitable[object]]


async def main() -> None:
    redis = Redis.from_pool(BlockingConnectionPool.from_url(os.environ["REDIS_URL"], max_connections=16, protocol=2))
    link, database = Link(os.environ["REDIS_URL"]), open_database(os.environ["DATABASE_URL"])
    for name, ask in (("redis-py", lambda: redis.xlen("nothing")), ("Link", lambda: link.ask("XLEN", "nothing"))):
        print(f"{name}: {await cost(ask, 1):.3f} ms a command, {await cost(ask, _AT_ONCE):.3f} with {_AT_ONCE} at once")
    async with database.connect() as connection:
        smallest = select(literal(1), literal("x"))
        print(f"SQLAlchemy: {await cost(lambda: connection.execute(smallest), 1):.3f} ms a statement")
        print(
            f"fetch: {await cost(lambda: fetch(connection, 'SELECT $1::int, $2::text', 1, 'x'), 1):.3f} ms a statement"
        )
    await link.close()
    await redis.aclose()
    await database.dispose()


async def cost(ask: Ask, at_once: int) -> float:
    """Processor milliseconds of one of them, so many at a time."""
    rounds = []
    for _ in range(_ROUNDS):
        started = time.process_time()
        for _ in range(_COMMANDS // at_once):
            await asyncio.gather(*(ask() for _ in range(at_once)))
        rounds.append((time.process_time() - started) / _COMMANDS * 1000)
    return statistics.median(rounds)


if __name__ == "__main__":
    uvloop.run(main())
