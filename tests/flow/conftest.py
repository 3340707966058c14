"""One stack for all HTTP flow tests: real Postgres and Valkey, one API process with keys, one worker process; and for
the tests that break servers or workers, servers of their own."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import pytest

from benchmarks.own_service import own_service
from standalone import EmbeddedServers, embedded_servers
from tests.flow.fault_stack import Stack, open_stack, prepare
from tests.flow.http_stack import ADMIN_KEY, Api, migrate_and_publish, run_api, run_worker, write_checkpoints

_tests = count()
Query = Callable[..., list[Any]]


@dataclass(frozen=True)
class HttpStack:
    """A stack whose tenants need keys; the bootstrap admin key belongs to the default tenant."""

    servers: EmbeddedServers
    api: Api
    environ: dict[str, str]
    folder: Path
    worker_pid: int = 0
    _clients: list[httpx.Client] = field(default_factory=list)

    def client(self, key: str | None = ADMIN_KEY) -> httpx.Client:
        """A client with this key (None: without one)."""
        client = self.api.client(key)
        self._clients.append(client)
        return client

    def key(self, tenant: str, role: str = "user", **options: object) -> dict[str, str]:
        """A fresh key for a tenant, made over the API; ``key`` is its secret."""
        with self.api.client(ADMIN_KEY) as admin:
            body = {"name": "test", "tenant": tenant, "role": role, **options}
            answer = admin.post("/v1/api-keys", json=body)
        assert answer.status_code == 201, answer.text
        made: dict[str, str] = answer.json()
        return made

    def tenant(self, name: str) -> httpx.Client:
        """A client of a tenant."""
        return self.client(self.key(name)["key"])


@pytest.fixture(scope="session")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_checkpoints(tmp_path_factory.mktemp("checkpoints"))


@pytest.fixture(scope="session")
def http_stack(checkpoints: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[HttpStack]:
    folder = tmp_path_factory.mktemp("http")
    with embedded_servers() as servers:
        environ = {**servers.environ, "KSHOT_ADMIN_KEY": ADMIN_KEY, "KSHOT_HEADER_DEADLINE_S": "2"}
        migrate_and_publish(environ, checkpoints)
        with run_api(environ, folder) as api, run_worker(environ, folder, api) as worker:
            stack = HttpStack(servers, api, environ, folder, worker.pid)
            yield stack
            for client in stack._clients:
                client.close()


@pytest.fixture(scope="session")
def admin(http_stack: HttpStack) -> httpx.Client:
    return http_stack.client()


@pytest.fixture
def tenant(http_stack: HttpStack) -> Callable[[str], httpx.Client]:
    """Clients of tenants that only this test uses."""
    mine = next(_tests)
    return lambda name: http_stack.tenant(f"test-{mine}-{name}")


@pytest.fixture
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


@pytest.fixture(scope="session")
def page_url() -> Iterator[str]:
    """The service that `make serve` runs, for the examples of the pages."""
    with own_service() as running:
        yield running
