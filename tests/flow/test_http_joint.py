"""Supports with several targets over HTTP: classes, values and gaps, all the way through a worker and back."""

import json
from collections.abc import Callable
from typing import Any

import httpx
import numpy as np
import pytest
from safetensors.numpy import save

from tests.flow.http_stack import assert_problem, b64, drawing_file

pytestmark = pytest.mark.flow
Tenants = Callable[[str], httpx.Client]
QUERY = {"inputs": [[-4.0, 0.5, 0.0], [4.0, 0.5, 0.0]]}


def joint_task(seed: int = 0, **changes: Any) -> dict[str, Any]:
    """Twelve vectors: the side they lie on, how high (2 y + 1), and a grade in integers; each with gaps."""
    rng = np.random.default_rng(seed)
    side = np.repeat([-4.0, 4.0], 6)
    inputs = (
        (rng.normal(scale=[0.3, 2.0, 0.3], size=(12, 3)) + np.stack([side, np.zeros(12), np.zeros(12)], 1))
        .round(4)
        .tolist()
    )
    labels: list[dict[str, Any]] = [
        {"side": "left" if x < 0 else "right", "height": 2 * y + 1, "grade": int(x > 0)} for x, y, _ in inputs
    ]
    labels[0]["side"] = None
    del labels[1]["side"], labels[1]["grade"]
    labels[7] = {"grade": 1}
    return {"checkpoint": "plain", "support": {"inputs": inputs, "labels": labels}, **changes}


