"""Quotas of tenants, the rotation of keys and the audit log, over real HTTP."""

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest

from kshot.contracts.ids import new_id
from tests.flow.conftest import HttpStack
from tests.flow.http_stack import Api, assert_problem, run_api, vector_task

pytestmark = pytest.mark.flow
JOB = {"name": "small", "dataset": "waves", "steps": 5}


@pytest.fixture(scope="module")
def second(http_stack: HttpStack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    """Another API process on the same database."""
    with run_api(http_stack.environ, tmp_path_factory.mktemp("second")) as api:
        yield api


def allow(admin: httpx.Client, tenant: str, **quotas: int) -> dict[str, Any]:
    answer = admin.put(f"/v1/tenants/{tenant}/quotas", json=quotas)
    assert answer.status_code == 200, answer.text
    told: dict[str, Any] = answer.json()
    return told


@pytest.mark.reliability("access: rate and quota", "quota")
def test_the_last_places_are_given_out_once_whichever_process_is_asked(
    http_stack: HttpStack, admin: httpx.Client, second: Api
) -> None:
    made = http_stack.key("few-models")
    told = allow(admin, "few-models", adapted_models=3)
    assert told["own_quotas"]["adapted_models"] == told["usage"]["quotas"]["adapted_models"] == 3
    clients = [http_stack.client(made["key"]), second.client(made["key"])]
    with ThreadPoolExecutor(12) as pool:
        answers = list(pool.map(lambda i: clients[i % 2].post("/adapt", json=vector_task(i)), range(12)))
    assert sorted(answer.status_code for answer in answers) == [201] * 3 + [429] * 9
    for refused in (answer for answer in answers if answer.status_code == 429):
        assert_problem(refused, 429, "quota_exceeded")
        assert "adapted_models" in refused.json()["detail"] and "delete" in refused.json()["detail"]
        assert int(refused.headers["retry-after"]) > 120, "a client of ours does not come back by itself"
    usage = clients[1].get("/v1/usage").json()
    assert usage["tenant"] == "few-models" and usage["used"]["adapted_models"] == 3
    assert usage["used"]["stored_bytes"] > 100 and usage["quotas"]["stored_bytes"] is None
    kept = clients[0].get("/v1/adapted-models").json()["data"]
    again = clients[0].post("/adapt", json=vector_task([a.status_code for a in answers].index(201)))
    assert again.status_code == 200, "what is there already takes no place"
    grown = {"support": {"inputs": [[0, 0, 0, 0]], "labels": ["left"]}}
    assert_problem(clients[0].post(f"/v1/adapted-models/{kept[0]['id']}/examples", json=grown), 429, "quota_exceeded")
    clients[1].delete(f"/v1/adapted-models/{kept[0]['id']}")
    assert clients[0].post("/adapt", json=vector_task(99)).status_code == 201
    second.client(http_stack.key("few-models-not")["key"]).post("/adapt", json=vector_task(1)).raise_for_status()
    allow(admin, "few-models")
    assert clients[1].post("/adapt", json=vector_task(100)).status_code == 201


def test_bytes_of_support_sets_are_counted(http_stack: HttpStack, admin: httpx.Client) -> None:
    client = http_stack.tenant("few-bytes")
    client.post("/adapt", json=vector_task(1)).raise_for_status()
    used = client.get("/v1/usage").json()["used"]["stored_bytes"]
    allow(admin, "few-bytes", stored_bytes=used + 10)
    refused = client.post("/adapt", json=vector_task(2))
    assert_problem(refused, 429, "quota_exceeded")
    assert f"stored_bytes of your tenant is {used + 10}" in refused.json()["detail"]
    keyed = client.post("/adapt", json=vector_task(2), headers={"Idempotency-Key": "k"})
    assert_problem(keyed, 429, "quota_exceeded")


@pytest.mark.reliability("access: rate and quota", "rate")
def test_a_tenants_own_rate_holds_in_every_process_and_for_nobody_else(
    http_stack: HttpStack, admin: httpx.Client, second: Api
) -> None:
    key = http_stack.key("slow")["key"]
    clients = [http_stack.client(key), second.client(key)]
    for client in clients:
        assert client.get("/v1/limits").json()["requests_per_minute"] == 60_000
    allow(admin, "slow", requests_per_minute=10)
    began, answers = time.monotonic(), [clients[0].get("/v1/limits")]
    while answers[-1].status_code == 200:
        answers.append(clients[len(answers) % 2].get("/v1/limits"))
    assert answers[0].json()["requests_per_minute"] == 10
    assert_problem(answers[-1], 429, "rate_limited")
    # two were counted before, and one again in each process when it found the quota changed
    assert 6 <= len(answers) - 1 <= 10 + (time.monotonic() - began) / 6
    http_stack.tenant("not-slow").get("/v1/limits").raise_for_status()


def test_jobs_and_data_sets_are_counted(http_stack: HttpStack, admin: httpx.Client) -> None:
    boss = http_stack.client(http_stack.key("few-jobs", role="admin")["key"])
    boss.post("/v1/datasets", json={"name": "waves", "source": "sinusoid"})
    allow(admin, "few-jobs", open_jobs=1, dataset_bytes=100)
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda _: boss.post("/v1/training-jobs", json=JOB), range(4)))
    assert sorted(answer.status_code for answer in answers) == [201] + [429] * 3, answers[0].text
    refused = next(answer for answer in answers if answer.status_code == 429)
    assert_problem(refused, 429, "quota_exceeded")
    assert "open_jobs" in refused.json()["detail"] and "cancel" in refused.json()["detail"]
    rows = "".join(f"{i},{i},{'ab'[i % 2]}\n" for i in range(60))
    files = {"request": (None, '{"name": "too-many-bytes"}'), "file": ("data.csv", f"x,y,label\n{rows}")}
    large = boss.post("/v1/datasets", files=files)
    assert_problem(large, 429, "quota_exceeded")
    assert "dataset_bytes" in large.json()["detail"]
    job = next(answer for answer in answers if answer.status_code == 201).json()["id"]
    assert boss.post(f"/v1/training-jobs/{job}/cancel").status_code == 202
    assert boss.get("/v1/usage").json()["used"]["open_jobs"] == 0


