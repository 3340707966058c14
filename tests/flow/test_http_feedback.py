"""Feedback and recording over HTTP: true labels in, an honest figure out, and nobody's tasks without their word."""

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from safetensors.numpy import save

from kshot.contracts.checkpoints import VectorInput
from kshot.contracts.datasets import DatasetManifest
from kshot.contracts.errors import Invalid
from kshot.contracts.ids import new_id
from kshot.contracts.tasks import Payload
from kshot.episodes.datasets import read_pool
from kshot.storage.database import open_database
from kshot.storage.objects import LocalObjects
from tests.flow.conftest import HttpStack
from tests.flow.http_stack import assert_problem, b64, drawing_file, vector_task
from workers.data_folders import lay_dataset

pytestmark = pytest.mark.flow
Tenants = Callable[[str], httpx.Client]
Query = Callable[..., list[Any]]
LEFT, RIGHT = [-5.0, 0.0, 0.0, 0.0], [5.0, 0.0, 0.0, 0.0]


def adapt(client: httpx.Client, seed: int, **changes: Any) -> str:
    answer = client.post("/adapt", json=vector_task(seed, **changes))
    assert answer.status_code in (200, 201), answer.text
    return str(answer.json()["id"])


def predict(client: httpx.Client, model: str, inputs: Any, **changes: Any) -> str:
    answer = client.post("/predict", json={"model": model, "inputs": inputs, **changes})
    assert answer.status_code == 200, answer.text
    return str(answer.json()["id"])


def tell(client: httpx.Client, model: str, body: dict[str, Any], **headers: str) -> httpx.Response:
    return client.post(f"/v1/adapted-models/{model}/feedback", json=body, headers=headers)


def kept(query: Query, feedback: str) -> Payload | None:
    (row,) = query("SELECT payload FROM feedback WHERE id = $1", feedback)
    return None if row["payload"] is None else Payload.decode(row["payload"])


def test_true_labels_of_a_prediction_make_an_honest_figure(tenant: Tenants, query: Query) -> None:
    client = tenant("a")
    model = adapt(client, 1)
    asked = predict(client, model, [LEFT, RIGHT, RIGHT, LEFT], store=True)
    told = tell(client, model, {"prediction": asked, "labels": ["left", "right", "left", None]})
    assert told.status_code == 201, told.text
    body = told.json()
    assert (body["object"], body["n"], body["correct"], body["prediction"]) == ("feedback", 3, 2, asked)
    assert body["observed"] == {"n": 3, "accuracy": pytest.approx(2 / 3), "mse": None}
    support = kept(query, body["id"]).support
    assert support.inputs.tolist() == [LEFT, RIGHT, RIGHT] and support.targets.tolist() == [0, 1, 0]
    more = predict(client, model, [RIGHT], **{"return": ["probabilities"]})
    assert tell(client, model, {"prediction": more, "labels": ["right"]}).json()["correct"] == 1
    shown = client.get(f"/v1/adapted-models/{model}").json()
    assert shown["observed"] == {"n": 4, "accuracy": 0.75, "mse": None} and shown["quality"]["n"] == 6
    assert client.get("/v1/adapted-models").json()["data"][0]["observed"] == shown["observed"]


def test_rejected_queries_were_not_answered(tenant: Tenants) -> None:
    client = tenant("a")
    model = adapt(client, 2)
    asked = predict(client, model, [[0.0, 0.0, 0.0, 0.0], RIGHT], reject_below=0.95)
    body = tell(client, model, {"prediction": asked, "labels": ["left", "right"]}).json()
    assert (body["n"], body["observed"]["n"], body["correct"]) == (2, 1, 1)


def test_inputs_may_come_along_or_alone(tenant: Tenants, query: Query) -> None:
    client = tenant("a")
    model = adapt(client, 3)
    asked = predict(client, model, [LEFT])
    unknown = tell(client, model, {"prediction": predict(client, model, [LEFT]), "labels": ["left"]}).json()
    assert kept(query, unknown["id"]) is None and unknown["observed"]["accuracy"] == 1
    along = tell(client, model, {"prediction": asked, "inputs": [LEFT], "labels": ["left"]}).json()
    assert kept(query, along["id"]).support.inputs.tolist() == [LEFT]
    alone = tell(client, model, {"inputs": [RIGHT], "labels": ["right"]}).json()
    assert (alone["observed"], alone["correct"], alone["n"]) == (None, None, 1)
    stored = predict(client, model, [LEFT], store=True)
    assert_problem(
        tell(client, model, {"prediction": stored, "inputs": [LEFT], "labels": ["left"]}), 422, param="inputs"
    )


