"""Every row of "Access", over real HTTP. Each test is named for its row."""

import hashlib
import json
import os
import re
import subprocess
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from kshot.contracts.ids import new_id
from kshot.contracts.tasks import Payload
from tests.flow.conftest import HttpStack, Query
from tests.flow.http_stack import ADMIN_KEY, CHECKOUT, PYTHON, assert_problem, run_api, vector_task

pytestmark = pytest.mark.flow
Tenants = Callable[[str], httpx.Client]
PUBLIC = {"/healthz", "/readyz"}


@pytest.fixture(scope="module")
def operations(admin: httpx.Client) -> list[tuple[str, str]]:
    document = admin.get("/openapi.json").json()
    return [(verb, path) for path, item in document["paths"].items() for verb in item]


@pytest.mark.reliability("access: every route without a key", "every route")
def test_every_route_without_a_key_but_health_is_401(http_stack: HttpStack, operations: list[tuple[str, str]]) -> None:
    assert len(operations) > 15
    for key in (None, "ksk_" + "0" * 64, "x", "k" * 1000):
        client = http_stack.client(key)
        for verb, path in operations:
            answer = client.request(verb, path.replace("{id}", new_id("am")))
            if path in PUBLIC:
                assert answer.status_code == 200
            else:
                assert_problem(answer, 401, "unauthenticated")
                assert answer.headers["www-authenticate"] == "Bearer"
    basic = http_stack.client(None).get("/v1/limits", headers={"Authorization": "Basic eDp5"})
    assert_problem(basic, 401)


def test_the_document_and_its_pages_are_public_on_purpose(http_stack: HttpStack) -> None:
    """They say no more than the source does, and a browser that opens /docs has no way to send a key."""
    stranger = http_stack.client(None)
    for path in ("/openapi.json", "/docs"):
        assert stranger.get(path).status_code == 200


@pytest.mark.reliability("access: tenant B reads", "read", "delete", "predict", "adapt from")
def test_tenant_b_gets_404_for_everything_of_tenant_a_as_for_a_missing_id(tenant: Tenants) -> None:
    a, b = tenant("a"), tenant("b")
    theirs = a.post("/adapt", json=vector_task(0)).json()["id"]
    missing = new_id("am")
    examples = {"support": {"inputs": [[0, 0, 0, 0]], "labels": ["left"]}}

    def ask(id: str) -> list[httpx.Response]:
        return [
            b.get(f"/v1/adapted-models/{id}"),
            b.patch(f"/v1/adapted-models/{id}", json={"pinned": True}),
            b.delete(f"/v1/adapted-models/{id}"),
            b.post(f"/v1/adapted-models/{id}/examples", json=examples),
            b.post("/predict", json={"model": id, "inputs": [[0, 0, 0, 0]]}),
            b.post("/v1/predict", json={"model": id, "inputs": [[0, 0, 0, 0]]}),
        ]

    for mine, gone in zip(ask(theirs), ask(missing), strict=True):
        assert_problem(mine, 404, "not_found")
        assert {**mine.json(), "request_id": ""} == {**gone.json(), "request_id": ""}
    assert ask(missing)[-1].json()["param"] == "model" and "GET /v1/adapted-models" in ask(missing)[-1].json()["detail"]
    assert b.get("/v1/adapted-models").json()["data"] == []
    untouched = a.get(f"/v1/adapted-models/{theirs}").json()
    assert untouched["status"] == "succeeded" and not untouched["pinned"]


@pytest.mark.reliability("access: tenant B reads", "cancel")
def test_tenant_b_cannot_cancel_what_tenant_a_has_ordered(tenant: Tenants) -> None:
    """Deleting a model that is still being made cancels its task."""
    a, b = tenant("a"), tenant("b")
    ordered = a.post("/adapt", json=vector_task(7), headers={"Prefer": "respond-async"})
    assert_problem(b.delete(ordered.headers["location"]), 404, "not_found")
    assert a.get(ordered.headers["location"], params={"wait": 60}).json()["status"] == "succeeded"


