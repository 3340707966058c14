"""POST /adapt over HTTP: the whole way through Postgres, Valkey and a worker, and back."""

import json
import time
from collections.abc import Callable
from typing import Any

import httpx
import numpy as np
import pytest
from safetensors.numpy import save

from tests.flow.http_stack import assert_problem, b64, drawing_file, vector_task

pytestmark = pytest.mark.flow
Tenants = Callable[[str], httpx.Client]
QUERY = {"inputs": [[5.0, 0.0, 0.0, 0.0], [-5.0, 0.0, 0.0, 0.0]]}


@pytest.mark.parametrize("path", ["/adapt", "/v1/adapt"])
def test_a_support_set_in_a_model_with_predictions_out(tenant: Tenants, path: str) -> None:
    client = tenant("a")
    answer = client.post(path, json=vector_task(1, query=QUERY, metadata={"for": "a test"}, ttl_seconds=60))
    assert answer.status_code == 201, answer.text
    model = answer.json()
    assert model["object"] == "adapted_model" and model["status"] == "succeeded"
    assert answer.headers["location"] == f"/v1/adapted-models/{model['id']}"
    assert model["checkpoint"]["name"] == "plain" and model["checkpoint"]["alias"] == "production"
    assert (model["learner"], model["task"], model["classes"]) == ("ridge", "classification", ["left", "right"])
    assert model["n_way"] == 2 and model["k_shot"] == {"left": 3, "right": 3} and model["n_support"] == 6
    assert model["quality"]["method"] == "leave_one_out" and model["quality"]["n"] == 6
    assert [prediction["label"] for prediction in model["predictions"]] == ["right", "left"]
    assert sum(model["predictions"][0]["probabilities"].values()) == pytest.approx(1, abs=1e-5)
    assert set(model["timings"]) == {"queue_ms", "compute_ms", "batch_size"}
    assert model["metadata"] == {"for": "a test"} and model["parent_id"] is None and not model["pinned"]
    read = client.get(answer.headers["location"]).json()
    assert read == model


def test_predict_with_a_stored_model(tenant: Tenants) -> None:
    client = tenant("a")
    model = client.post("/adapt", json=vector_task(2)).json()
    body = {"model": model["id"], "inputs": QUERY["inputs"]}
    answer = client.post("/predict", json=body)
    assert answer.status_code == 200, answer.text
    prediction = answer.json()
    assert prediction["object"] == "prediction" and prediction["id"].startswith("pred_")
    assert prediction["model"] == model["id"] and prediction["checkpoint"] == model["checkpoint"]
    assert [item["label"] for item in prediction["predictions"]] == ["right", "left"]
    again = client.post("/v1/predict", json=body).json()
    assert again["predictions"] == prediction["predictions"]


def test_predict_options(tenant: Tenants) -> None:
    client = tenant("a")
    model = client.post("/adapt", json=vector_task(3)).json()["id"]

    def ask(**options: Any) -> Any:
        return client.post("/predict", json={"model": model, "inputs": [[0.2, 0, 0, 0]], **options})

    assert set(ask(**{"return": ["labels"]}).json()["predictions"][0]) == {"label"}
    assert set(ask(**{"return": ["logits", "probabilities"]}).json()["predictions"][0]) == {"logits", "probabilities"}
    assert len(ask(top_k=1).json()["predictions"][0]["probabilities"]) == 1
    unsure = ask(reject_below=1.0).json()["predictions"][0]
    assert unsure["label"] is None and len(unsure["probabilities"]) == 2
    assert_problem(ask(**{"return": ["values"]}), 422, "invalid", "return")


def test_one_shot_predict_brings_its_own_support(tenant: Tenants) -> None:
    client = tenant("a")
    task = vector_task(4)
    stored = client.post("/adapt", json={**task, "query": QUERY}).json()
    answer = client.post("/predict", json={**task, "inputs": QUERY["inputs"]})
    assert answer.status_code == 200, answer.text
    assert answer.json()["model"] is None and answer.json()["predictions"] == stored["predictions"]
    assert len(client.get("/v1/adapted-models").json()["data"]) == 1


def test_respond_async_then_poll_and_wait(tenant: Tenants) -> None:
    client = tenant("a")
    answer = client.post("/adapt", json=vector_task(5, query=QUERY), headers={"Prefer": "respond-async"})
    assert answer.status_code == 202 and answer.headers["preference-applied"] == "respond-async"
    pending = answer.json()
    assert pending["status"] in ("queued", "running") and pending["queue_state"] in ("queued", "running")
    assert pending["position"] >= 0 and pending["retry_after_ms"] > 0 and "retry-after" in answer.headers
    done = client.get(answer.headers["location"], params={"wait": 20})
    assert done.status_code == 200 and done.json()["status"] == "succeeded"
    assert [prediction["label"] for prediction in done.json()["predictions"]] == ["right", "left"]


def test_prefer_wait_is_echoed(tenant: Tenants) -> None:
    answer = tenant("a").post("/adapt", json=vector_task(6), headers={"Prefer": "wait=30"})
    assert answer.status_code == 201 and answer.headers["preference-applied"] == "wait=30"