def test_quotas_are_set_by_administrators_and_settings(http_stack: HttpStack, tmp_path: Path) -> None:
    with run_api({**http_stack.environ, "KSHOT_QUOTA_ADAPTED_MODELS": "1"}, tmp_path) as api:
        client = api.client(http_stack.key("by-settings")["key"])
        assert client.get("/v1/usage").json()["quotas"]["adapted_models"] == 1
        assert client.post("/adapt", json=vector_task(1)).status_code == 201
        assert_problem(client.post("/adapt", json=vector_task(2)), 429, "quota_exceeded")
    user = http_stack.tenant("by-settings")
    assert_problem(user.put("/v1/tenants/by-settings/quotas", json={}), 403)
    with http_stack.api.client(None) as stranger:
        assert_problem(stranger.put("/v1/tenants/by-settings/quotas", json={}), 401)
    admin = http_stack.client()
    for missing in ("nobody-has-this-name", new_id("ten"), "%2e%2e", "X"):
        assert_problem(admin.get(f"/v1/tenants/{missing}"), 404, "not_found")
        assert_problem(admin.put(f"/v1/tenants/{missing}/quotas", json={}), 404, "not_found")
    for wrong in ({"adapted_models": -1}, {"adapted_models": "1"}, {"requests_per_minute": 0}, {"models": 1}):
        assert_problem(admin.put("/v1/tenants/by-settings/quotas", json=wrong), 422, "invalid", next(iter(wrong)))
    listed = admin.get("/v1/tenants", params={"limit": 100}).json()["data"]
    (one,) = (tenant for tenant in listed if tenant["name"] == "by-settings")
    assert admin.get(f"/v1/tenants/{one['id']}").json()["usage"]["used"]["adapted_models"] == 1


def test_a_rotated_key_goes_on_for_its_grace_and_then_ends(http_stack: HttpStack, admin: httpx.Client) -> None:
    old = http_stack.key("rotating", expires_in_seconds=10**6)
    before = http_stack.client(old["key"])
    model = before.post("/adapt", json=vector_task(1)).json()["id"]
    new = admin.post(f"/v1/api-keys/{old['id']}/rotate", json={"grace_seconds": 3600}).json()
    assert new["replaces"] == old["id"] and new["id"] != old["id"] and new["key"] != old["key"]
    assert [new[part] for part in ("name", "role", "tenant")] == [old[part] for part in ("name", "role", "tenant")]
    after = http_stack.client(new["key"])
    for client in (before, after):
        assert client.get(f"/v1/adapted-models/{model}").status_code == 200
    listed = {key["id"]: key for key in admin.get("/v1/api-keys", params={"limit": 100}).json()["data"]}
    assert listed[old["id"]]["expires_at"] < listed[new["id"]]["expires_at"], "the old one's grace, the new one's life"
    twice = admin.post(f"/v1/api-keys/{old['id']}/rotate", json={"grace_seconds": 0})
    assert_problem(twice, 409, "conflict")
    assert new["id"] in twice.json()["detail"]
    at_once = admin.post(f"/v1/api-keys/{new['id']}/rotate", json={"grace_seconds": 0}).json()
    assert_problem(after.get("/v1/limits"), 401)
    assert http_stack.client(at_once["key"]).get("/v1/limits").status_code == 200
    assert before.get("/v1/limits").status_code == 200
    assert_problem(admin.post(f"/v1/api-keys/{new['id']}/rotate", json={"grace_seconds": 0}), 409)