@pytest.mark.reliability("access: normal key on admin routes", "admin routes")
def test_a_normal_key_on_admin_routes_is_403(tenant: Tenants) -> None:
    user = tenant("a")
    for answer in (
        user.get("/v1/api-keys"),
        user.post("/v1/api-keys", json={"name": "x"}),
        user.delete(f"/v1/api-keys/{new_id('key')}"),
        user.get("/metrics"),
    ):
        assert_problem(answer, 403, "forbidden")


@pytest.mark.reliability("access: keys at rest", "sha256")
def test_keys_at_rest_are_a_sha256_and_a_prefix(http_stack: HttpStack, query: Query) -> None:
    made = http_stack.key("at-rest")
    assert re.fullmatch(r"ksk_[0-9a-f]{64}", made["key"])
    row = query("SELECT * FROM api_keys WHERE id = $1", made["id"])[0]
    assert bytes(row["sha256"]) == hashlib.sha256(made["key"].encode()).digest()
    assert row["prefix"] == made["key"][:12] == made["prefix"]
    assert made["key"] not in str(dict(row))


def test_the_secret_is_shown_once(http_stack: HttpStack, admin: httpx.Client) -> None:
    made = http_stack.key("shown-once")
    listed = admin.get("/v1/api-keys", params={"limit": 100})
    assert made["id"] in listed.text and made["key"] not in listed.text
    assert all(key["key"] is None for key in listed.json()["data"])


def test_an_idempotency_key_makes_one_api_key_and_never_shows_its_secret_again(admin: httpx.Client) -> None:
    body, headers = {"name": "once", "tenant": "idempotent"}, {"Idempotency-Key": "one-key"}
    first, again = (admin.post("/v1/api-keys", json=body, headers=headers) for _ in range(2))
    assert (first.status_code, again.status_code) == (201, 200)
    assert again.json() == {**first.json(), "key": None}
    other = admin.post("/v1/api-keys", json={**body, "name": "twice"}, headers=headers)
    assert_problem(other, 422, "idempotency_key_reused")


@pytest.mark.reliability("access: revoked or expired key", "revoked", "expired")
def test_a_revoked_or_expired_key_is_401_at_once(http_stack: HttpStack, admin: httpx.Client) -> None:
    made = http_stack.key("revoked")
    client = http_stack.client(made["key"])
    assert client.get("/v1/limits").status_code == 200
    assert admin.delete(f"/v1/api-keys/{made['id']}").json()["deleted"]
    assert_problem(client.get("/v1/limits"), 401)
    assert admin.delete(f"/v1/api-keys/{made['id']}").status_code == 200, "revoking twice is no error"
    assert_problem(admin.delete(f"/v1/api-keys/{new_id('key')}"), 404)
    brief = http_stack.client(http_stack.key("expired", expires_in_seconds=1)["key"])
    for _ in range(100):
        answer = brief.get("/v1/limits")
        if answer.status_code != 200:
            break
        time.sleep(0.05)
    assert_problem(answer, 401)


def test_keys_from_the_command_line(http_stack: HttpStack) -> None:
    command = [*PYTHON, "service", "create-key", "--tenant", "by-command", "--role", "admin", "--name", "ops"]
    made = subprocess.run(
        command, cwd=CHECKOUT, env={**os.environ, **http_stack.environ}, capture_output=True, text=True, check=True
    )
    client = http_stack.client(made.stdout.strip())
    assert client.get("/v1/api-keys").status_code == 200
    assert client.get("/v1/adapted-models").json()["data"] == []


