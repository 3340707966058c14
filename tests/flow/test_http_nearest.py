"""`return: ["nearest"]` over HTTP: the examples that explain an answer."""

from collections.abc import Callable
from typing import Any

import httpx
import pytest

from tests.flow.http_stack import assert_problem, b64, drawing_file, vector_task

pytestmark = pytest.mark.flow
Tenants = Callable[[str], httpx.Client]
NEAREST = ["labels", "nearest"]


def nearest_of(answer: httpx.Response) -> list[list[dict[str, Any]]]:
    assert answer.status_code == 200, answer.text
    return [prediction["nearest"] for prediction in answer.json()["predictions"]]


def test_a_stored_model_names_its_nearest_examples(tenant: Tenants) -> None:
    client = tenant("a")
    task = vector_task(60)
    model = client.post("/adapt", json=task).json()
    inputs = task["support"]["inputs"]
    asked = {"model": model["id"], "inputs": [inputs[4], inputs[1]], "return": NEAREST}
    found = nearest_of(client.post("/predict", json=asked))
    assert [near[0] for near in found] == [
        {"index": 4, "label": "right", "similarity": 1.0},
        {"index": 1, "label": "left", "similarity": 1.0},
    ]
    for near in found:
        similarities = [row["similarity"] for row in near]
        assert len(near) == 3 and similarities == sorted(similarities, reverse=True) and similarities[-1] > 0
    inline = client.post("/predict", json={**task, "inputs": asked["inputs"], "return": NEAREST})
    assert nearest_of(inline) == found


def test_added_examples_come_after_the_parents(tenant: Tenants) -> None:
    client = tenant("a")
    parent = client.post("/adapt", json=vector_task(61)).json()["id"]
    added = {"inputs": [[0, 9.0, 0, 0]], "labels": ["up"]}
    child = client.post(f"/v1/adapted-models/{parent}/examples", json={"support": added}).json()["id"]
    body = {"inputs": [[0, 9.0, 0, 0]], "return": ["nearest"]}
    (near,) = nearest_of(client.post("/predict", json={"model": child, **body}))
    assert near[0] == {"index": 6, "label": "up", "similarity": 1.0}
    (before,) = nearest_of(client.post("/predict", json={"model": parent, **body}))
    assert "up" not in {row["label"] for row in before}


def test_pictures_texts_numbers_and_a_gradient_learner(tenant: Tenants) -> None:
    client = tenant("a")
    drawings = [b64(drawing_file(i)) for i in range(3)]
    texts = ["where is my card", "card has not come", "I want a refund"]
    points = [[1.0], [2.0], [3.0]]
    for checkpoint, inputs, labels in (
        ("drawings", drawings, ["a", "b", "a"]),
        ("words", texts, ["arrival", "arrival", "refund"]),
        ("lines", points, [1.5, 2.5, 3.5]),
        ("auto", texts, ["arrival", "arrival", "refund"]),
    ):
        support = {"inputs": inputs, "labels": labels}
        model = client.post("/adapt", json={"checkpoint": checkpoint, "support": support}).json()
        asked = {"model": model["id"], "inputs": inputs, "return": ["nearest"]}
        found = nearest_of(client.post("/predict", json=asked))
        assert [(near[0]["index"], near[0]["label"]) for near in found] == list(enumerate(labels)), checkpoint


def test_who_may_not_see_the_model_sees_no_example(tenant: Tenants) -> None:
    model = tenant("a").post("/adapt", json=vector_task(62)).json()["id"]
    body = {"model": model, "inputs": [[0, 0, 0, 0]], "return": NEAREST}
    assert tenant("a").post("/predict", json=body).status_code == 200  # and its examples are in memory now
    assert_problem(tenant("b").post("/predict", json=body), 404, "not_found", "model")
    tenant("a").delete(f"/v1/adapted-models/{model}")
    assert_problem(tenant("a").post("/predict", json=body), 404, "not_found", "model")


def test_examples_that_are_gone_are_an_error_that_says_so(tenant: Tenants, query: Callable[..., Any]) -> None:
    client = tenant("a")
    model = client.post("/adapt", json=vector_task(63)).json()["id"]
    query("UPDATE tasks SET payload = NULL WHERE adapted_model_id = $1", model)
    body = {"model": model, "inputs": [[0, 0, 0, 0]]}
    assert client.post("/predict", json=body).status_code == 200
    refused = client.post("/predict", json={**body, "return": NEAREST})
    assert_problem(refused, 409, "conflict")
    assert "no longer stored; adapt again" in refused.json()["detail"]


def test_explanations_are_not_recorded(tenant: Tenants, query: Callable[..., Any]) -> None:
    client = tenant("a")
    model = client.post("/adapt", json=vector_task(64)).json()["id"]
    answer = client.post("/predict", json={"model": model, "inputs": [[0, 0, 0, 0]], "return": NEAREST}).json()
    ((recorded,),) = query("SELECT predictions::text FROM predictions WHERE id = $1", answer["id"])
    assert "label" in recorded and "nearest" not in recorded