def test_what_a_rotation_refuses(http_stack: HttpStack, admin: httpx.Client) -> None:
    key = http_stack.key("rotating-badly")
    where = f"/v1/api-keys/{key['id']}/rotate"
    for body in ({}, {"grace_seconds": -1}, {"grace_seconds": "1"}, {"grace_seconds": 10**9}):
        assert_problem(admin.post(where, json=body), 422, "invalid", "grace_seconds")
    for missing in (new_id("key"), "key_1", "%2e%2e"):
        assert_problem(admin.post(f"/v1/api-keys/{missing}/rotate", json={"grace_seconds": 1}), 404)
    assert_problem(http_stack.client(key["key"]).post(where, json={"grace_seconds": 1}), 403)
    headers = {"Idempotency-Key": "rotate-once"}
    first, again = (admin.post(where, json={"grace_seconds": 1}, headers=headers) for _ in range(2))
    assert (first.status_code, again.status_code) == (201, 200)
    assert again.json()["id"] == first.json()["id"] and again.json()["key"] is None
    admin.delete(f"/v1/api-keys/{first.json()['id']}")
    assert_problem(admin.post(f"/v1/api-keys/{first.json()['id']}/rotate", json={"grace_seconds": 1}), 409)


@pytest.mark.reliability("access: revoked or expired key", "session")
def test_a_rotated_key_takes_its_sessions_and_streams_along(http_stack: HttpStack, admin: httpx.Client) -> None:
    """A stream that is under way, and a browser that is signed in, end with the key behind them."""
    key = http_stack.key("watching", role="admin")
    watching = http_stack.client(key["key"])
    watching.post("/v1/datasets", json={"name": "waves", "source": "sinusoid"})
    job = watching.post("/v1/training-jobs", json=JOB).json()["id"]
    with http_stack.api.client(None) as browser:
        own = {"X-Kshot-Console": "1", "Origin": http_stack.api.url}
        assert browser.post("/session", json={"key": key["key"]}, headers=own).status_code == 201
        path = f"/v1/training-jobs/{job}/events"
        stream = {"Accept": "text/event-stream"}
        with ExitStack() as opened:
            answers = [opened.enter_context(one.stream("GET", path, headers=stream)) for one in (watching, browser)]
            told = [answer.iter_lines() for answer in answers]
            assert all(any(line == "event: queued" for line in lines) for lines in told)
            admin.post(f"/v1/api-keys/{key['id']}/rotate", json={"grace_seconds": 0}).raise_for_status()
            for lines in told:
                assert not any(line.startswith("event:") for line in lines), "it ends, and nothing more comes"
        assert_problem(browser.get("/session"), 401, "unauthenticated")
    admin.post(f"/v1/training-jobs/{job}/cancel")


def test_the_audit_log_is_read_by_administrators(http_stack: HttpStack, admin: httpx.Client) -> None:
    made = http_stack.key("told-of")
    client = http_stack.client(made["key"])
    model = client.post("/adapt", json=vector_task(1), headers={"X-Request-Id": "told-of-1"}).json()["id"]
    client.delete(f"/v1/adapted-models/{model}")
    allow(admin, "told-of", open_jobs=2)

    def read(**filters: str | int) -> list[tuple[str, str]]:
        answer = admin.get("/v1/audit", params=filters)
        assert answer.status_code == 200, answer.text
        return [(entry["action"], entry["subject"]) for entry in answer.json()["data"]]

    both = [("adapted_model.delete", model), ("adapted_model.create", model)]
    assert read(tenant="told-of") == read(subject=model) == read(key=made["id"]) == both
    assert read(request_id="told-of-1") == both[1:] == read(subject=model, action="adapted_model.create")
    assert read(action="quotas.set", limit=1)[0][1].startswith("ten_")
    page = admin.get("/v1/audit", params={"tenant": "told-of", "limit": 1}).json()
    assert page["has_more"] and read(tenant="told-of", after=page["last_id"]) == both[1:]
    at = page["data"][0]["at"]
    assert read(subject=model, until=at) == both[1:] and read(subject=model, since=at) == both[:1]
    assert_problem(client.get("/v1/audit"), 403, "forbidden")
    for wrong in ({"limit": 0}, {"after": "x"}, {"since": "yesterday"}, {"tenant": "A"}, {"subject": "\0"}):
        assert_problem(admin.get("/v1/audit", params=wrong), 422, "invalid", next(iter(wrong)))
