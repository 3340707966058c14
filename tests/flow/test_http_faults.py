"""Parts that are away, seen from HTTP: nothing accepted is lost, nothing hangs, everything comes back unaided."""

import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
from redis import Redis

from kshot.queue.streams import ADAPT_STREAM
from standalone import EmbeddedServers, embedded_servers
from tests.flow.http_stack import (
    ADMIN_KEY,
    CHECKOUT,
    PYTHON,
    Api,
    assert_problem,
    free_port,
    migrate_and_publish,
    run_api,
    run_worker,
    vector_task,
)
from tests.flow.job_stack import migrated_servers

pytestmark = pytest.mark.flow
ASYNC = {"Prefer": "respond-async"}
PROMPT_S = 5.0
"""1 s by the document; the rest is for a machine that is busy with other tests. What would hang takes 10 s and more."""


class Bare:
    """A keyless API on servers of its own; no worker unless a test starts one."""

    def __init__(self, servers: EmbeddedServers, api: Api, folder: Path) -> None:
        self.servers, self.api, self.folder = servers, api, folder
        self.client = api.client()

    def worker(self) -> Any:
        """A worker process, seen by the API."""
        return run_worker(self.servers.environ, self.folder, self.api)

    def until(self, check: Callable[[], bool], seconds: float = 120) -> None:
        """Until it is so."""
        deadline = time.monotonic() + seconds
        while not check():
            assert time.monotonic() < deadline
            time.sleep(0.05)

    def ready(self) -> tuple[int, str]:
        answer = self.client.get("/readyz")
        return answer.status_code, answer.json()["status"]


@pytest.fixture(scope="module")
def bare(checkpoints: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bare]:
    folder = tmp_path_factory.mktemp("bare")
    with embedded_servers() as servers:
        migrate_and_publish(servers.environ, checkpoints)
        with run_api({**servers.environ, "KSHOT_MAX_OPEN_TASKS": "80"}, folder) as api:
            bare = Bare(servers, api, folder)
            yield bare
            bare.client.close()


def test_before_the_first_checkpoint_it_is_not_ready(tmp_path: Path) -> None:
    with (
        migrated_servers() as servers,
        run_api(servers.environ, tmp_path) as api,
        api.client() as client,
    ):
        answer = client.get("/readyz")
        assert answer.status_code == 503 and answer.json()["status"] == "starting"
        assert answer.json()["parts"]["checkpoints"] == 0 and int(answer.headers["retry-after"]) >= 1


def test_without_a_worker_adaptations_wait_and_predictions_are_503(bare: Bare) -> None:
    bare.until(lambda: bare.client.get("/readyz").json()["parts"]["workers"] == 0)
    assert bare.ready() == (200, "degraded")
    assert bare.client.head("/healthz").status_code == bare.client.head("/readyz").status_code == 200
    answer = bare.client.post("/adapt", json=vector_task(1), headers={"Prefer": "wait=1"})
    assert answer.status_code == 202 and answer.json()["queue_state"] == "no_worker"
    one_shot = bare.client.post("/predict", json={**vector_task(1), "inputs": [[0, 0, 0, 0]]})
    assert_problem(one_shot, 503, "unavailable")
    assert "retry-after" in one_shot.headers
    pending = bare.client.post("/predict", json={"model": answer.json()["id"], "inputs": [[0, 0, 0, 0]]}, headers=ASYNC)
    assert_problem(pending, 409, "conflict")
    with bare.worker():
        done = bare.client.get(answer.headers["location"], params={"wait": 30})
        assert done.json()["status"] == "succeeded"


def test_orders_that_wait_are_answered_each_its_own_query(bare: Bare) -> None:
    def order(*query: float, **headers: str) -> httpx.Response:
        asked = {"query": {"inputs": [[value, 0, 0, 0] for value in query]}} if query else {}
        return bare.client.post("/adapt", json=vector_task(50, **asked), headers={**ASYNC, **headers})

    bare.until(lambda: bare.client.get("/readyz").json()["parts"]["workers"] == 0)
    orders = [(5.0,), (5.0,), (-5.0, 5.0), (), (-5.0,)]
    answers = [order(*query) for query in orders]
    assert [answer.status_code for answer in answers] == [202] * len(orders)
    ids = [answer.json()["id"] for answer in answers]
    assert ids[0] == ids[1] and len(set(ids)) == len(orders) - 1
    keyed = order(5.0, -5.0, **{"Idempotency-Key": "waits"})
    with bare.worker():
        for query, answer in zip([*orders, (5.0, -5.0)], [*answers, keyed], strict=True):
            done = bare.client.get(answer.headers["location"], params={"wait": 30}).json()
            labels = [item["label"] for item in done["predictions"] or []]
            assert done["status"] == "succeeded" and labels == ["right" if value > 0 else "left" for value in query]
    bare.until(lambda: bare.client.get("/readyz").json()["parts"]["workers"] == 0)
    again = order(5.0, -5.0, **{"Idempotency-Key": "waits"})
    assert again.status_code == 201 and len(again.json()["predictions"]) == 2, "a replay needs no worker"


