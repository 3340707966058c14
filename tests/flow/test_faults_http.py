"""What a caller meets while a part is away, and when many callers come at once."""

import asyncio
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import pytest

from standalone import EmbeddedServers, embedded_servers
from tests.flow.fault_stack import LEASE_S, WIDTH, blobs, write_checkpoints
from tests.flow.http_stack import ADMIN_KEY, Api, migrate_and_publish, run_api, run_process, run_worker

pytestmark = pytest.mark.flow


@dataclass(frozen=True)
class Service:
    servers: EmbeddedServers
    environ: dict[str, str]
    api: Api
    worker: "subprocess.Popen[bytes]"


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    folder = tmp_path_factory.mktemp("faults")
    with embedded_servers() as servers:
        environ = {
            **servers.environ,
            "KSHOT_ADMIN_KEY": ADMIN_KEY,
            "KSHOT_LEASE_S": str(LEASE_S),
            "KSHOT_MAX_CALLS": "400",
        }
        migrate_and_publish(environ, write_checkpoints(folder / "checkpoints"))
        with run_api(environ, folder) as api, run_worker(environ, folder, api) as worker:
            yield Service(servers, environ, api, worker)


@pytest.fixture
def client(service: Service) -> Iterator[httpx.Client]:
    with service.api.client(ADMIN_KEY) as opened:
        yield opened


def adapt_body(seed: int, checkpoint: str = "near", *, n_way: int = 2, k_shot: int = 3, width: int = WIDTH) -> Any:
    support = blobs(seed, n_way, k_shot, width)
    labels = [support.classes[k] for k in support.targets]
    inputs = support.inputs.astype(float).round(4).tolist()
    return {"checkpoint": checkpoint, "support": {"inputs": inputs, "labels": labels}, "query": {"inputs": inputs}}


def until(client: httpx.Client, url: str, wanted: str) -> dict[str, Any]:
    """The adapted model once it has this status."""
    deadline = time.monotonic() + 120
    while (answer := client.get(url, params={"wait": 5})).json()["status"] != wanted:
        assert time.monotonic() < deadline, answer.text
    body: dict[str, Any] = answer.json()
    return body


def until_newest(client: httpx.Client, status: str) -> None:
    """Until what was ordered last has this status."""
    deadline = time.monotonic() + 120
    while True:
        listed = client.get("/v1/adapted-models", params={"limit": 1}).json()["data"]
        if [one["status"] for one in listed] == [status]:
            return
        assert time.monotonic() < deadline, listed
        time.sleep(0.05)


def ready(client: httpx.Client) -> Any:
    return client.get("/readyz").json()


@pytest.mark.reliability("faults: Valkey killed, hung", "killed", "data deleted", "predict")
def test_adaptations_are_accepted_and_done_while_valkey_is_dead_and_its_data_gone(
    service: Service, client: httpx.Client
):
    service.worker.send_signal(signal.SIGSTOP)
    before = client.post("/adapt", json=adapt_body(1), headers={"Prefer": "respond-async"})
    os.kill(service.servers.pid("valkey"), signal.SIGKILL)
    service.servers.stop("valkey")
    service.servers.delete_data("valkey")
    service.worker.send_signal(signal.SIGCONT)
    during = client.post("/adapt", json=adapt_body(2), headers={"Prefer": "respond-async"}, timeout=5)
    assert (before.status_code, during.status_code) == (202, 202)
    assert ready(client)["status"] == "degraded"
    for accepted in (before, during):
        until(client, accepted.headers["location"], "succeeded")
    assert client.post("/predict", json=question(during)).status_code == 503
    service.servers.start("valkey")
    assert answered(client, question(during))["predictions"]
    assert ready(client)["status"] == "ready"


@pytest.mark.reliability("faults: Valkey killed, hung", "hung 10 s", "predict")
def test_adaptations_are_accepted_while_valkey_hangs(service: Service, client: httpx.Client):
    valkey = service.servers.pid("valkey")
    os.kill(valkey, signal.SIGSTOP)
    try:
        accepted = client.post("/adapt", json=adapt_body(3), headers={"Prefer": "respond-async"}, timeout=5)
        assert accepted.status_code == 202
        until(client, accepted.headers["location"], "succeeded")
    finally:
        os.kill(valkey, signal.SIGCONT)
    assert answered(client, question(accepted))["predictions"]


@pytest.mark.reliability("faults: Postgres down 10 s", "adapt", "predict")
def test_without_postgres_nothing_is_promised_and_nobody_dies(service: Service, client: httpx.Client):
    done = client.post("/adapt", json=adapt_body(4))
    assert done.status_code == 201
    service.servers.stop("postgres")
    down_until = time.monotonic() + 10
    try:
        while time.monotonic() < down_until:
            for path, body in (("/adapt", adapt_body(5)), ("/predict", question(done))):
                refused = client.post(path, json=body)
                assert refused.status_code == 503
                assert int(refused.headers["retry-after"]) > 0
            time.sleep(0.5)
        assert client.get("/readyz").status_code == 503
        assert client.get("/healthz").status_code == 200
    finally:
        service.servers.start("postgres")
    again = client.post("/adapt", json=adapt_body(5), headers={"Prefer": "wait=30"})
    assert again.status_code == 201
    assert service.api.process.poll() is None
    assert service.worker.poll() is None