@pytest.mark.reliability("access: rate and quota", "rate")
@pytest.mark.parametrize("processes", [1, 2])
def test_burst_n_plus_1_is_429_with_retry_after_shared_over_api_processes(
    http_stack: HttpStack, tmp_path: Any, processes: int
) -> None:
    environ = {**http_stack.environ, "KSHOT_RATE_PER_MINUTE": "20"}
    busy, other = http_stack.key(f"busy-{processes}")["key"], http_stack.key(f"calm-{processes}")["key"]
    with run_api(environ, tmp_path) as first, run_api(environ, tmp_path) as second:
        clients = [first.client(busy), second.client(busy)][:processes]
        answers = [clients[i % processes].get("/v1/limits") for i in range(22)]
        # 20 pass; where a window of the clock ends in between, one more may
        assert [answer.status_code for answer in answers[:20]] == [200] * 20
        assert_problem(answers[-1], 429, "rate_limited")
        assert int(answers[-1].headers["retry-after"]) >= 1
        assert second.client(other).get("/v1/limits").status_code == 200


@pytest.mark.reliability("access: Idempotency-Key", "one task", "new body", "other tenant")
def test_twenty_equal_parallel_posts_with_an_idempotency_key_make_one_task(
    http_stack: HttpStack, tenant: Tenants, query: Query
) -> None:
    client, other = tenant("a"), tenant("b")
    key = {"Idempotency-Key": "once"}
    body = vector_task(1, query={"inputs": [[5, 0, 0, 0]]})
    with ThreadPoolExecutor(20) as pool:
        answers = list(pool.map(lambda _: client.post("/adapt", json=body, headers=key), range(20)))
    assert {answer.status_code for answer in answers} == {201}
    ids = {answer.json()["id"] for answer in answers}
    assert len(ids) == 1
    assert all(answer.json()["predictions"][0]["label"] == "right" for answer in answers)
    owner = query("SELECT tenant_id FROM adapted_models WHERE id = $1", *ids)[0]["tenant_id"]
    assert len(query("SELECT id FROM tasks WHERE tenant_id = $1", owner)) == 1
    reused = client.post("/adapt", json=vector_task(2), headers=key)
    assert_problem(reused, 422, "idempotency_key_reused")
    changed = client.post("/adapt", json={**body, "ttl_seconds": 77}, headers=key)
    assert_problem(changed, 422, "idempotency_key_reused")
    independent = other.post("/adapt", json=vector_task(2), headers=key)
    assert independent.status_code == 201 and independent.json()["id"] not in ids


def test_twenty_equal_parallel_posts_without_a_key_make_one_model_too(tenant: Tenants) -> None:
    client = tenant("a")
    with ThreadPoolExecutor(20) as pool:
        answers = list(pool.map(lambda _: client.post("/adapt", json=vector_task(3)), range(20)))
    assert sorted(answer.status_code for answer in answers) == [200] * 19 + [201]
    assert len({answer.json()["id"] for answer in answers}) == 1


@pytest.mark.reliability("access: audit log", "rows", "append-only")
def test_the_audit_log_has_one_row_per_mutation_without_secrets_and_refuses_updates(
    http_stack: HttpStack, tenant: Tenants, query: Query
) -> None:
    client = tenant("a")
    answer = client.post("/adapt", json=vector_task(4), headers={"X-Request-Id": "audit-test"})
    model = answer.json()["id"]
    client.post("/adapt", json=vector_task(4))
    client.patch(f"/v1/adapted-models/{model}", json={"pinned": True})
    client.delete(f"/v1/adapted-models/{model}")
    rows = query("SELECT * FROM audit_log WHERE object_id = $1 ORDER BY id", model)
    actions = ["create", "extend", "change", "delete"]
    assert [row["action"] for row in rows] == [f"adapted_model.{action}" for action in actions]
    assert rows[0]["request_id"] == "audit-test" and all(row["key_id"].startswith("key_") for row in rows)
    made = http_stack.key("audited")
    created = query("SELECT * FROM audit_log WHERE object_id = $1", made["id"])
    assert [row["action"] for row in created] == ["api_key.create"] and made["key"] not in str(created)
    for statement in ("UPDATE audit_log SET action = 'x'", "DELETE FROM audit_log", "TRUNCATE audit_log"):
        with pytest.raises(Exception, match="append-only"):
            query(statement)


