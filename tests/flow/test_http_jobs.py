"""Meta-training jobs over HTTP: started, watched, steered; what would not run is refused at once."""

import json
import threading
import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from kshot.contracts.ids import new_id
from kshot.contracts.job_bodies import NewJobRequest, TrainingEvent, TrainingJob
from tests.flow.conftest import HttpStack, Query
from tests.flow.http_stack import ADMIN_KEY, assert_problem, run_api, run_process

pytestmark = pytest.mark.flow
JOBS = "/v1/training-jobs"


@pytest.fixture(scope="module")
def trainer(http_stack: HttpStack, admin: httpx.Client) -> Iterator[None]:
    """For the tests that train; the others come before it is started, and leave it nothing to do."""
    for job in admin.get(JOBS, params={"limit": 100}).json()["data"]:
        if job["finished_at"] is None:
            admin.post(f"{JOBS}/{job['id']}/cancel")
    environ = {**http_stack.environ, "KSHOT_TRAINER_THREADS": "1", "KSHOT_DEVICE": "cpu"}
    with run_process(environ, http_stack.folder / "trainer.log", "workers", "trainer"):
        until(lambda: admin.get("/readyz").json()["parts"]["trainers"] == 1)
        yield


@pytest.fixture(scope="module")
def waves(admin: httpx.Client) -> str:
    """The id of a data set of sine waves."""
    made = admin.post("/v1/datasets", json={"name": "waves-of-jobs", "source": "sinusoid"})
    assert made.status_code == 201, made.text
    return str(made.json()["id"])