def test_numbers(tenant: Tenants) -> None:
    client = tenant("a")
    support = {"inputs": [[0.0], [1.0], [2.0], [3.0]], "labels": [0.0, 1.0, 2.0, 3.0]}
    model = client.post("/adapt", json={"checkpoint": "plain", "support": support}).json()["id"]
    asked = client.post("/predict", json={"model": model, "inputs": [[0.5], [1.5]]}).json()
    values = [row["value"] for row in asked["predictions"]]
    body = tell(client, model, {"prediction": asked["id"], "labels": [values[0] + 1, values[1] - 3]}).json()
    assert body["observed"]["mse"] == pytest.approx(5, rel=1e-4) and body["correct"] is None
    for label, param in (([1.0, 2.0], "labels[0]"), ("high", "labels[0]")):
        assert_problem(tell(client, model, {"inputs": [[1.0]], "labels": [label]}), 422, "invalid", param)


def test_files_and_tensors(tenant: Tenants, query: Query) -> None:
    client = tenant("a")
    model = adapt(client, 4)
    header = {"header": '{"support.labels": ["left", "right"]}'}
    body = save({"support.inputs": np.array([LEFT, RIGHT], np.float32)}, metadata=header)
    path, binary = f"/v1/adapted-models/{model}/feedback", {"Content-Type": "application/vnd.safetensors"}
    told = client.post(path, content=body, headers=binary)
    assert told.status_code == 201, told.text
    assert kept(query, told.json()["id"]).support.inputs.tolist() == [LEFT, RIGHT]
    support = {"inputs": [b64(drawing_file(k)) for k in range(4)], "labels": ["a", "a", "b", "b"]}
    drawings = client.post("/adapt", json={"checkpoint": "drawings", "support": support}).json()["id"]
    parts = [("support[a]", ("x.png", drawing_file(9))), ("support[b]", ("y.png", drawing_file(8)))]
    told = client.post(f"/v1/adapted-models/{drawings}/feedback", files=parts)
    assert told.status_code == 201 and told.json()["n"] == 2, told.text
    assert kept(query, told.json()["id"]).support.inputs.shape == (2, 28, 28, 1)


def test_feedback_that_means_nothing_is_refused(tenant: Tenants) -> None:
    client, stranger = tenant("a"), tenant("b")
    model, other = adapt(client, 5), adapt(client, 6)
    asked = predict(client, model, [LEFT, RIGHT])
    for body, param in (
        ({"prediction": asked, "labels": ["left"]}, "labels"),
        ({"prediction": asked, "labels": ["left", "up"]}, "labels[1]"),
        ({"prediction": asked, "labels": ["left", 1]}, "labels[1]"),
        ({"prediction": asked, "labels": [None, None]}, "labels"),
        ({"labels": ["left"]}, "prediction"),
        ({"inputs": [LEFT], "labels": []}, "labels"),
        ({"inputs": [LEFT, RIGHT], "labels": ["left"]}, "labels"),
        ({"inputs": [[1.0]], "labels": ["left"]}, "inputs[0]"),
        ({"prediction": asked, "labels": ["left", "right"], "label": 1}, "label"),
    ):
        assert_problem(tell(client, model, body), 422, "invalid", param)
    nan = client.post(
        f"/v1/adapted-models/{model}/feedback",
        content='{"inputs": [[NaN, 0, 0, 0]], "labels": ["left"]}',
        headers={"Content-Type": "application/json"},
    )
    assert_problem(nan, 422)
    good = {"prediction": asked, "labels": ["left", "right"]}
    for missing in (asked.replace("pred", "task"), new_id("pred"), "x"):
        assert_problem(tell(client, model, {**good, "prediction": missing}), 404, "not_found", "prediction")
    assert_problem(tell(client, other, good), 404, "not_found", "prediction")
    assert_problem(tell(stranger, model, good), 404, "not_found")
    assert_problem(tell(stranger, adapt(stranger, 5), good), 404, "not_found", "prediction")
    joint = {"inputs": [LEFT, RIGHT, LEFT, RIGHT], "labels": [{"a": float(i), "b": i + 0.5} for i in range(4)]}
    several = client.post("/adapt", json={"checkpoint": "plain", "support": joint}).json()["id"]
    assert_problem(tell(client, several, {"inputs": [LEFT], "labels": [{"a": 1.0}]}), 422, "invalid", "labels")


