"""One request seen from outside: its trace and its log lines in every process, and nothing of what it said in any."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import psutil
import pytest
import redis
from sqlalchemy import make_url

from kshot.queue.streams import PREDICT_STREAM
from tests.flow.collector import Collector, Seen, collecting
from tests.flow.conftest import HttpStack
from tests.flow.dataset_calls import upload
from tests.flow.http_stack import ADMIN_KEY, CHECKOUT, run_process, vector_task
from tests.flow.stacks import open_http_stack

pytestmark = pytest.mark.flow
TRACE = "0af7651916cd43dd8448eb211c80319c"  # pragma: allowlist secret
CALLER = "b7ad6b7169203331"  # pragma: allowlist secret
CANARY = "canary7"
"""Whatever a caller sends holds it."""
LABEL, ROW = f"{CANARY}-label", f"{CANARY}-row"


@dataclass
class Watched:
    """A stack whose processes trace, and say in their logs all they can."""

    stack: HttpStack
    collector: Collector
    trainer: "subprocess.Popen[bytes]"
    secrets: list[str] = field(default_factory=list)
    bodies: list[str] = field(default_factory=list)

    def log(self, name: str) -> str:
        return next(self.stack.folder.glob(f"{name}*.log")).read_text()

    def lines(self, name: str, request_id: str) -> list[dict[str, Any]]:
        """Those of a process that are about a request."""
        lines = [json.loads(line) for line in self.log(name).splitlines() if line.startswith("{")]
        return [one for one in lines if request_id in (one.get("request_id"), *one.get("requests", ()))]

    def refused(self, answer: httpx.Response, *statuses: int) -> None:
        """An answer with an error, whose body is kept to be looked through."""
        assert answer.status_code in statuses, answer.text
        assert answer.json()["request_id"] == answer.headers["x-request-id"]
        self.bodies.append(answer.text)


@pytest.fixture(scope="module")
def watched(checkpoints: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    folder = tmp_path_factory.mktemp("watched")
    with collecting() as collector:
        settings = {
            "OTEL_EXPORTER_OTLP_ENDPOINT": collector.url,
            "OTEL_BSP_SCHEDULE_DELAY": "100",
            "OTEL_EXPORTER_OTLP_HEADERS": f"authorization={CANARY}-of-the-collector",
            "KSHOT_LOG_LEVEL": "debug",
            "KSHOT_TRAINER_THREADS": "1",
            "KSHOT_DEVICE": "cpu",
        }
        with (
            open_http_stack(checkpoints, folder, **settings) as stack,
            run_process(stack.environ, folder / "trainer.log", "workers", "trainer") as trainer,
        ):
            password = make_url(stack.servers.database_url).password
            assert password
            yield Watched(stack, collector, trainer, [CANARY, ADMIN_KEY, password])


def until(check: Callable[[], Any]) -> Any:
    deadline = time.monotonic() + 120
    while not (found := check()):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    return found


def headers(request_id: str) -> dict[str, str]:
    return {"X-Request-ID": request_id, "traceparent": f"00-{TRACE}-{CALLER}-01"}


def below(spans: list[Seen], parent: Seen) -> dict[str, Seen]:
    return {span.name: span for span in spans if span.parent == parent.id}


def one(spans: list[Seen], name: str) -> Seen:
    (found,) = [span for span in spans if span.name == name]
    return found


def test_one_trace_holds_a_request_from_its_caller_to_the_worker(watched: Watched) -> None:
    client = watched.stack.client()
    task = vector_task(1, query={"inputs": [[5, 0, 0, 0]]})
    made = client.post("/adapt", json=task, headers=headers("traced-adapt"))
    assert (made.status_code, made.headers["x-request-id"]) == (201, "traced-adapt"), made.text
    asked = {"model": made.json()["id"], "inputs": [[5, 0, 0, 0]]}
    assert client.post("/predict", json=asked, headers=headers("traced-predict")).status_code == 200
    spans = watched.collector.until(TRACE, "POST /adapt", "POST /predict", "store", "store")
    for call, operation in (("POST /adapt", "adapt"), ("POST /predict", "predict")):
        request = one(spans, call)
        assert (request.service, request.parent) == ("kshot-api", CALLER)
        item = below(spans, request)[operation]
        assert item.service == "kshot-worker"
        for span in (request, item):
            assert span.attributes["kshot.request_id"] == f"traced-{operation}"
        parts = below(spans, item)
        assert set(parts) == {"queue", "decode", "batch", "compute", "store"}
        assert parts["batch"].links == (item.id,) and parts["compute"].links == (parts["batch"].id,)
        assert all(span.began <= span.ended and not span.failed for span in parts.values())
        order = [parts[name].began for name in ("queue", "decode", "compute", "store")]
        assert order == sorted(order)
        assert "await worker" in below(spans, request)
    assert "record" in below(spans, one(spans, "POST /adapt"))
    route = one(spans, "POST /adapt").attributes
    assert (route["http.route"], route["http.response.status_code"]) == ("/adapt", 201)


def test_a_task_whose_doorbell_is_lost_keeps_its_trace(watched: Watched) -> None:
    """Its row has it."""
    trace = TRACE[::-1]
    os.kill(watched.stack.worker_pid, signal.SIGSTOP)
    try:
        told = {"Prefer": "respond-async", "traceparent": f"00-{trace}-{CALLER}-01", "X-Request-ID": "unheard"}
        answer = watched.stack.client().post("/adapt", json=vector_task(2), headers=told)
        assert answer.status_code == 202, answer.text
        with redis.Redis.from_url(watched.stack.servers.redis_url) as connection:
            connection.flushall()
    finally:
        os.kill(watched.stack.worker_pid, signal.SIGCONT)
    spans = watched.collector.until(trace, "POST /adapt", "adapt", "store")
    assert below(spans, one(spans, "POST /adapt"))["adapt"].attributes["kshot.request_id"] == "unheard"


def test_a_job_is_in_the_trace_and_the_logs_of_its_request(watched: Watched) -> None:
    client, trace = watched.stack.client(), TRACE[1:] + "0"
    dataset = upload(client, f"x,label\n1,{LABEL}\n2,{LABEL}\n3,b\n4,b\n".encode(), f"{CANARY}.csv", name="points")
    watched.bodies.append(dataset.text if dataset.status_code >= 400 else "")
    dataset = client.post("/v1/datasets", json={"name": "waves", "source": "sinusoid"}).json()["id"]
    wanted = {"dataset": dataset, "name": "waves", "steps": 10**6, "evaluate": []}
    told = {"X-Request-ID": "traced-job", "traceparent": f"00-{trace}-{CALLER}-01"}
    made = client.post("/v1/training-jobs", json=wanted, headers=told)
    assert made.status_code == 201, made.text
    job = made.json()["id"]
    until(lambda: client.get(f"/v1/training-jobs/{job}").json()["progress"]["step"])
    children = psutil.Process(watched.trainer.pid).children(recursive=True)
    max(children, key=lambda child: child.create_time()).kill()
    died = until(lambda: [line for line in watched.lines("trainer", "traced-job") if line["event"] == "child_died"])[0]
    (started,) = [json.loads(line) for line in died["said"].splitlines() if "training_process_started" in line]
    assert (died["job"], died["attempt"], started["request_id"]) == (job, 1, "traced-job")
    watched.bodies.append(client.get(f"/v1/training-jobs/{job}/events").text)
    assert client.post(f"/v1/training-jobs/{job}/cancel").status_code == 202
    spans = watched.collector.until(trace, "POST /v1/training-jobs", "training job", "training")
    attempt = below(spans, one(spans, "POST /v1/training-jobs"))["training job"]
    assert (attempt.service, attempt.attributes["kshot.training_job"]) == ("kshot-trainer", job)
    assert {"lay", "start", "training"} <= set(below(spans, attempt))


def test_a_request_id_is_in_the_lines_of_every_process_it_passes(watched: Watched) -> None:
    client = watched.stack.client()
    given = {"X-Request-ID": "seen-everywhere"}
    made = client.post("/adapt", json=vector_task(3), headers=given)
    client.post("/predict", json={"model": made.json()["id"], "inputs": [[1, 0, 0, 0]]}, headers=given)
    (adapted, predicted) = until(lambda: len(found := watched.lines("api", "seen-everywhere")) == 2 and found)
    assert (adapted["event"], adapted["route"], predicted["route"]) == ("request", "/adapt", "/predict")
    events = until(lambda: len(found := watched.lines("worker", "seen-everywhere")) == 2 and found)
    assert {event["event"] for event in events} == {"tasks_succeeded", "predicted"}
    for odd in ("two words", "x" * 101, f"{CANARY}/../"):
        answer = client.get("/v1/limits", headers={"X-Request-ID": odd})
        assert answer.headers["x-request-id"].startswith("req_")


def test_nothing_that_was_sent_is_in_what_is_said_of_it(watched: Watched) -> None:
    """Not in logs at debug level, spans, metrics, errors, system figures or events, whatever goes wrong."""
    stack = watched.stack
    key = stack.key("secretive")["key"]
    client = stack.client(key)
    watched.secrets.append(key)
    session = httpx.post(f"{stack.api.url}/session", json={"key": key}, headers={"X-Kshot-Console": "1"})
    watched.secrets += [value for value in session.cookies.values() if value]
    _adapt_and_predict(watched, client)
    _send_what_is_wrong(watched, client)
    _break_rows(watched, client)
    _lose_postgres(watched, client)
    admin = stack.client()
    told = [admin.get("/metrics").text, admin.get("/v1/system").text, *watched.bodies]
    logs = [path.read_text(errors="replace") for path in stack.folder.glob("*.log")]
    servers = [path.read_text(errors="replace") for path in stack.servers.home.resolve().rglob("*.log")]
    spans = [body.decode(errors="replace") for body in watched.collector.raw]
    assert len(logs) == 3 and servers and len(spans) > 3
    for secret in watched.secrets:
        for said in (*told, *logs, *servers, *spans):
            where = said.find(secret)
            assert where < 0, said[max(0, where - 500) : where + 200]


def _adapt_and_predict(watched: Watched, client: httpx.Client) -> None:
    texts = [f"{CANARY} one", f"{CANARY} two", "three", "four"]
    task = {
        "checkpoint": "words",
        "support": {"inputs": texts, "labels": [LABEL, LABEL, "b", "b"]},
        "metadata": {"note": CANARY},
    }
    made = client.post("/adapt", json=task, headers={"Cookie": f"other={CANARY}"})
    assert made.status_code == 201, made.text
    asked = {"model": made.json()["id"], "inputs": [f"{CANARY} five"], "store": True}
    assert client.post("/predict", json=asked).status_code == 200


def _send_what_is_wrong(watched: Watched, client: httpx.Client) -> None:
    watched.refused(client.post("/adapt", content=f'{{"checkpoint": "{CANARY}'.encode()), 400, 415)
    body = {"checkpoint": "plain", "support": {"inputs": [CANARY, "b"], "labels": [LABEL, 1.5]}}
    watched.refused(client.post("/adapt", json=body), 422)
    watched.refused(client.post("/adapt", json={**body, "options": {"learner": f"{CANARY}!"}}), 422)
    watched.refused(client.post("/predict", json={"model": CANARY, "inputs": [CANARY]}), 404, 422)
    watched.refused(client.get(f"/v1/{CANARY}", params={"q": CANARY}), 404)
    watched.refused(client.get("/v1/limits", headers={"Authorization": f"Bearer ksk_{CANARY}"}), 401)
    inputs = [[1e30, 0, 0, 0], [-1e30, 0, 0, 0], [1e30, 0, 0, 1], [-1e30, 0, 0, 1]]
    broken = {"checkpoint": "plain", "support": {"inputs": inputs, "labels": [1.0, 2.0, 3e30, 4.0]}}
    watched.refused(client.post("/adapt", json={**broken, "metadata": {"note": CANARY}}), 422)
    with redis.Redis.from_url(watched.stack.servers.redis_url) as connection:
        connection.xadd(PREDICT_STREAM, {"v": "1", "call": f'{{"id": "{CANARY}"}}', "payload": CANARY})
    until(lambda: "message_unreadable" in watched.log("worker"))


def _break_rows(watched: Watched, client: httpx.Client) -> None:
    """Postgres quotes the rows that it refuses."""

    async def refuse() -> None:
        connection = await asyncpg.connect(watched.stack.servers.database_url)
        for table, column in (("adapted_models", "metadata"), ("predictions", "predictions")):
            check = f"CHECK ({column}::text NOT LIKE '%{ROW[7:]}%') NOT VALID"
            await connection.execute(f"ALTER TABLE {table} ADD CONSTRAINT refused_{table} {check}")
        await connection.close()

    asyncio.run(refuse())
    watched.refused(client.post("/adapt", json=vector_task(4, metadata={"note": ROW})), 500)
    task = vector_task(5)
    task["support"]["labels"] = [ROW] * 3 + ["right"] * 3
    made = client.post("/adapt", json=task)
    assert made.status_code == 201, made.text
    watched.refused(client.post("/predict", json={"model": made.json()["id"], "inputs": [[-5, 0, 0, 0]]}), 500)


def _lose_postgres(watched: Watched, client: httpx.Client) -> None:
    watched.stack.servers.stop("postgres")
    try:
        watched.refused(client.post("/adapt", json=vector_task(6, metadata={"note": CANARY})), 503)
    finally:
        watched.stack.servers.start("postgres")
    until(lambda: client.get("/readyz").json()["parts"]["workers"])
    until(lambda: client.get("/v1/limits").status_code == 200)


def test_who_does_not_trace_loads_nothing_for_it() -> None:
    """Others bring OpenTelemetry's API along, and its metrics where they find them."""
    code = (
        "import sys; from kshot import tracing; import service.app, workers.trainer;"
        "assert not tracing.start_tracing('x');"
        "tracing.span('x', 'server').__enter__(); assert tracing.carried() is None;"
        "tracers = ('opentelemetry.sdk.trace', 'opentelemetry.exporter', 'kshot.tracing.spans');"
        "print([name for name in sys.modules if name.startswith(tracers)])"
    )
    environ = {name: value for name, value in os.environ.items() if not name.startswith("OTEL_")}
    ended = subprocess.run([sys.executable, "-c", code], cwd=CHECKOUT, env=environ, capture_output=True, text=True)
    assert ended.stdout.strip() == "[]", ended.stdout + ended.stderr