def test_an_expired_model_is_gone_and_a_pinned_one_stays(tenant: Tenants) -> None:
    client = tenant("a")
    kept = client.post("/adapt", json=vector_task(11, ttl_seconds=1)).json()["id"]
    pinned = client.patch(f"/v1/adapted-models/{kept}", json={"pinned": True, "metadata": {"a": 1}})
    assert pinned.status_code == 200 and pinned.json()["pinned"] and pinned.json()["expires_at"] is None
    brief = client.post("/adapt", json=vector_task(10, ttl_seconds=1)).json()["id"]
    deadline = 50
    while (gone := client.get(f"/v1/adapted-models/{brief}")).status_code == 200 and deadline:
        deadline -= 1
        client.get(f"/v1/adapted-models/{kept}", params={"wait": 0})
        time.sleep(0.1)
    assert_problem(gone, 410, "expired")
    assert client.get(f"/v1/adapted-models/{kept}").json()["metadata"] == {"a": 1}
    assert [model["id"] for model in client.get("/v1/adapted-models").json()["data"]] == [kept]
    unpin = client.patch(f"/v1/adapted-models/{kept}", json={"pinned": False})
    assert_problem(unpin, 422, "invalid", "ttl_seconds")
    unpinned = client.patch(f"/v1/adapted-models/{kept}", json={"pinned": False, "ttl_seconds": 1000}).json()
    assert unpinned["expires_at"] is not None


def test_lists_come_in_pages_newest_first(tenant: Tenants) -> None:
    client = tenant("a")
    ids = [client.post("/adapt", json=vector_task(20 + i)).json()["id"] for i in range(5)]
    first = client.get("/v1/adapted-models", params={"limit": 2}).json()
    assert [model["id"] for model in first["data"]] == ids[:-3:-1] and first["has_more"]
    assert (first["first_id"], first["last_id"]) == (ids[4], ids[3])
    rest = client.get("/v1/adapted-models", params={"limit": 3, "after": first["last_id"]}).json()
    assert [model["id"] for model in rest["data"]] == ids[2::-1] and not rest["has_more"]
    for wrong in ({"limit": 0}, {"limit": 101}, {"limit": "x"}, {"after": "../etc"}):
        assert_problem(client.get("/v1/adapted-models", params=wrong), 422, "invalid", next(iter(wrong)))


def test_examples_make_a_child_with_more_rows_and_classes(tenant: Tenants) -> None:
    client = tenant("a")
    parent = client.post("/adapt", json=vector_task(30, options={"l2": 2.0})).json()
    added = {"inputs": [[0, 9.0, 0, 0], [0, 9.5, 0, 0]], "labels": ["up", "up"]}
    answer = client.post(
        f"/v1/adapted-models/{parent['id']}/examples", json={"support": added, "query": {"inputs": [[0, 9.2, 0, 0]]}}
    )
    assert answer.status_code == 201, answer.text
    child = answer.json()
    assert child["id"] != parent["id"] and child["parent_id"] == parent["id"] and child["n_support"] == 8
    assert child["classes"] == ["left", "right", "up"] and child["k_shot"] == {"left": 3, "right": 3, "up": 2}
    assert child["predictions"][0]["label"] == "up"
    for wrong in ({"inputs": [[0.0]], "labels": ["up"]}, {"inputs": [[0, 0, 0, 0]], "labels": [1]}):
        assert_problem(client.post(f"/v1/adapted-models/{parent['id']}/examples", json={"support": wrong}), 422)


def test_examples_as_a_form_for_a_model_whose_classes_are_integers(tenant: Tenants) -> None:
    client = tenant("a")
    support = {"inputs": [b64(drawing_file(i)) for i in range(2)], "labels": [7, 8]}
    parent = client.post("/adapt", json={"checkpoint": "drawings", "support": support}).json()["id"]
    files = [("support[8]", ("x.png", drawing_file(2))), ("support[9]", ("x.png", drawing_file(3)))]
    answer = client.post(f"/v1/adapted-models/{parent}/examples", files=files)
    assert answer.status_code == 201, answer.text
    assert answer.json()["classes"] == [7, 8, 9] and answer.json()["k_shot"] == {"7": 1, "8": 2, "9": 1}


def test_regression_in_and_out(tenant: Tenants) -> None:
    client = tenant("a")
    x = np.linspace(-1, 1, 12)
    body = {
        "checkpoint": "plain",
        "support": {"inputs": [[v, v * v] for v in x.tolist()], "labels": [3 * v + 1 for v in x.tolist()]},
        "query": {"inputs": [[0.5, 0.25]]},
    }
    model = client.post("/adapt", json=body).json()
    assert model["task"] == "regression" and model["classes"] == [] and model["n_way"] is None and model["k_shot"] == {}
    assert model["predictions"][0]["value"] == pytest.approx(2.5, abs=0.3)
    predicted = client.post("/predict", json={"model": model["id"], "inputs": [[0.5, 0.25]]}).json()
    assert predicted["predictions"] == model["predictions"]
    assert_problem(client.post("/predict", json={"model": model["id"], "inputs": [[0, 0]], "top_k": 1}), 422)