@pytest.mark.reliability("faults: overload", "429", "nothing lost")
def test_past_the_bound_a_tenant_gets_429_with_retry_after_and_loses_nothing(bare: Bare) -> None:
    bound = bare.client.get("/v1/limits").json()["max_open_tasks"]
    answers = [bare.client.post("/adapt", json=vector_task(100 + i), headers=ASYNC) for i in range(bound + 2)]
    assert [answer.status_code for answer in answers[:bound]] == [202] * bound
    for answer in answers[bound:]:
        assert_problem(answer, 429, "queue_full")
        assert int(answer.headers["retry-after"]) >= 1
    again = bare.client.post("/adapt", json=vector_task(100), headers=ASYNC)
    assert again.status_code == 202 and again.json()["id"] == answers[0].json()["id"], "an equal one adds no work"
    with bare.worker():
        for answer in answers[:bound]:
            done = bare.client.get(answer.headers["location"], params={"wait": 30}).json()
            assert done["status"] == "succeeded"


@pytest.mark.reliability("faults: Valkey killed, hung", "killed", "data deleted", "predict")
def test_valkey_stopped_with_its_data_deleted_adapt_is_accepted_under_1_s_and_nothing_is_lost(bare: Bare) -> None:
    with bare.worker():
        model = bare.client.post("/adapt", json=vector_task(200)).json()["id"]
        bare.servers.stop("valkey")
        started = time.monotonic()
        accepted = bare.client.post("/adapt", json=vector_task(201), headers=ASYNC)
        assert accepted.status_code == 202 and time.monotonic() - started < PROMPT_S
        assert bare.ready() == (200, "degraded")
        asked = bare.client.post("/predict", json={"model": model, "inputs": [[0, 0, 0, 0]]})
        assert_problem(asked, 503, "unavailable")
        done = bare.client.get(accepted.headers["location"], params={"wait": 30}).json()
        assert done["status"] == "succeeded", "the worker polls Postgres while the doorbell is away"
        bare.servers.delete_data("valkey")
        bare.servers.start("valkey")
        bare.until(lambda: bare.ready() == (200, "ready"))
        bare.until(
            lambda: bare.client.post("/predict", json={"model": model, "inputs": [[0, 0, 0, 0]]}).status_code == 200
        )


@pytest.mark.reliability("faults: Valkey killed, hung", "hung 10 s")
def test_valkey_hung_adapt_is_accepted_under_1_s(bare: Bare) -> None:
    pid = bare.servers.pid("valkey")
    os.kill(pid, signal.SIGSTOP)
    try:
        started = time.monotonic()
        accepted = bare.client.post("/adapt", json=vector_task(300), headers=ASYNC)
        assert accepted.status_code == 202 and time.monotonic() - started < PROMPT_S
        assert bare.ready() == (200, "degraded")
    finally:
        os.kill(pid, signal.SIGCONT)
    with bare.worker():
        done = bare.client.get(accepted.headers["location"], params={"wait": 30}).json()
        assert done["status"] == "succeeded"