@pytest.mark.reliability("faults: worker SIGKILLed mid-adapt", "a caller who waits")
async def test_who_waits_is_answered_though_the_worker_was_killed(
    service: Service, client: httpx.Client, tmp_path: Path
):
    body, database = adapt_body(6), await asyncpg.connect(service.servers.database_url)
    service.worker.send_signal(signal.SIGSTOP)
    try:
        with run_process(service.environ, tmp_path / "log", "workers", "adapt") as other:
            async with database.transaction():
                await database.execute("LOCK TABLE results IN EXCLUSIVE MODE")  # a commit takes its time
                headers = {"Prefer": "wait=60"}
                asked = asyncio.create_task(asyncio.to_thread(client.post, "/adapt", json=body, headers=headers))
                await asyncio.to_thread(until_newest, client, "running")
                other.kill()
        service.worker.send_signal(signal.SIGCONT)
        answer = await asked
    finally:
        service.worker.send_signal(signal.SIGCONT)
        await database.close()
    made = answer.json() if answer.status_code == 201 else until(client, answer.headers["location"], "succeeded")
    assert len(made["predictions"]) == len(body["query"]["inputs"])


async def test_two_hundred_callers_at_once_each_get_their_own_answer(service: Service):
    """Two tenants; four checkpoints and learners, ways and shots of every size: as if each were alone."""
    bodies = [adapt_body(seed, **shape(seed)) for seed in range(200)]
    async with httpx.AsyncClient(base_url=service.api.url, timeout=60) as http:
        keys = [await new_key(http, name) for name in ("one", "two")]
        together = await asyncio.gather(*(adapt(http, keys[i % 2], body) for i, body in enumerate(bodies)))
        assert max(answer["timings"]["batch_size"] for answer in together) > 1
        for i in range(200):
            alone = await adapt(http, keys[(i + 1) % 2], bodies[i])  # the other tenant: it has no such model yet
            assert alone["timings"]["batch_size"] == 1
            assert_same_answers(together[i], alone)
        for body, answer in zip(bodies, together, strict=True):
            labels = list(dict.fromkeys(body["support"]["labels"]))
            assert answer["classes"] == labels
            assert all(set(p["probabilities"]) == set(labels) for p in answer["predictions"])
            assert len(answer["predictions"]) == len(body["query"]["inputs"])
        questions = [{"model": m["id"], "inputs": b["query"]["inputs"]} for m, b in zip(together, bodies, strict=True)]
        answers = await asyncio.gather(*(ask(http, keys[i % 2], one) for i, one in enumerate(questions)))
        for adapted, answer in zip(together, answers, strict=True):
            assert_same_answers(adapted, answer)


def shape(seed: int) -> dict[str, Any]:
    checkpoint = ("near", "plain", "steps")[seed % 3]
    width = WIDTH if checkpoint == "steps" else 4 + seed % 2
    return {"checkpoint": checkpoint, "n_way": 2 + seed % 4, "k_shot": 1 + seed % 5, "width": width}


async def new_key(http: httpx.AsyncClient, tenant: str) -> str:
    body = {"name": "test", "tenant": tenant}
    made = await http.post("/v1/api-keys", json=body, headers={"Authorization": f"Bearer {ADMIN_KEY}"})
    key: str = made.json()["key"]
    return key


async def adapt(http: httpx.AsyncClient, key: str, body: Any) -> Any:
    headers = {"Authorization": f"Bearer {key}", "Prefer": "wait=60"}
    answer = await http.post("/adapt", json=body, headers=headers)
    assert answer.status_code == 201, answer.text
    return answer.json()


async def ask(http: httpx.AsyncClient, key: str, body: Any) -> Any:
    answer = await http.post("/predict", json=body, headers={"Authorization": f"Bearer {key}"})
    assert answer.status_code == 200, answer.text
    return answer.json()


def assert_same_answers(one: Any, other: Any) -> None:
    for p, q in zip(one["predictions"], other["predictions"], strict=True):
        assert p["label"] == q["label"]
        assert p["probabilities"] == pytest.approx(q["probabilities"], abs=1e-4)


def question(accepted: httpx.Response) -> dict[str, Any]:
    return {"model": accepted.json()["id"], "inputs": adapt_body(0)["query"]["inputs"]}


def answered(client: httpx.Client, body: Any) -> Any:
    """The answer once there is one: Valkey came back a moment ago, so a call may still be refused or lost."""
    deadline = time.monotonic() + 120
    while (answer := client.post("/predict", json=body)).status_code != 200:
        assert answer.status_code in (503, 504), answer.text
        assert time.monotonic() < deadline, answer.text
        time.sleep(0.2)
    return answer.json()