def test_a_gradient_learner_with_its_own_options(tenant: Tenants) -> None:
    client = tenant("a")
    support = {"inputs": [[1.0], [2.0], [3.0]], "labels": [1, 2, 3]}
    body = {"checkpoint": "lines@production", "support": support, "options": {"inner_steps": 3, "inner_lr": 0.01}}
    model = client.post("/adapt", json=body)
    assert model.status_code == 201 and model.json()["task"] == "regression" and model.json()["learner"] == "maml"
    as_ridge = client.post("/adapt", json={**body, "options": {"learner": "ridge"}})
    assert as_ridge.status_code == 201 and as_ridge.json()["learner"] == "ridge"


@pytest.mark.parametrize("learner", ["protonet", "matching", "contrastive"])
def test_another_learner_than_the_checkpoints_own(tenant: Tenants, learner: str) -> None:
    model = tenant("a").post("/adapt", json=vector_task(7, query=QUERY, options={"learner": learner})).json()
    assert (model["learner"], model["quality"]["method"]) == (learner, "leave_one_out")
    assert [prediction["label"] for prediction in model["predictions"]] == ["right", "left"]


def test_texts(tenant: Tenants) -> None:
    body = {
        "checkpoint": "words",
        "support": {
            "inputs": ["where is my card", "card has not come", "I want a refund", "give me my money back"],
            "labels": ["arrival", "arrival", "refund", "refund"],
        },
        "query": {"inputs": ["my new card is late", "https://example.com is text here"]},
    }
    model = tenant("a").post("/adapt", json=body)
    assert model.status_code == 201, model.text
    assert model.json()["predictions"][0]["label"] == "arrival"


def test_images_as_json_as_a_form_and_as_tensors_agree(tenant: Tenants) -> None:
    files = [drawing_file(i) for i in range(4)]
    labels = ["a", "b", "a", "b"]
    support = {"inputs": [b64(file) for file in files], "labels": labels}
    query = {"inputs": ["data:image/png;base64," + b64(files[0])]}
    as_json = tenant("a").post("/adapt", json={"checkpoint": "drawings", "support": support, "query": query})
    assert as_json.status_code == 201, as_json.text
    as_form = tenant("b").post(
        "/adapt",
        data={"request": json.dumps({"checkpoint": "drawings"})},
        files=[
            *((f"support[{label}]", ("x.png", file)) for label, file in zip(labels, files, strict=True)),
            ("query", ("q.png", files[0])),
        ],
    )
    assert as_form.status_code == 201, as_form.text
    assert as_form.json()["predictions"] == as_json.json()["predictions"]
    assert as_form.json()["k_shot"] == {"a": 2, "b": 2}


def test_tensors_agree_with_json(tenant: Tenants) -> None:
    client = tenant("a")
    task = vector_task(40)
    tensors = {
        "support.inputs": np.array(task["support"]["inputs"], np.float32),
        "support.targets": np.array([0, 0, 0, 1, 1, 1]),
        "query.inputs": np.array(QUERY["inputs"], np.float32),
    }
    body = save(tensors, metadata={"header": json.dumps({"checkpoint": "plain"})})
    headers = {"Content-Type": "application/vnd.safetensors"}
    answer = client.post("/adapt", content=body, headers=headers)
    assert answer.status_code == 201, answer.text
    in_json = client.post("/adapt", json={**task, "query": QUERY}).json()
    assert answer.json()["classes"] == [0, 1] and [p["label"] for p in answer.json()["predictions"]] == [1, 0]
    mine = [list(p["probabilities"].values()) for p in answer.json()["predictions"]]
    theirs = [list(p["probabilities"].values()) for p in in_json["predictions"]]
    assert np.allclose(mine, theirs, atol=1e-4)
    query = save(
        {"query.inputs": tensors["query.inputs"]}, metadata={"header": json.dumps({"model": answer.json()["id"]})}
    )
    predicted = client.post("/predict", content=query, headers=headers)
    assert predicted.status_code == 200 and predicted.json()["predictions"] == answer.json()["predictions"]


def test_checkpoints_aliases_and_limits(tenant: Tenants) -> None:
    client = tenant("a")
    listed = client.get("/v1/checkpoints?limit=100").json()
    assert {item["name"] for item in listed["data"]} >= {"plain", "quads", "drawings", "sketches", "lines", "words"}
    plain = next(item for item in listed["data"] if item["name"] == "plain")
    assert plain["aliases"] == ["plain@production"]
    assert plain["learners"][0] == "ridge" and {"protonet", "multitask"} < set(plain["learners"])
    for reference in (plain["id"], "plain", "plain@production"):
        assert client.get(f"/v1/checkpoints/{reference}").json() == plain
    aliases = client.get("/v1/aliases").json()["data"]
    assert {(alias["name"], alias["alias"]) for alias in aliases} >= {("plain", "production")}
    limits = client.get("/v1/limits").json()
    assert limits["max_dataset_bytes"] == 2**30
    assert limits["max_support"] == 2000 and limits["max_ways"] == 200 and limits["max_body_bytes"] == 32 * 2**20