def until(check: Any, seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while not check():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def body(dataset: str, **changes: Any) -> dict[str, Any]:
    return {"dataset": dataset, "name": "made-of-waves", "steps": 60, "evaluate": [], **changes}


def job_of(client: httpx.Client, id: str) -> dict[str, Any]:
    answer = client.get(f"{JOBS}/{id}")
    assert answer.status_code == 200, answer.text
    TrainingJob.model_validate(answer.json())
    found: dict[str, Any] = answer.json()
    return found


def until_status(client: httpx.Client, id: str, status: str) -> dict[str, Any]:
    until(lambda: job_of(client, id)["status"] == status)
    return job_of(client, id)


def streamed(lines: Iterator[str]) -> list[dict[str, Any]]:
    """The events of a stream: what `id`, `event` and `data` say, which must agree."""
    found, event = [], dict[str, str]()
    for line in lines:
        if line and not line.startswith(":"):
            name, _, value = line.partition(": ")
            event[name] = value
        elif event:
            data = json.loads(event["data"])
            TrainingEvent.model_validate(data)
            assert (str(data["seq"]), data["kind"]) == (event["id"], event["event"])
            found.append(data)
            event = {}
    return found


def test_a_job_waits_where_no_trainer_is_and_can_be_steered(admin: httpx.Client, waves: str, query: Query) -> None:
    made = admin.post(JOBS, json=body("waves-of-jobs"))
    assert made.status_code == 201
    job = made.json()
    assert made.headers["location"] == f"{JOBS}/{job['id']}"
    assert NewJobRequest.model_validate(job["request"]) == NewJobRequest(**body("waves-of-jobs"))
    assert (job["status"], job["attempt"], job["dataset"], job["checkpoint"]) == ("queued", 0, waves, None)
    assert (job["queue_state"], job["retry_after_ms"], job["time_budget"]) == ("no_worker", 1000, None)
    assert job["progress"] == {"step": 0, "total": 60} and job["recipe"]["training"]["steps"] == 60
    assert job == job_of(admin, job["id"])
    assert admin.get(JOBS, params={"limit": 1}).json()["data"] == [job]

    def steer(verb: str) -> httpx.Response:
        return admin.post(f"{JOBS}/{job['id']}/{verb}")

    assert_problem(steer("resume"), 409, "conflict")
    steps = [("pause", "paused"), ("pause", "paused"), ("resume", "queued"), *[("cancel", "cancelled")] * 2]
    for verb, status in steps:
        answer = steer(verb)
        assert (answer.status_code, answer.json()["status"]) == (202, status)
        assert answer.json()["queue_state"] == ("no_worker" if status == "queued" else None)
    for verb in ("pause", "resume"):
        assert_problem(steer(verb), 409, "conflict")
    rows = query("SELECT action FROM audit_log WHERE object_id = $1 ORDER BY id", job["id"])
    assert [row["action"] for row in rows] == [
        f"training_job.{verb}" for verb in ("create", "pause", "pause", "resume", "cancel", "cancel")
    ]
    events = admin.get(f"{JOBS}/{job['id']}/events").json()
    assert [event["kind"] for event in events["data"]] == ["queued", "paused", "queued", "cancelled"]
    rest = admin.get(f"{JOBS}/{job['id']}/events", params={"after": 1, "limit": 2}).json()
    assert (rest["data"], rest["has_more"], rest["last_id"]) == (events["data"][1:3], True, "3")


def test_an_idempotency_key_makes_one_job(admin: httpx.Client, waves: str) -> None:
    key = {"Idempotency-Key": new_id("req")}
    first = admin.post(JOBS, json=body(waves), headers=key)
    again = admin.post(JOBS, json=body(waves), headers=key)
    assert (first.status_code, again.status_code) == (201, 200)
    assert again.json() == first.json() and again.headers["location"] == first.headers["location"]
    assert_problem(admin.post(JOBS, json=body(waves, steps=61), headers=key), 422, "idempotency_key_reused")
    assert admin.post(f"{JOBS}/{first.json()['id']}/cancel").status_code == 202


def test_a_data_set_is_kept_while_a_job_may_need_it(admin: httpx.Client) -> None:
    dataset = admin.post("/v1/datasets", json={"name": "waves-in-use", "source": "sinusoid"}).json()["id"]
    job = admin.post(JOBS, json=body(dataset)).json()["id"]
    refused = admin.delete(f"/v1/datasets/{dataset}")
    assert_problem(refused, 409, "conflict")
    assert job in refused.json()["detail"]
    admin.post(f"{JOBS}/{job}/cancel")
    assert admin.delete(f"/v1/datasets/{dataset}").status_code == 200
    assert_problem(admin.post(JOBS, json=body(dataset)), 404, "not_found", "dataset")


@pytest.mark.parametrize(
    ("changes", "status", "param"),
    [
        ({"dataset": "nothing-of-this-name"}, 404, "dataset"),
        ({"base_checkpoint": "nothing-of-this-name"}, 404, "base_checkpoint"),
        ({"base_checkpoint": "drawings@production"}, 422, "base_checkpoint"),
        ({"learner": "no-such-learner"}, 422, "learner"),
        ({"encoder": "text"}, 422, "encoder"),
        ({"time_budget": 60}, 422, "time_budget"),
        ({"steps": 0}, 422, "steps"),
        ({"steps": "60"}, 422, "steps"),
        ({"steps": True}, 422, "steps"),
        ({"workers_per_job": 65}, 422, "workers_per_job"),
        ({"name": "auto"}, 422, "name"),
        ({"name": "../up"}, 422, "name"),
        ({"unknown": 1}, 422, "unknown"),
    ],
)
def test_what_would_not_run_is_refused_at_once(
    admin: httpx.Client, waves: str, changes: dict[str, Any], status: int, param: str
) -> None:
    before = admin.get(JOBS).json()
    assert_problem(admin.post(JOBS, json=body(waves) | changes), status, param=param)
    assert admin.get(JOBS).json() == before


@pytest.mark.parametrize("sent", [b'{"dataset": NaN}', b'{"steps": 1, "steps": 2}', b'{"name": "a\\u0000b"}'])
def test_what_no_json_may_hold_is_refused(admin: httpx.Client, sent: bytes) -> None:
    answer = admin.post(JOBS, content=sent, headers={"Content-Type": "application/json"})
    assert_problem(answer, 422)


@pytest.mark.reliability("access: normal key on admin routes", "admin routes")
def test_jobs_are_for_administrators_and_unknown_ones_alike(http_stack: HttpStack, admin: httpx.Client) -> None:
    user = http_stack.tenant("jobs-user")
    calls = [("GET", JOBS), ("POST", JOBS), *((verb, f"{JOBS}/{new_id('job')}{path}") for verb, path in STEERING)]
    for verb, path in calls:
        assert_problem(user.request(verb, path), 403, "forbidden")
    for verb, path in STEERING:
        unknown = admin.request(verb, f"{JOBS}/{new_id('job')}{path}")
        odd = admin.request(verb, f"{JOBS}/{new_id('am')}{path}")
        assert_problem(unknown, 404, "not_found")
        assert {**unknown.json(), "request_id": ""} == {**odd.json(), "request_id": ""}
    events = f"{JOBS}/{new_id('job')}/events"
    assert_problem(admin.get(events, headers={"Last-Event-ID": "-1"}), 422, "invalid", "last-event-id")
    for wrong in ({"after": -1}, {"after": 2**80}, {"limit": 0}):
        assert_problem(admin.get(f"{JOBS}/{new_id('job')}/events", params=wrong), 422)


STEERING = [("GET", ""), ("GET", "/events"), ("POST", "/cancel"), ("POST", "/pause"), ("POST", "/resume")]


def test_a_job_makes_a_checkpoint_that_serves(trainer: None, admin: httpx.Client, waves: str) -> None:
    evaluate = [{"k_shot": 5, "episodes": 20}]
    job = admin.post(JOBS, json=body(waves, evaluate=evaluate, description="by a test")).json()["id"]
    with admin.stream("GET", f"{JOBS}/{job}/events", headers={"Accept": "text/event-stream"}, timeout=90) as stream:
        assert stream.headers["content-type"].startswith("text/event-stream")
        assert stream.headers["x-request-id"]
        events = streamed(stream.iter_lines())
    assert [event["seq"] for event in events] == list(range(1, len(events) + 1))
    kinds = [event["kind"] for event in events]
    assert (kinds[0], kinds[-1]) == ("queued", "succeeded")
    assert {"started", "total", "step", "validation", "saved", "phase", "evaluated"} <= set(kinds)
    listed = admin.get(f"{JOBS}/{job}/events", params={"limit": 1000}).json()
    assert listed["data"] == events and not listed["has_more"]

    done = job_of(admin, job)
    assert (done["status"], done["attempt"], done["error"]) == ("succeeded", 1, None)
    assert done["progress"] == {"step": 60, "total": 60} and done["saved_step"] == 60
    assert done["finished_at"] >= done["started_at"] >= done["created_at"]
    assert [(row["k_shot"], row["episodes"]) for row in done["evaluation"]] == [(5, 20)]
    checkpoint = admin.get(f"/v1/checkpoints/{done['checkpoint']}").json()
    assert (checkpoint["name"], checkpoint["job"], checkpoint["aliases"]) == ("made-of-waves", job, [])
    assert checkpoint["evaluation"] == done["evaluation"]
    support = {"inputs": [[0.0], [1.0], [2.0]], "labels": [0.0, 0.8, 0.9]}
    adapted = admin.post("/v1/adapt", json={"checkpoint": done["checkpoint"], "support": support})
    assert adapted.status_code == 201, adapted.text
    assert_problem(admin.post(f"{JOBS}/{job}/cancel"), 409, "conflict")


def test_streams_resume_wait_and_hold_no_connection(
    trainer: None, http_stack: HttpStack, admin: httpx.Client, waves: str
) -> None:
    """More listeners than the database has connections; the job is paused below them, then cancelled."""
    job = admin.post(JOBS, json=body(waves, steps=1_000_000)).json()["id"]
    path, heard = f"{JOBS}/{job}/events", list[list[dict[str, Any]]]()

    def listen(after: int) -> None:
        headers = {"Accept": "text/event-stream", "Last-Event-ID": str(after)}
        with (
            http_stack.api.client(ADMIN_KEY) as client,
            client.stream("GET", path, headers=headers, timeout=90) as stream,
        ):
            heard.append(streamed(stream.iter_lines()))

    listeners = [threading.Thread(target=listen, args=(after,)) for after in [0, 1, *[2] * 18]]
    for listener in listeners:
        listener.start()
    until(lambda: job_of(admin, job)["progress"]["step"] > 0)
    running = job_of(admin, job)
    assert running["heartbeat_at"] and running["steps_per_s"] > 0
    assert running["estimated_finish"] > running["heartbeat_at"]
    with admin.stream("GET", path, headers={"Accept": "text/event-stream"}) as stream:  # leaves without a word
        next(stream.iter_lines())
    assert admin.post(f"{JOBS}/{job}/pause").json()["status"] == "pausing"
    paused = until_status(admin, job, "paused")
    assert paused["saved_step"] == paused["progress"]["step"] > 0 and paused["estimated_finish"] is None
    assert admin.post(f"{JOBS}/{job}/cancel").json()["status"] == "cancelled"
    for listener in listeners:
        listener.join(30)
    whole = max(heard, key=len)
    assert [event["seq"] for event in whole] == list(range(1, len(whole) + 1))
    assert [event["kind"] for event in whole[-2:]] == ["paused", "cancelled"]
    assert sorted(map(len, heard)) == [*[len(whole) - 2] * 18, len(whole) - 1, len(whole)]
    assert all(events == whole[-len(events) :] for events in heard)
    told = admin.get(path, headers={"Accept": "text/event-stream", "Last-Event-ID": str(len(whole))})
    assert (told.status_code, told.content) == (204, b"")  # a job that has ended has no more to say
    anew = admin.get(path, headers={"Accept": "text/event-stream", "Last-Event-ID": ""})
    assert streamed(iter(anew.text.splitlines())) == whole


def test_a_stream_ends_when_the_service_does(http_stack: HttpStack, admin: httpx.Client, waves: str) -> None:
    job = admin.post(JOBS, json=body(waves)).json()["id"]
    admin.post(f"{JOBS}/{job}/pause")
    with run_api(http_stack.environ, http_stack.folder) as api, api.client(ADMIN_KEY) as client:
        with client.stream("GET", f"{JOBS}/{job}/events", headers={"Accept": "text/event-stream"}) as stream:
            lines = stream.iter_lines()
            assert "event: queued" in (next(lines), next(lines), next(lines))
            api.process.terminate()
            list(lines)  # raises where the answer is broken off
        assert api.process.wait(20) == 0
    admin.post(f"{JOBS}/{job}/cancel")
