"""What HTTP flow tests share beside their stack (stacks.py): callers and the database. For the tests that break servers
or workers, servers of their own."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from itertools import count
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import pytest

from standalone import EmbeddedServers, embedded_servers
from tests.flow.fault_stack import Stack, open_stack, prepare
from tests.flow.http_stack import HttpStack

__all__ = ["HttpStack", "Query"]
_tests = count()
Query = Callable[..., list[Any]]


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.import_plugin("tests.flow.stacks")


@pytest.fixture(scope="session")
def admin(http_stack: HttpStack) -> httpx.Client:
    return http_stack.client()


@pytest.fixture
def tenant(http_stack: HttpStack) -> Callable[[str], httpx.Client]:
    """Clients of tenants that only this test uses."""
    mine = next(_tests)
    return lambda name: http_stack.tenant(f"test-{mine}-{name}")


@pytest.fixture(scope="session")
def query(http_stack: HttpStack) -> Query:
    """Statements on the stack's own database, as an operator would type them."""

    async def run(statement: str, *values: Any) -> list[Any]:
        connection = await asyncpg.connect(http_stack.servers.database_url)
        try:
            return list(await connection.fetch(statement, *values))
        finally:
            await connection.close()

    return lambda statement, *values: asyncio.run(run(statement, *values))


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[EmbeddedServers, Path]]:
    with embedded_servers() as servers:
        yield servers, prepare(servers, tmp_path_factory.mktemp("faults"))


@pytest.fixture
async def stack(prepared: tuple[EmbeddedServers, Path]) -> AsyncIterator[Stack]:
    """The service's side of servers that a test may break."""
    async with open_stack(*prepared) as opened:
        yield opened
