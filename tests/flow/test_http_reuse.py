"""Requests that came before: equal supports, retries under an idempotency key, and what each of them is answered."""

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import httpx
import pytest

from kshot.contracts.ids import new_id
from tests.flow.conftest import Query
from tests.flow.http_stack import assert_problem, vector_task

pytestmark = pytest.mark.flow
Tenants = Callable[[str], httpx.Client]
QUERY = {"inputs": [[5.0, 0.0, 0.0, 0.0], [-5.0, 0.0, 0.0, 0.0]]}


def test_the_same_support_gives_the_existing_model(tenant: Tenants) -> None:
    client, other = tenant("a"), tenant("b")
    first = client.post("/adapt", json=vector_task(7, query=QUERY))
    same = client.post("/adapt", json=vector_task(7, query={"inputs": [[5.0, 0, 0, 0]]}, ttl_seconds=99))
    assert (first.status_code, same.status_code) == (201, 200)
    assert same.json()["id"] == first.json()["id"] and same.headers["location"] == first.headers["location"]
    assert len(same.json()["predictions"]) == 1
    assert same.json()["predictions"][0]["label"] == "right"
    for different in (vector_task(7, options={"seed": 5}), vector_task(7, options={"l2": 3.0}), vector_task(8)):
        answer = client.post("/adapt", json=different)
        assert answer.status_code == 201 and answer.json()["id"] != first.json()["id"]
    assert other.post("/adapt", json=vector_task(7)).json()["id"] != first.json()["id"]


def test_a_deleted_model_is_not_handed_out_again(tenant: Tenants) -> None:
    client = tenant("a")
    first = client.post("/adapt", json=vector_task(9)).json()["id"]
    assert client.delete(f"/v1/adapted-models/{first}").json() == {
        "object": "adapted_model", "id": first, "deleted": True,
    }  # fmt: skip
    assert_problem(client.get(f"/v1/adapted-models/{first}"), 404, "not_found")
    assert_problem(client.delete(f"/v1/adapted-models/{first}"), 404)
    assert_problem(client.post("/predict", json={"model": first, "inputs": [[1, 0, 0, 0]]}), 404)
    again = client.post("/adapt", json=vector_task(9))
    assert again.status_code == 201 and again.json()["id"] != first


def test_the_longer_life_wins_and_the_first_metadata_stay(tenant: Tenants) -> None:
    client = tenant("a")

    def adapt(ttl_seconds: int, **metadata: Any) -> dict[str, Any]:
        answer = client.post("/adapt", json=vector_task(50, ttl_seconds=ttl_seconds, metadata=metadata))
        return dict(answer.json())

    first, shorter, longer = adapt(100, a=1), adapt(10, b=2), adapt(1000, c=3)
    assert first["id"] == shorter["id"] == longer["id"]
    assert shorter == first and longer["metadata"] == {"a": 1}
    added = datetime.fromisoformat(longer["expires_at"]) - datetime.fromisoformat(first["expires_at"])
    assert added >= timedelta(seconds=900)


def test_children_are_reused_for_the_same_parent_alone(tenant: Tenants) -> None:
    client = tenant("a")
    parents = [client.post("/adapt", json=vector_task(51, options={"seed": seed})).json()["id"] for seed in (1, 2)]
    body = {"support": {"inputs": [[0, 9.0, 0, 0]], "labels": ["up"]}}
    twice, other = (f"/v1/adapted-models/{parent}/examples" for parent in parents)
    first, again = client.post(twice, json=body), client.post(twice, json=body)
    assert (first.status_code, again.status_code) == (201, 200) and first.json()["id"] == again.json()["id"]
    whole = vector_task(51, options={"seed": 1})
    whole["support"]["inputs"].append([0, 9.0, 0, 0])
    whole["support"]["labels"].append("up")
    for answer in (client.post(other, json=body), client.post("/adapt", json=whole)):
        assert answer.status_code == 201 and answer.json()["id"] != first.json()["id"]
    assert answer.json()["parent_id"] is None


def test_a_retry_under_a_key_answers_its_own_query(tenant: Tenants) -> None:
    """Also where the key was given a model that another request had made, with another query."""
    client = tenant("a")
    mine = vector_task(52, query={"inputs": [[5.0, 0, 0, 0]]})
    theirs = vector_task(52, query=QUERY)
    made = [client.post("/adapt", json=mine, headers={"Idempotency-Key": "made"}) for _ in range(2)]
    found = [client.post("/adapt", json=theirs, headers={"Idempotency-Key": "found"}) for _ in range(2)]
    assert [answer.status_code for answer in (*made, *found)] == [201, 201, 200, 200]
    assert len({answer.json()["id"] for answer in (*made, *found)}) == 1
    assert made[0].json() == made[1].json() and len(made[0].json()["predictions"]) == 1
    assert [[item["label"] for item in answer.json()["predictions"]] for answer in found] == [["right", "left"]] * 2


def test_a_retry_stays_a_retry_after_its_alias_moved(tenant: Tenants, query: Query) -> None:
    client = tenant("a")
    plain, copy = client.get("/v1/checkpoints/plain").json()["id"], new_id("ckpt")
    query(
        "INSERT INTO checkpoints (id, name, content_sha256, manifest, object_key, bytes) "
        "SELECT $1, 'copied', $1, manifest, object_key, bytes FROM checkpoints WHERE id = $2", copy, plain,
    )  # fmt: skip
    query("INSERT INTO aliases (name, alias, checkpoint_id) VALUES ('copied', 'moving', $1)", plain)
    body, headers = vector_task(53, checkpoint="copied@moving"), {"Idempotency-Key": "moved"}
    first = client.post("/adapt", json=body, headers=headers)
    query("UPDATE aliases SET checkpoint_id = $1 WHERE name = 'copied'", copy)
    assert client.get("/v1/checkpoints/copied@moving").json()["id"] == copy
    again = client.post("/adapt", json=body, headers=headers)
    query("DELETE FROM aliases WHERE name = 'copied'")
    query("DELETE FROM checkpoints WHERE id = $1", copy)
    assert (first.status_code, again.status_code) == (201, 201) and again.json() == first.json()


def test_a_failure_of_ours_frees_the_key_and_one_of_the_callers_does_not(tenant: Tenants, query: Query) -> None:
    client, headers = tenant("a"), {"Idempotency-Key": "again"}

    def adapt() -> httpx.Response:
        return client.post("/adapt", json=vector_task(54), headers=headers)

    def spoil(model: str, code: str) -> None:
        failure = f'{{"code": "{code}", "message": "no", "param": null}}'
        query("UPDATE tasks SET status = 'failed', failure = $1 WHERE adapted_model_id = $2", failure, model)
        query("UPDATE adapted_models SET fingerprint = NULL WHERE id = $1", model)

    first = adapt().json()["id"]
    spoil(first, "internal")
    second = adapt()
    assert second.status_code == 201 and second.json()["id"] != first
    assert adapt().json()["id"] == second.json()["id"]
    spoil(second.json()["id"], "adaptation_failed")
    assert_problem(adapt(), 422, "adaptation_failed")


def test_lists_leave_predictions_out(tenant: Tenants) -> None:
    client = tenant("a")
    model = client.post("/adapt", json=vector_task(55, query=QUERY)).json()
    assert client.get("/v1/adapted-models").json()["data"] == [{**model, "predictions": None}]