def targets_of(model: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {target["name"]: target for target in model["targets"]}


def test_some_classes_some_numbers_some_missing(tenant: Tenants) -> None:
    client = tenant("a")
    answer = client.post("/adapt", json=joint_task(1, query=QUERY))
    assert answer.status_code == 201, answer.text
    model = answer.json()
    assert (model["task"], model["learner"]) == ("multitask", "multitask") and model["checkpoint"]["name"] == "plain"
    assert (model["classes"], model["n_way"], model["k_shot"], model["quality"]) == ([], None, {}, None)
    assert [target["name"] for target in model["targets"]] == ["grade", "height", "side"]
    side, height, grade = (targets_of(model)[name] for name in ("side", "height", "grade"))
    assert (side["task"], side["classes"], side["n_way"]) == ("classification", ["left", "right"], 2)
    assert (side["k_shot"], side["n_examples"]) == ({"left": 4, "right": 5}, 9)
    assert (height["task"], height["classes"], height["n_examples"]) == ("regression", [], 11)
    assert (grade["classes"], grade["k_shot"]) == ([0, 1], {"0": 5, "1": 6})
    assert side["quality"]["method"] == "leave_one_out" and side["quality"]["n"] == 9
    assert side["quality"]["accuracy"] == 1.0 and height["quality"]["r2"] > 0.5
    left, right = (prediction["targets"] for prediction in model["predictions"])
    assert (left["side"]["label"], right["side"]["label"]) == ("left", "right")
    assert (left["grade"]["label"], right["grade"]["label"]) == (0, 1)
    assert left["height"]["value"] == pytest.approx(2, abs=0.5) and "std" in left["height"]
    assert client.get(answer.headers["location"]).json() == model
    assert client.get("/v1/adapted-models").json()["data"] == [{**model, "predictions": None}]
    asked = client.post("/predict", json={"model": model["id"], **QUERY})
    assert asked.json()["predictions"] == model["predictions"]


def test_each_target_is_what_a_support_of_that_target_alone_gives(tenant: Tenants) -> None:
    client = tenant("a")
    task = joint_task(2, query=QUERY)
    joint = client.post("/adapt", json=task).json()
    for name in ("side", "height"):
        rows = [(x, row[name]) for x, row in zip(*task["support"].values(), strict=True) if row.get(name) is not None]
        support = {"inputs": [x for x, _ in rows], "labels": [label for _, label in rows]}
        alone = client.post("/adapt", json={**task, "support": support, "options": {"learner": "ridge"}}).json()
        for one, other in zip(joint["predictions"], alone["predictions"], strict=True):
            assert_close(one["targets"][name], other)
        assert targets_of(joint)[name]["quality"] == pytest.approx(alone["quality"], abs=1e-4)


def assert_close(one: dict[str, Any], other: dict[str, Any]) -> None:
    assert one.get("label") == other.get("label")
    for part in ("probabilities", "value", "std"):
        assert one.get(part) == pytest.approx(other.get(part), abs=1e-4)


def test_options_of_the_answer_apply_to_each_target(tenant: Tenants) -> None:
    client = tenant("a")
    model = client.post("/adapt", json=joint_task(3)).json()["id"]

    def ask(**options: Any) -> httpx.Response:
        return client.post("/predict", json={"model": model, "inputs": [[0.3, 0.0, 0.0]], **options})

    def first(**options: Any) -> dict[str, Any]:
        return dict(ask(**options).json()["predictions"][0]["targets"])

    labels = first(**{"return": ["labels"]})
    assert set(labels) == {"side", "grade"} and set(labels["side"]) == {"label"}
    assert set(first(**{"return": ["values"]})) == {"height"}
    both = first(**{"return": ["values", "logits"]})
    assert set(both) == {"side", "grade", "height"} and set(both["side"]) == {"logits"}
    assert len(first(top_k=1)["side"]["probabilities"]) == 1
    assert first(reject_below=1.0)["side"]["label"] is None
    numbers = joint_task(3)
    for row in numbers["support"]["labels"]:
        row.pop("side", None), row.pop("grade", None)
    numbers["support"] = {
        key: [part for part, row in zip(parts, numbers["support"]["labels"], strict=True) if row]
        for key, parts in numbers["support"].items()
    }
    model = client.post("/adapt", json=numbers).json()["id"]
    assert_problem(ask(**{"return": ["labels"]}), 422, "invalid", "return")
    assert_problem(ask(top_k=1), 422, "invalid", "top_k")


def test_integers_may_be_said_to_be_numbers(tenant: Tenants) -> None:
    answer = tenant("a").post("/adapt", json=joint_task(4, options={"targets": {"grade": "regression"}}))
    assert answer.status_code == 201, answer.text
    assert targets_of(answer.json())["grade"]["task"] == "regression"


def test_one_shot_predict_and_other_checkpoints_and_bodies(tenant: Tenants) -> None:
    client = tenant("a")
    task = joint_task(5)
    stored = client.post("/adapt", json={**task, "query": QUERY}).json()
    one_shot = client.post("/predict", json={**task, **QUERY})
    assert one_shot.status_code == 200, one_shot.text
    assert one_shot.json()["predictions"] == stored["predictions"]
    header = {"checkpoint": "plain", "support.labels": task["support"]["labels"]}
    tensors = {name: np.array(rows, np.float32) for name, rows in
               (("support.inputs", task["support"]["inputs"]), ("query.inputs", QUERY["inputs"]))}  # fmt: skip
    body = save(tensors, metadata={"header": json.dumps(header)})
    headers = {"Content-Type": "application/vnd.safetensors"}
    binary = tenant("b").post("/adapt", content=body, headers=headers)
    assert binary.status_code == 201, binary.text
    assert binary.json()["predictions"] == stored["predictions"]
    pictures = {"inputs": [b64(drawing_file(i)) for i in range(4)],
                "labels": [{"a": "x", "b": 1.5}, {"a": "y"}, {"a": "x", "b": 2}, {"b": 3}]}  # fmt: skip
    drawn = client.post("/adapt", json={"checkpoint": "drawings", "support": pictures})
    assert drawn.status_code == 201, drawn.text
    assert (drawn.json()["learner"], len(drawn.json()["targets"])) == ("multitask", 2)


def test_the_same_joint_support_is_one_model_whatever_the_order_of_keys(tenant: Tenants) -> None:
    client, task = tenant("a"), joint_task(6)
    headers = {"Idempotency-Key": "joint"}
    first = client.post("/adapt", json=task, headers=headers)
    task["support"]["labels"] = [dict(reversed(row.items())) for row in task["support"]["labels"]]
    same, retried = client.post("/adapt", json=task), client.post("/adapt", json=task, headers=headers)
    assert (first.status_code, same.status_code, retried.status_code) == (201, 200, 201)
    assert first.json()["id"] == same.json()["id"] == retried.json()["id"]
    task["support"]["labels"][0]["side"] = "left"
    other = client.post("/adapt", json=task)
    assert other.status_code == 201 and other.json()["id"] != first.json()["id"]
    assert_problem(client.post("/adapt", json=task, headers=headers), 422, "idempotency_key_reused")


def test_added_examples_may_bring_a_target(tenant: Tenants) -> None:
    client = tenant("a")
    parent = client.post("/adapt", json=joint_task(7)).json()
    added = {"inputs": [[0.0, 9.0, 0.0], [0.0, 9.1, 0.0]], "labels": [{"side": "up", "shade": 0.5}, {"shade": 1}]}
    answer = client.post(f"/v1/adapted-models/{parent['id']}/examples", json={"support": added, "query": QUERY})
    assert answer.status_code == 201, answer.text
    child = answer.json()
    assert [target["name"] for target in child["targets"]] == ["grade", "height", "side", "shade"]
    assert targets_of(child)["side"]["k_shot"] == {"left": 4, "right": 5, "up": 1}
    assert targets_of(child)["shade"]["n_examples"] == 2 and child["n_support"] == 14
    assert set(child["predictions"][0]["targets"]) == {"grade", "height", "side", "shade"}
    plain = {"support": {"inputs": [[0.0, 9.0, 0.0]], "labels": ["up"]}}
    assert_problem(
        client.post(f"/v1/adapted-models/{parent['id']}/examples", json=plain), 422, "invalid", "support.labels[0]"
    )


def test_pending_then_done_then_deleted(tenant: Tenants) -> None:
    client = tenant("a")
    answer = client.post("/adapt", json=joint_task(8, query=QUERY), headers={"Prefer": "respond-async"})
    assert answer.status_code == 202
    assert [target["quality"] for target in answer.json()["targets"]] == [None, None, None]
    where = answer.headers["location"]
    done = client.get(where, params={"wait": 20}).json()
    assert done["status"] == "succeeded" and all(target["quality"] for target in done["targets"])
    assert client.delete(where).status_code == 200
    assert_problem(client.get(where), 404)


@pytest.mark.parametrize(
    ("row", "options", "param"),
    [
        ("left", {}, "support.labels[12]"),
        ({}, {}, "support.labels[12]"),
        ({"side": 3}, {}, "support.labels[12].side"),
        ({"height": "x"}, {}, "support.labels[12].height"),
        ({"height": 1e39}, {}, "support.labels[12].height"),
        ({"height": [1.0]}, {}, "support.labels[12].height"),
        ({"height": {"a": 1}}, {}, "support.labels[12].height"),
        ({"shape": "round"}, {}, "support.labels[12].shape"),
        ({"side": "left", "shape": None}, {}, "support.labels[12].shape"),
        ({"x" * 65: "a"}, {}, "support.labels[12]"),
        ({f"t{i}": 0.5 for i in range(62)}, {}, "support.labels"),
        ({"side": "left"}, {"learner": "ridge"}, "options.learner"),
        ({"side": "left"}, {"targets": {"nobody": "regression"}}, "options.targets.nobody"),
        ({"side": "left"}, {"targets": {"side": "sideways"}}, "options.targets.side"),
        ({"side": "left"}, {"task": "regression"}, "options.task"),
    ],
)
def test_what_is_wrong_is_named(admin: httpx.Client, row: Any, options: dict[str, Any], param: str) -> None:
    task = joint_task(9, options=options)
    task["support"]["inputs"].append([0.0, 0.0, 0.0])
    task["support"]["labels"].append(row)
    assert_problem(admin.post("/adapt", json=task), 422, "invalid", param)


def test_what_is_no_json_object_of_labels(admin: httpx.Client) -> None:
    body = b'{"checkpoint": "plain", "support": {"inputs": [[1], [2]], "labels": [{"a": %s}, {"a": "y"}]}}'
    headers = {"Content-Type": "application/json"}
    twice = admin.post("/adapt", content=body.replace(b'"a": %s', b'"a": "x", "a": "z"'), headers=headers)
    assert_problem(twice, 422, "invalid")
    assert "twice" in twice.json()["detail"]
    assert_problem(admin.post("/adapt", content=body % b"NaN", headers=headers), 422, "invalid")
    assert_problem(admin.post("/adapt", content=body % b'"\\u0000"', headers=headers), 422, "invalid")
    form = {"request": json.dumps({"checkpoint": "words", "options": {"task": "multitask"}})}
    files = [(f"support[{label}]", ("x.txt", b"a text")) for label in ("a", "b")]
    assert_problem(admin.post("/adapt", data=form, files=files), 422, "invalid", "options.task")
