"""More calls than can be answered, calls that come too late, and callers who leave."""

import asyncio
import json
import os
import signal
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import psutil
import pytest
from prometheus_client.parser import text_string_to_metric_families

from standalone import embedded_servers
from tests.flow.http_stack import (
    ADMIN_KEY,
    HttpStack,
    assert_problem,
    migrate_and_publish,
    run_api,
    run_worker,
    vector_task,
)

pytestmark = pytest.mark.flow
PATIENCE_S = 120
MOST = 16
"""Calls under way at a time; a lone tenant may have thirteen of them."""
ROOM = 13
QUESTION = {"inputs": [[5, 0, 0, 0]]}


@dataclass(frozen=True)
class Crowd:
    """A stack with a narrow gate, whose worker can be held."""

    stack: HttpStack

    @contextmanager
    def held(self) -> Iterator[None]:
        """The worker computes nothing meanwhile."""
        os.kill(self.stack.worker_pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(self.stack.worker_pid, signal.SIGCONT)

    def tenant(self, name: str) -> tuple[str, str]:
        """A key of a tenant, and a model of his."""
        key = self.stack.key(name)["key"]
        with self.stack.api.client(key) as client:
            return key, str(client.post("/adapt", json=vector_task(1)).json()["id"])

    def figure(self, name: str, **labels: str) -> float:
        """What /metrics says of it now, over all workers."""
        with self.stack.api.client(ADMIN_KEY) as client:
            families = text_string_to_metric_families(client.get("/metrics").text)
        samples = [sample for family in families for sample in family.samples if sample.name == name]
        return sum(one.value for one in samples if labels.items() <= one.labels.items())

    async def until(self, name: str, value: float, **labels: str) -> None:
        """Until a figure has reached this value."""
        deadline = time.monotonic() + PATIENCE_S
        while (found := await asyncio.to_thread(lambda: self.figure(name, **labels))) < value:
            assert time.monotonic() < deadline, f"{name} {labels} is {found}"
            await asyncio.sleep(0.05)

    async def calm(self) -> None:
        """After a refusal the gate is narrow for a second."""
        await asyncio.sleep(1.1)

    def asking(self, key: str, **headers: str) -> httpx.AsyncClient:
        headers["Authorization"] = f"Bearer {key}"
        limits = httpx.Limits(max_connections=None)
        return httpx.AsyncClient(base_url=self.stack.api.url, headers=headers, timeout=PATIENCE_S, limits=limits)


@pytest.fixture(scope="module")
def crowd(checkpoints: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Crowd]:
    folder = tmp_path_factory.mktemp("crowd")
    own = {"KSHOT_ADMIN_KEY": ADMIN_KEY, "KSHOT_MAX_CALLS": str(MOST)}
    own |= {"KSHOT_WORKER_SEEN_S": "600", "KSHOT_HEADER_DEADLINE_S": "600"}
    with embedded_servers() as servers:
        environ = {**servers.environ, **own, "KSHOT_PREDICT_DEADLINE_S": str(PATIENCE_S)}
        migrate_and_publish(environ, checkpoints)
        with run_api(environ, folder) as api, run_worker(environ, folder, api) as worker:
            yield Crowd(HttpStack(servers, api, environ, folder, worker.pid))


def predict(client: httpx.AsyncClient, model: str, **headers: str) -> "asyncio.Task[httpx.Response]":
    return asyncio.create_task(client.post("/predict", json={"model": model, **QUESTION}, headers=headers))


@pytest.mark.reliability("faults: overload", "429", "nothing lost")
async def test_past_the_bound_calls_are_429_with_retry_after_and_a_neighbour_gets_in(crowd: Crowd) -> None:
    (noisy, model), (quiet, quiet_model) = crowd.tenant("noisy"), crowd.tenant("quiet")
    async with crowd.asking(noisy) as loud, crowd.asking(quiet) as soft:
        with crowd.held():
            calls = [predict(loud, model) for _ in range(3 * MOST)]
            done: set[asyncio.Task[httpx.Response]] = set()
            while len(done) < 3 * MOST - ROOM:
                done, _ = await asyncio.wait(calls, timeout=PATIENCE_S, return_when=asyncio.FIRST_COMPLETED)
            for refused in done:
                assert_problem(refused.result(), 429, "queue_full")
                assert int(refused.result().headers["retry-after"]) >= 1
            neighbours = [predict(soft, quiet_model) for _ in range(2)]
            await crowd.until("kshot_http_requests_in_flight", ROOM + len(neighbours))
        answers = await asyncio.gather(*calls, *neighbours)
    assert [answer.status_code for answer in answers].count(200) == ROOM + len(neighbours)
    assert len(done) == 3 * MOST - ROOM, "every call that was let in was answered"
    assert crowd.figure("kshot_calls_dropped_total", reason="refused") == len(done)


@pytest.mark.reliability("faults: overload", "nothing lost")
async def test_orders_for_later_are_accepted_though_those_who_wait_fill_the_gate_and_none_is_lost(crowd: Crowd) -> None:
    key, model = crowd.tenant("orders")
    await crowd.calm()
    async with crowd.asking(key) as client:
        with crowd.held():
            calls = [predict(client, model) for _ in range(ROOM)]
            await crowd.until("kshot_http_requests_in_flight", ROOM)
            orders = [
                await client.post("/adapt", json=vector_task(20 + i), headers={"Prefer": "respond-async"})
                for i in range(2 * ROOM)
            ]
            assert [order.status_code for order in orders] == [202] * len(orders)
        assert {answer.status_code for answer in await asyncio.gather(*calls)} == {200}
        for order in orders:
            made = await client.get(order.headers["location"], params={"wait": 60})
            assert made.json()["status"] == "succeeded"


@pytest.mark.reliability("faults: overload", "memory")
async def test_what_is_turned_away_leaves_nothing_in_memory(crowd: Crowd) -> None:
    key, model = crowd.tenant("heavy")
    await crowd.calm()
    process = psutil.Process(crowd.stack.api.process.pid)
    large = {"model": model, "inputs": QUESTION["inputs"] * 4000}

    async def flood(client: httpx.AsyncClient) -> int:
        """The memory of the API after a hundred of these at once, 48 kB each."""
        answers = await asyncio.gather(*(client.post("/predict", json=large) for _ in range(100)))
        assert {answer.status_code for answer in answers} == {429}
        return int(process.memory_info().rss)

    async with crowd.asking(key) as client:
        with crowd.held():
            calls = [predict(client, model) for _ in range(ROOM)]
            await crowd.until("kshot_http_requests_in_flight", ROOM)
            before = await flood(client)
            after = [await flood(client) for _ in range(5)]
        assert {answer.status_code for answer in await asyncio.gather(*calls)} == {200}
    assert max(after) - before < 16 * 2**20, "24 MB came"


async def test_bodies_that_are_long_in_coming_keep_no_place_at_the_gate(crowd: Crowd) -> None:
    key, model = crowd.tenant("slow")
    await crowd.calm()
    body = json.dumps({"model": model, **QUESTION})
    uploads = [ask(crowd, "/predict", key, body, left_out=1) for _ in range(ROOM)]
    await crowd.until("kshot_http_requests_in_flight", ROOM + 1)  # and the one that asks for this
    async with crowd.asking(key) as client:
        deadline = time.monotonic() + PATIENCE_S
        while (await predict(client, model)).status_code != 200:
            assert time.monotonic() < deadline
            await asyncio.sleep(0.1)
    for one in uploads:
        one.sendall(body[-1:].encode())
    answers = [await asyncio.to_thread(one.recv, 12) for one in uploads]
    assert answers == [b"HTTP/1.1 200"] * ROOM, "whoever was let in is answered"


@pytest.mark.reliability("faults: overload", "latency")
async def test_a_call_whose_deadline_passed_is_504_and_is_not_computed(crowd: Crowd) -> None:
    key, model = crowd.tenant("hasty")
    async with crowd.asking(key) as client:
        with crowd.held():
            answers = await asyncio.gather(*(predict(client, model, Prefer="wait=1") for _ in range(3)))
        for answer in answers:
            assert_problem(answer, 504, "deadline_passed")
            assert int(answer.headers["retry-after"]) >= 1
        await crowd.until("kshot_tasks_total", 1, outcome="expired")  # the one that the worker had been handed
        assert (await predict(client, model)).status_code == 200
    assert crowd.figure("kshot_calls_dropped_total", reason="expired") == 3
    assert crowd.figure("kshot_queue_depth", kind="predict") == 0


async def test_what_a_caller_asked_who_left_is_withdrawn(crowd: Crowd) -> None:
    key, model = crowd.tenant("leaving")
    async with crowd.asking(key) as client:
        with crowd.held():
            first = predict(client, model)  # which the worker is handed
            await crowd.until("kshot_queue_depth", 1, kind="predict")
            sockets = [ask(crowd, "/predict", key, f'{{"model": "{model}", "inputs": [[5, 0, 0, 0]]}}') for _ in "ab"]
            await crowd.until("kshot_queue_depth", 3, kind="predict")
            for one in sockets:
                one.close()
            await crowd.until("kshot_calls_dropped_total", 2, reason="abandoned")
        assert (await first).status_code == 200
        assert (await predict(client, model)).status_code == 200  # by now the worker has had all that came before
    assert crowd.figure("kshot_queue_depth", kind="predict") == 0
    database = await asyncpg.connect(crowd.stack.servers.database_url)
    assert await database.fetchval("SELECT count(*) FROM predictions WHERE adapted_model_id = $1", model) == 2
    await database.close()


async def test_an_accepted_order_stays_though_its_caller_left_and_asking_again_finds_it(crowd: Crowd) -> None:
    """Also while it waits: one who asked the same leaves as well, and another is answered all the same."""
    key, _ = crowd.tenant("returning")
    body = '{"checkpoint": "plain", "support": {"inputs": [[0], [9]], "labels": ["a", "b"]}}'
    async with crowd.asking(key) as client:
        with crowd.held():
            left = ask(crowd, "/adapt", key, body)
            await crowd.until("kshot_queue_depth", 1, kind="adapt")
            before = crowd.figure("kshot_http_requests_total", status="499")
            equal = ask(crowd, "/adapt", key, body)
            headers = {"Content-Type": "application/json", "Prefer": "wait=60"}
            staying = asyncio.create_task(client.post("/adapt", content=body, headers=headers))
            await crowd.until("kshot_http_requests_in_flight", 4)  # and the one that asks for this
            for one in (equal, left):
                one.close()
            await crowd.until("kshot_http_requests_total", before + 2, status="499")
        again = await staying
        assert again.status_code == 200, "made by the order whose caller left"
        listed: dict[str, Any] = (await client.get("/v1/adapted-models")).json()
        assert [model["id"] for model in listed["data"]].count(again.json()["id"]) == 1 and len(listed["data"]) == 2


def ask(crowd: Crowd, path: str, key: str, body: str, left_out: int = 0) -> socket.socket:
    """A call whose caller can hang up. ``left_out``: so many bytes of its body are still to be sent."""
    made = socket.create_connection(("127.0.0.1", crowd.stack.api.port))
    head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {key}\r\nContent-Length: {len(body)}\r\n"
    made.sendall(f"{head}Prefer: wait=60\r\nContent-Type: application/json\r\n\r\n{body}".encode()[: -left_out or None])
    return made