def test_once_for_a_prediction_and_once_for_a_key(tenant: Tenants, query: Query) -> None:
    client = tenant("a")
    model = adapt(client, 7)
    body = {"prediction": predict(client, model, [LEFT]), "labels": ["left"]}
    first = tell(client, model, body, **{"Idempotency-Key": "one"})
    again = tell(client, model, body, **{"Idempotency-Key": "one"})
    assert (first.status_code, again.status_code) == (201, 200) and first.json() == again.json()
    headers = {"Idempotency-Key": "one", "Content-Type": "application/json"}
    apart = client.post(f"/v1/adapted-models/{model}/feedback", content=json.dumps(body, indent=2), headers=headers)
    assert (apart.status_code, apart.json()) == (200, first.json())  # the same, written otherwise
    assert_problem(tell(client, model, body), 409, "conflict", "prediction")
    changed = {**body, "labels": ["right"]}
    assert_problem(tell(client, model, changed, **{"Idempotency-Key": "one"}), 422, "idempotency_key_reused")
    noted = query("SELECT action FROM audit_log WHERE object_id = $1", first.json()["id"])
    assert [row["action"] for row in noted] == ["feedback.create"]
    assert client.delete(f"/v1/adapted-models/{model}").status_code == 200
    assert query("SELECT count(*) FROM feedback WHERE adapted_model_id = $1", model)[0][0] == 0


def test_recording_is_each_tenants_own_decision(tenant: Tenants, query: Query) -> None:
    client, other = tenant("a"), tenant("b")
    assert client.get("/v1/recording").json() == {
        "object": "recording", "enabled": False, "retention_days": 90, "changed_at": None,
    }  # fmt: skip
    on = client.put("/v1/recording", json={"enabled": True, "retention_days": 7})
    assert on.status_code == 200 and (on.json()["enabled"], on.json()["retention_days"]) == (True, 7)
    assert client.get("/v1/recording").json() == on.json() and not other.get("/v1/recording").json()["enabled"]
    assert client.put("/v1/recording", json={"enabled": False}).json()["retention_days"] == 90
    for bad in ({}, {"enabled": 1}, {"enabled": True, "retention_days": 0}, {"enabled": True, "retention_days": 3651}):
        assert_problem(client.put("/v1/recording", json=bad), 422)
    noted = query("SELECT action FROM audit_log WHERE action LIKE 'recording.%' ORDER BY id DESC LIMIT 2")
    assert [row["action"] for row in noted] == ["recording.disable", "recording.enable"]


def test_tasks_of_tenants_that_let_us_become_a_data_set(
    tenant: Tenants, admin: httpx.Client, http_stack: HttpStack, query: Query, tmp_path: Path
) -> None:
    client, other = tenant("a"), tenant("b")
    client.put("/v1/recording", json={"enabled": True})
    models = [adapt(client, 100 + seed, checkpoint="quads") for seed in range(4)]
    adapt(client, 100, checkpoint="quads", options={"l2": 5.0})  # the same examples
    up = {"support": {"inputs": [[0.0, 9.0, 0.0, 0.0]], "labels": ["up"]}}
    assert client.post(f"/v1/adapted-models/{models[1]}/examples", json=up).status_code == 201
    assert tell(client, models[2], {"inputs": [[9.0, 9.0, 0.0, 0.0]], "labels": ["right"]}).status_code == 201
    adapt(other, 200, checkpoint="quads")
    whose = "SELECT name FROM tenants t JOIN adapted_models m ON m.tenant_id = t.id WHERE m.id = $1"
    tenants = [row["name"] for row in query(whose, models[0])]
    wanted = {"name": f"of-{tenants[0]}", "source": "recorded-tasks", "checkpoint": "quads", "tenants": tenants}
    made = admin.post("/v1/datasets", json=wanted)
    assert made.status_code == 201, made.text
    laid = asyncio.run(lay(http_stack, made.json()["id"], tmp_path))
    pool = read_pool(tmp_path / laid.id, "all", VectorInput(width=4))
    groups = {name.split("/")[0] for name in pool.classes}
    assert len(groups) == 4 and laid.n_examples == 4 * 6 + 2 and len(pool.classes) == 9
    assert client.put("/v1/recording", json={"enabled": False}).status_code == 200
    with pytest.raises(Invalid, match="0 tasks are recorded"):
        asyncio.run(lay(http_stack, made.json()["id"], tmp_path))


async def lay(stack: HttpStack, dataset: str, data: Path) -> DatasetManifest:
    """As the trainer does when a job begins."""
    database = open_database(stack.servers.database_url)
    try:
        return await lay_dataset(database, LocalObjects(Path(stack.environ["KSHOT_OBJECTS"])), dataset, data)
    finally:
        await database.dispose()
