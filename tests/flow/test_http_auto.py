"""Checkpoint `auto` over HTTP: who was considered, what was chosen, and that the rest is as if it had been named."""

import os
import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from kshot.contracts.checkpoints import EncoderSpec, ImageInput
from kshot.contracts.ids import new_id
from tests.flow.conftest import HttpStack, Query
from tests.flow.http_stack import CHECKOUT, PYTHON, assert_problem, b64, drawing_file, vector_task, write_checkpoint
from tests.flow.test_http_joint import assert_close, joint_task

pytestmark = pytest.mark.flow
Tenants = Callable[[str], httpx.Client]
QUERY = {"inputs": [[5.0, 0.0, 0.0, 0.0], [-5.0, 0.0, 0.0, 0.0]]}
FIGURES = ("leave_one_out", "log_likelihood", "knn", "logme", "score")


@pytest.fixture(autouse=True)
def stacks_own_alone(query: Query) -> None:
    """What other files promoted on the stack that all share is no candidate here."""
    query("DELETE FROM aliases WHERE name <> ALL($1)", ["plain", "quads", "drawings", "sketches", "lines", "words"])


def drawing_task(seed: int = 0, **changes: Any) -> dict[str, Any]:
    support = {"inputs": [b64(drawing_file(4 * seed + i)) for i in range(4)], "labels": ["a", "b", "a", "b"]}
    return {"checkpoint": "auto", "support": support, **changes}


