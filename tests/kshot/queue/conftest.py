"""A real Valkey for the tests of the streams; each file has one of its own, for some of them stop it."""

from collections.abc import AsyncIterator, Iterator

import pytest
from redis.asyncio import Redis

from standalone import EmbeddedServers, embedded_servers


@pytest.fixture(scope="module")
def servers() -> Iterator[EmbeddedServers]:
    with embedded_servers() as running:
        yield running


@pytest.fixture
async def redis(servers: EmbeddedServers) -> AsyncIterator[Redis]:
    client = Redis.from_url(servers.redis_url)
    await client.flushall()
    yield client
    await client.aclose()