@pytest.mark.reliability("access: audit log", "same transaction")
def test_a_change_and_its_row_in_the_audit_log_are_of_one_transaction(
    http_stack: HttpStack, tenant: Tenants, query: Query
) -> None:
    """Postgres keeps with each row which transaction wrote it last."""
    client = tenant("a")
    made, key = client.post("/adapt", json=vector_task(8)).json()["id"], http_stack.key("one-transaction")
    changes = {"change": lambda path: client.patch(path, json={"pinned": True}), "delete": client.delete}
    for action, table, made_id in (
        ("adapted_model.create", "adapted_models", made),
        ("adapted_model.change", "adapted_models", made),
        ("adapted_model.delete", "adapted_models", made),
        ("api_key.create", "api_keys", key["id"]),
    ):
        change = changes.get(action.partition(".")[2])
        if change is not None:
            assert change(f"/v1/adapted-models/{made_id}").status_code == 200
        (row,) = query(f"SELECT xmin::text FROM {table} WHERE id = $1", made_id)
        (logged,) = query("SELECT xmin::text FROM audit_log WHERE object_id = $1 AND action = $2", made_id, action)
        assert row == logged, action


@pytest.mark.reliability("access: logs", "API")
def test_logs_are_structured_with_request_id_and_hold_no_key_and_no_payload(
    http_stack: HttpStack, tenant: Tenants
) -> None:
    made = http_stack.key("logged")
    client = http_stack.client(made["key"])
    secret_label, secret_text = "a-very-private-label", "a very private text"
    support = {"inputs": [secret_text, "another"], "labels": [secret_label, "b"]}
    for body in ({"checkpoint": "words", "support": support}, {"checkpoint": "plain", "support": support}):
        client.post("/adapt", json=body, headers={"X-Request-Id": "find-me"})
    client.get("/healthz", headers={"X-Request-Id": "the-last"})
    for _ in range(200):  # a request's line is written after its answer has gone out
        log = http_stack.api.log.read_text()
        if log.endswith("\n") and "the-last" in log:
            break
        time.sleep(0.02)
    lines = [json.loads(line) for line in log.splitlines()]
    mine = [line for line in lines if line.get("request_id") == "find-me" and line["event"] == "request"]
    assert [line["status"] for line in mine] == [201, 422] and mine[0]["route"].endswith("/adapt")
    assert mine[0]["key"] == made["id"] and mine[0]["level"] == "info"
    for private in (made["key"], made["key"][4:], ADMIN_KEY, secret_label, secret_text):
        assert private not in log
    assert client.get("/healthz", headers={"X-Request-Id": "bad id"}).headers["x-request-id"].startswith("req_")


def test_query_inputs_are_kept_only_with_store_true(tenant: Tenants, query: Query) -> None:
    client = tenant("a")
    model = client.post("/adapt", json=vector_task(5, query={"inputs": [[1, 2, 3, 4]]})).json()["id"]
    kept = Payload.decode(query("SELECT payload FROM tasks WHERE adapted_model_id = $1", model)[0]["payload"])
    assert kept.query is None and kept.support is not None and len(kept.support) == 6
    for store in (False, True):
        body = {"model": model, "inputs": [[1, 2, 3, 4]], "store": store}
        prediction = client.post("/predict", json=body).json()
        row = query("SELECT * FROM predictions WHERE id = $1", prediction["id"])[0]
        assert (row["inputs"] is not None) == store and row["n_query"] == 1


def test_deletion_erases_every_prediction(tenant: Tenants, query: Query) -> None:
    client = tenant("a")
    model = client.post("/adapt", json=vector_task(6, query={"inputs": [[1, 2, 3, 4]]})).json()["id"]
    client.post("/predict", json={"model": model, "inputs": [[1, 2, 3, 4]], "store": True})
    client.delete(f"/v1/adapted-models/{model}")
    row = query("SELECT * FROM predictions WHERE adapted_model_id = $1", model)[0]
    assert row["inputs"] is None and row["predictions"] == "[]"
    task = query("SELECT * FROM tasks JOIN results ON task_id = id WHERE adapted_model_id = $1", model)[0]
    assert task["payload"] is None and task["predictions"] is None