def considered(model: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {item["checkpoint"]["name"]: item for item in model["selection"]["considered"]}


@contextmanager
def another_production(query: Query, *, of: str, object_key: str | None = None) -> Iterator[str]:
    """A copy of a checkpoint promoted beside it, under a name of its own; with other weights where a key is given."""
    made, name = new_id("ckpt"), f"zz-{new_id('ckpt').lower().replace('_', '-')}"
    query(
        "INSERT INTO checkpoints (id, name, content_sha256, manifest, object_key, bytes) "
        "SELECT $1, $2, $1, jsonb_set(manifest, '{name}', to_jsonb($2::text)), coalesce($3, object_key), bytes "
        "FROM checkpoints WHERE name = $4", made, name, object_key, of,
    )  # fmt: skip
    query("INSERT INTO aliases (name, alias, checkpoint_id) VALUES ($1, 'production', $2)", name, made)
    yield name
    query("DELETE FROM aliases WHERE name = $1", name)


def test_vectors_two_candidates_and_the_chosen_one_answers_as_if_named(tenant: Tenants) -> None:
    client = tenant("a")
    answer = client.post("/adapt", json=vector_task(101, checkpoint="auto", query=QUERY))
    assert answer.status_code == 201, answer.text
    model = answer.json()
    found = considered(model)
    assert set(found) == {"plain", "quads"}
    assert all(isinstance(item[figure], float) for item in found.values() for figure in FIGURES)
    best = max(found, key=lambda name: found[name]["score"])
    assert model["checkpoint"] == found[best]["checkpoint"] and model["checkpoint"]["alias"] == "production"
    assert model["selection"]["reason"] and isinstance(model["selection"]["reliable"], bool)
    named = client.post("/adapt", json=vector_task(101, checkpoint=best, query=QUERY)).json()
    assert named["id"] != model["id"] and named["selection"] is None
    for part in ("predictions", "learner", "quality", "task", "classes", "k_shot", "targets"):
        assert named[part] == model[part], part
    assert client.get(answer.headers["location"]).json() == model
    asked = client.post("/predict", json={"model": model["id"], **QUERY}).json()
    assert asked["predictions"] == model["predictions"] and asked["checkpoint"] == model["checkpoint"]
    assert asked["selection"] is None


def test_pictures_are_decoded_for_each_candidate(tenant: Tenants) -> None:
    client = tenant("a")
    query = {"inputs": [b64(drawing_file(9)), b64(drawing_file(10))]}
    model = client.post("/adapt", json=drawing_task(1, query=query)).json()
    found = considered(model)
    assert set(found) == {"drawings", "sketches"}
    best = max(found, key=lambda name: found[name]["score"])
    assert (
        model["checkpoint"]["name"] == best and model["learner"] == {"drawings": "protonet", "sketches": "ridge"}[best]
    )
    for name in found:
        named = client.post("/adapt", json={**drawing_task(1, query=query), "checkpoint": name}).json()
        assert (named["predictions"] == model["predictions"]) == (name == best)
    files = [(f"support[{label}]", ("x.png", drawing_file(4 + i))) for i, label in enumerate("abab")]
    form = client.post("/adapt", data={"request": '{"checkpoint": "auto"}'}, files=files)
    assert (form.status_code, form.json()["id"]) == (200, model["id"])
    grown = {"support": {"inputs": query["inputs"], "labels": ["c", "c"]}}
    child = client.post(f"/v1/adapted-models/{model['id']}/examples", json=grown).json()
    assert child["checkpoint"] == model["checkpoint"] and child["learner"] == model["learner"]
    assert child["classes"] == ["a", "b", "c"] and child["selection"] is None


def test_pictures_sent_twice_with_a_query_answer_the_same(tenant: Tenants) -> None:
    """The chosen checkpoint takes another form of them than the first candidate, for some."""
    client, chosen = tenant("a"), set()
    for seed in range(20, 26):
        files = [(f"support[{label}]", ("x.png", drawing_file(4 * seed + i))) for i, label in enumerate("abab")]
        files.append(("query", ("q.png", drawing_file(seed))))
        answers = [client.post("/adapt", data={"request": '{"checkpoint": "auto"}'}, files=files) for _ in range(2)]
        assert [answer.status_code for answer in answers] == [201, 200], answers[1].text
        first, again = (answer.json() for answer in answers)
        assert first["id"] == again["id"] and first["predictions"] == again["predictions"]
        chosen.add(first["checkpoint"]["name"])
    assert "sketches" in chosen


def test_one_candidate_is_chosen_and_the_reason_says_so(tenant: Tenants) -> None:
    client = tenant("a")
    texts = {"inputs": ["where is my card", "card is late", "I want a refund", "my money back"], "labels": [*"aabb"]}
    model = client.post("/adapt", json={"checkpoint": "auto", "support": texts}).json()
    assert model["checkpoint"]["name"] == "words" and list(considered(model)) == ["words"]
    assert "only" in model["selection"]["reason"]
    support = {"inputs": [[1.0], [2.0], [3.0]], "labels": [1.5, 2.5, 3.5]}
    body = {"checkpoint": "auto", "support": support, "options": {"inner_steps": 2}}
    line = client.post("/adapt", json=body).json()
    assert (line["checkpoint"]["name"], line["learner"]) == ("lines", "maml")


def test_the_learner_asked_for_runs_on_whoever_is_chosen(tenant: Tenants) -> None:
    task = vector_task(102, checkpoint="auto", options={"learner": "protonet"})
    model = tenant("a").post("/adapt", json=task).json()
    assert model["learner"] == "protonet" and set(considered(model)) == {"plain", "quads"}


def test_several_targets_choose_too(tenant: Tenants) -> None:
    client = tenant("a")
    task = joint_task(103, checkpoint="auto")
    task["support"]["inputs"] = [[*row, 1.0] for row in task["support"]["inputs"]]
    model = client.post("/adapt", json=task).json()
    assert model["learner"] == "multitask" and set(considered(model)) == {"plain", "quads"}
    assert all(item["score"] is not None for item in considered(model).values())
    assert "targets" in model["selection"]["reason"] and [target["name"] for target in model["targets"]]


def test_one_shot_predict(tenant: Tenants) -> None:
    client = tenant("a")
    task = vector_task(104, checkpoint="auto")
    stored = client.post("/adapt", json={**task, "query": QUERY}).json()
    answer = client.post("/predict", json={**task, **QUERY})
    assert answer.status_code == 200, answer.text
    for part in ("checkpoint", "selection", "predictions"):
        assert answer.json()[part] == stored[part], part
    assert_problem(client.post("/predict", json={**task, "inputs": [[1.0]]}), 422, "invalid", "inputs[0]")


def test_while_it_is_pending_nothing_is_chosen(tenant: Tenants) -> None:
    client = tenant("a")
    answer = client.post("/adapt", json=vector_task(105, checkpoint="auto"), headers={"Prefer": "respond-async"})
    assert answer.status_code == 202
    pending = answer.json()
    assert (pending["checkpoint"], pending["learner"], pending["selection"]) == (None, None, None)
    done = client.get(answer.headers["location"], params={"wait": 20}).json()
    assert done["status"] == "succeeded" and done["checkpoint"] and done["selection"]
    assert client.delete(answer.headers["location"]).status_code == 200
    assert_problem(client.get(answer.headers["location"]), 404)


def test_the_same_support_is_one_model_until_promotions_change(tenant: Tenants, query: Query) -> None:
    client, headers = tenant("a"), {"Idempotency-Key": "auto"}
    task = vector_task(106, checkpoint="auto")
    first = client.post("/adapt", json=task, headers=headers)
    same = client.post("/adapt", json={**task, "query": QUERY})
    assert (first.status_code, same.status_code) == (201, 200) and first.json()["id"] == same.json()["id"]
    assert [item["label"] for item in same.json()["predictions"]] == ["right", "left"]
    with another_production(query, of="plain") as name:
        anew = client.post("/adapt", json=task)
        retried = client.post("/adapt", json=task, headers=headers)
    assert anew.status_code == 201 and set(considered(anew.json())) == {"plain", "quads", name}
    assert (retried.status_code, retried.json()["id"]) == (201, first.json()["id"])
    assert retried.json()["selection"] == first.json()["selection"]
    assert client.post("/adapt", json=task).json()["id"] == first.json()["id"]
    other = client.post("/adapt", json=vector_task(107, checkpoint="auto"), headers=headers)
    assert_problem(other, 422, "idempotency_key_reused")


def test_a_candidate_whose_weights_are_gone_is_passed_over(tenant: Tenants, query: Query) -> None:
    client = tenant("a")
    with another_production(query, of="plain", object_key="checkpoints/gone/gone.safetensors") as name:
        answer = client.post("/adapt", json=vector_task(108, checkpoint="auto"))
    assert answer.status_code == 201, answer.text
    gone = considered(answer.json())[name]
    assert gone["score"] is None and "could not be loaded" in gone["note"]
    assert "could not be loaded" in answer.json()["selection"]["reason"]
    assert answer.json()["checkpoint"]["name"] in ("plain", "quads")


def test_a_candidate_whose_norms_adapt_breaks_nobody_and_refuses_several_targets(
    tenant: Tenants, http_stack: HttpStack, query: Query, tmp_path: Path
) -> None:
    client, spec = tenant("a"), ImageInput(height=16, width=16, channels=1)
    encoder = EncoderSpec(name="conv4", options={"channels": 4, "norm": "task"})
    write_checkpoint(tmp_path, "normed", spec, encoder, "mamlpp", ("classification",))
    publish = [*PYTHON, "workers", "publish", str(tmp_path)]
    subprocess.run(publish, cwd=CHECKOUT, env={**os.environ, **http_stack.environ}, check=True)
    try:
        answer = client.post("/adapt", json=drawing_task(110))
        joint = drawing_task(111, checkpoint="normed")
        joint["support"]["labels"] = [
            {"shape": shape, "size": size} for shape, size in zip("abab", (1.5, 2.5, 1.0, 2.0), strict=True)
        ]
        refused = client.post("/adapt", json=joint)
    finally:
        query("DELETE FROM aliases WHERE name = 'normed'")
    assert answer.status_code == 201, answer.text
    found = considered(answer.json())
    assert found["normed"]["score"] is None and "judged by adapting" in found["normed"]["note"]
    assert answer.json()["checkpoint"]["name"] in ("drawings", "sketches")
    assert_problem(refused, 422, "invalid", "checkpoint")


@pytest.mark.parametrize(
    ("support", "options"),
    [
        ({"inputs": ["a text", "another"], "labels": [1.5, 2.5]}, {}),
        ({"inputs": ["a text " * 40] * 2, "labels": ["a", "b"]}, {}),
        ({"inputs": [[1.0, 2.0], [2.0, 1.0]], "labels": ["a", "b"]}, {"learner": "maml"}),
        ({"inputs": [[1.0, 2.0], [2.0, 1.0]], "labels": ["a", "b"]}, {"inner_steps": 2}),
    ],
)
def test_where_none_fits(admin: httpx.Client, support: dict[str, Any], options: dict[str, Any]) -> None:
    for path, more in (("/adapt", {}), ("/predict", {"inputs": support["inputs"]})):
        answer = admin.post(path, json={"checkpoint": "auto", "support": support, "options": options, **more})
        assert_problem(answer, 422, "invalid", "checkpoint")
        assert "words takes a non-empty string of at most 200 characters" in answer.json()["detail"]


@pytest.mark.parametrize("width", [1, 4])
def test_numbers_that_layers_cannot_hold_are_never_our_fault(tenant: Tenants, width: int) -> None:
    support = {"inputs": [[x * 1e38] * width for x in (3, 1, -3, 2)], "labels": ["a", "b", "a", "b"]}
    answer = tenant("a").post("/adapt", json={"checkpoint": "auto", "support": support})
    assert answer.status_code in (201, 422), answer.text


def test_auto_is_no_checkpoint(admin: httpx.Client) -> None:
    assert_problem(admin.get("/v1/checkpoints/auto"), 404)
    assert_problem(admin.post("/adapt", json=vector_task(0, checkpoint="auto@production")), 404)


def test_a_mixed_batch_gives_each_what_it_gets_alone(tenant: Tenants) -> None:
    alone, together = tenant("a"), tenant("b")
    alone.timeout = together.timeout = 120
    tasks = []
    for seed in range(5):
        joint = joint_task(seed, query={"inputs": [[4.0, 0.5, 0.0]]})
        tasks += [
            vector_task(200 + seed, query=QUERY),
            vector_task(200 + seed, query=QUERY, checkpoint="auto"),
            joint,
            {**joint, "checkpoint": "auto"},
            drawing_task(seed, query={"inputs": [b64(drawing_file(99))]}),
        ]

    def post(client: httpx.Client, task: dict[str, Any]) -> dict[str, Any]:
        answer = client.post("/adapt", json=task, headers={"Prefer": "wait=60"})
        assert answer.status_code == 201, answer.text
        return dict(answer.json())

    with ThreadPoolExecutor(len(tasks)) as pool:
        mixed = list(pool.map(lambda task: post(together, task), tasks))
    assert max(model["timings"]["batch_size"] for model in mixed) > 1
    for task, got in zip(tasks, mixed, strict=True):
        model = post(alone, task)
        assert (got["checkpoint"], got["learner"]) == (model["checkpoint"], model["learner"])
        assert got["selection"] == model["selection"]
        for one, other in zip(got["predictions"], model["predictions"], strict=True):
            for name, answer in one.get("targets", {"": one}).items():
                assert_close(answer, other["targets"][name] if name else other)
