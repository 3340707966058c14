"""Requests of a minute, counted in a real Valkey by several processes' limiters."""

import asyncio
from collections.abc import AsyncIterator, Iterator

import pytest

from kshot.contracts.errors import RateLimited
from kshot.contracts.ids import new_id
from kshot.queue.link import Link
from service import rates as rates_of_service
from service.rates import Rates
from standalone import EmbeddedServers, embedded_servers


@pytest.fixture(scope="module")
def servers() -> Iterator[EmbeddedServers]:
    with embedded_servers() as running:
        yield running


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine that stalls for a moment has not lost its server."""
    monkeypatch.setattr(rates_of_service, "_PATIENCE_S", 60)


@pytest.fixture
async def links(servers: EmbeddedServers) -> AsyncIterator[list[Link]]:
    made = [Link(servers.redis_url) for _ in range(2)]
    yield made
    for link in made:
        await link.close()


async def passed(rates: Rates, tenant: str, count: int) -> int:
    outcomes = await asyncio.gather(*(rates.hit(tenant) for _ in range(count)), return_exceptions=True)
    assert all(outcome is None or isinstance(outcome, RateLimited) for outcome in outcomes)
    return sum(outcome is None for outcome in outcomes)


async def test_exactly_so_many_pass_also_of_those_that_come_together(links: list[Link]) -> None:
    tenant, other = new_id("ten"), new_id("ten")
    first, second = (Rates(link, per_minute=20) for link in links)
    assert await passed(first, tenant, 7) == 7
    assert await passed(second, tenant, 7) == 7
    assert sum(await asyncio.gather(passed(first, tenant, 10), passed(second, tenant, 10))) == 6
    assert await passed(first, other, 25) == 20


async def test_the_minute_before_counts_with_what_is_left_of_it(links: list[Link]) -> None:
    tenant, link = new_id("ten"), links[0]
    rates = Rates(link, per_minute=20)
    assert await passed(rates, tenant, 20) == 20
    await link.ask("PEXPIRE", f"kshot:rate:{{{tenant}}}:now", 30_000)  # that minute ended half a minute ago
    assert 10 <= await passed(rates, tenant, 20) < 20  # one more for each 3 s that this took
    refused = await asyncio.gather(*(rates.hit(tenant) for _ in range(20)), return_exceptions=True)
    waits = [outcome.retry_after for outcome in refused if isinstance(outcome, RateLimited)]
    assert waits and all(wait is not None and 0 <= wait <= 3 for wait in waits)  # 20 of it go in 60 s


async def test_a_server_that_forgot_the_script_is_told_again(links: list[Link]) -> None:
    tenant = new_id("ten")
    rates = Rates(links[0], per_minute=20)
    assert await passed(rates, tenant, 5) == 5
    await links[0].ask("SCRIPT", "FLUSH")
    assert await passed(rates, tenant, 20) == 15