@pytest.mark.reliability("faults: Postgres down 10 s", "adapt", "predict")
def test_postgres_down_is_503_with_retry_after_never_202_and_recovers_unaided(bare: Bare) -> None:
    """Never 202 to what comes while it is down; who was accepted before hears that he was."""
    with Redis.from_url(bare.servers.redis_url) as redis:
        bells, thread = redis.xlen(ADAPT_STREAM), ThreadPoolExecutor(1)
        accepted = thread.submit(bare.client.post, "/adapt", json=vector_task(410), headers={"Prefer": "wait=3"})
        bare.until(lambda: redis.xlen(ADAPT_STREAM) > bells)
    bare.servers.stop("postgres")
    try:
        for i in range(3):
            for answer in (
                bare.client.post("/adapt", json=vector_task(400 + i), headers=ASYNC),
                bare.client.post("/predict", json={**vector_task(400), "inputs": [[0, 0, 0, 0]]}),
                bare.client.get("/v1/adapted-models"),
            ):
                assert_problem(answer, 503, "unavailable")
                assert int(answer.headers["retry-after"]) >= 1
        assert bare.ready() == (503, "unavailable")
        assert bare.client.get("/healthz").status_code == 200
        told = accepted.result()
        assert told.status_code == 202, told.text
    finally:
        bare.servers.start("postgres")
    bare.until(lambda: bare.ready()[0] == 200)
    assert bare.client.get(told.headers["location"]).json()["status"] == "queued"
    assert bare.client.post("/adapt", json=vector_task(400), headers=ASYNC).status_code == 202


def test_a_keyless_server_answers_to_loopback_names_and_its_own_pages_only(bare: Bare) -> None:
    for host in ("localhost", f"localhost:{bare.api.port}", "127.0.0.1", "[::1]:80"):
        assert bare.client.get("/v1/limits", headers={"Host": host}).status_code == 200
    for host in ("evil.example", "127.0.0.1.evil.example", "10.0.0.1", "localhost.evil.example"):
        assert_problem(bare.client.get("/v1/limits", headers={"Host": host}), 403, "forbidden")
    for origin in ("https://evil.example", "null"):
        assert_problem(bare.client.get("/v1/limits", headers={"Origin": origin}), 403, "forbidden")
    assert bare.client.get("/v1/limits", headers={"Origin": bare.api.url}).status_code == 200


@pytest.mark.parametrize("host", ["0.0.0.0", "::"])
def test_without_any_key_the_server_refuses_to_bind_elsewhere(bare: Bare, host: str) -> None:
    command = [*PYTHON, "service", "serve", "--host", host, "--port", str(free_port())]
    environ = {**os.environ, **bare.servers.environ}
    refused = subprocess.run(command, cwd=CHECKOUT, env=environ, capture_output=True, text=True, timeout=30)
    assert refused.returncode == 2 and "KSHOT_ADMIN_KEY" in refused.stderr


def test_a_short_admin_key_is_refused(bare: Bare) -> None:
    environ = {**os.environ, **bare.servers.environ, "KSHOT_ADMIN_KEY": "short-secret"}
    refused = subprocess.run(
        [*PYTHON, "service", "serve"], cwd=CHECKOUT, env=environ, capture_output=True, text=True, timeout=30
    )
    assert refused.returncode == 2 and "admin_key" in refused.stderr and "short-secret" not in refused.stderr


@pytest.mark.reliability("faults: SIGTERM with 5 running", "API")
def test_sigterm_lets_running_requests_end(bare: Bare) -> None:
    with (
        run_api(bare.servers.environ, bare.folder) as api,
        socket.create_connection(("127.0.0.1", api.port)) as waiting,
    ):
        body = b'{"checkpoint": "plain", "support": {"inputs": [[0], [9]], "labels": ["a", "b"]}}'
        head = f"POST /adapt HTTP/1.1\r\nHost: localhost\r\nPrefer: wait=2\r\nContent-Length: {len(body)}\r\n"
        waiting.sendall(head.encode() + b"Content-Type: application/json\r\n\r\n" + body)
        bare.until(lambda: "kshot_http_requests_in_flight 2.0" in httpx.get(f"{api.url}/metrics").text)
        api.process.send_signal(signal.SIGTERM)
        waiting.settimeout(20)
        assert b"202 Accepted" in waiting.recv(65536)
        assert api.process.wait(20) == 0


def test_the_first_key_ends_keyless_serving(bare: Bare) -> None:
    """Last in this file: from here on this stack wants keys."""
    made = bare.client.post("/v1/api-keys", json={"name": "first", "role": "admin"})
    assert made.status_code == 201
    assert_problem(bare.client.get("/v1/limits"), 401, "unauthenticated")
    with bare.api.client(made.json()["key"]) as keyed:
        assert keyed.get("/v1/limits").status_code == 200
    with bare.api.client(ADMIN_KEY) as unknown:
        assert_problem(unknown.get("/v1/limits"), 401)
