"""Adapted models that follow an alias, over HTTP: what callers see before, while and after it moves."""

import asyncio
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from kshot.storage.database import open_database
from kshot.storage.objects import LocalObjects
from tests.flow.conftest import HttpStack
from tests.flow.http_stack import assert_problem, vector_task
from tests.workers.versions import write_versions
from workers.publishing import publish

pytestmark = pytest.mark.flow
Tenants = Callable[[str], httpx.Client]
NAME = "moving"
ASKED = [[5.0, 0.1, 0.2, 0.0], [-4.0, 0.0, 0.3, 0.0], [0.2, 0.1, 0.0, 0.1]]


@pytest.fixture(scope="module")
def published(http_stack: HttpStack, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The versions' ids; `first` and `second` are good, `blind` guesses, `narrow` takes other vectors."""

    async def publish_all() -> dict[str, str]:
        database = open_database(http_stack.servers.database_url)
        objects = LocalObjects(Path(http_stack.environ["KSHOT_OBJECTS"]))
        folders = write_versions(tmp_path_factory.mktemp("versions"), NAME)
        found = {label: await publish(database, objects, folder) for label, folder in folders.items()}
        await database.dispose()
        return found

    return asyncio.run(publish_all())


@pytest.fixture
def move(admin: httpx.Client, published: dict[str, str]) -> Iterator[Callable[[str], None]]:
    """Points the alias at a version; it begins at the first."""

    def point(version: str) -> None:
        body = {"checkpoint": published[version], "force": True}
        answer = admin.put(f"/v1/aliases/{NAME}", json=body)
        assert answer.status_code == 200, answer.text

    point("first")
    yield point


def adapt(client: httpx.Client, seed: int, **changes: Any) -> dict[str, Any]:
    answer = client.post("/adapt", json=vector_task(seed, checkpoint=NAME, **changes))
    assert answer.status_code == 201, answer.text
    return dict(answer.json())


def predict(client: httpx.Client, model: str) -> tuple[str, list[Any]]:
    """The checkpoint that answered, and the answers."""
    answer = client.post("/predict", json={"model": model, "inputs": ASKED, "return": ["labels", "logits"]})
    assert answer.status_code == 200, answer.text
    return answer.json()["checkpoint"]["id"], answer.json()["predictions"]


def history(client: httpx.Client, model: str) -> list[dict[str, Any]]:
    return list(client.get(f"/v1/adapted-models/{model}/history").json()["data"])


def until_history(client: httpx.Client, model: str, n: int) -> list[dict[str, Any]]:
    """Its history once it has ``n`` lines."""
    deadline = time.monotonic() + 120
    while len(lines := history(client, model)) < n:
        assert time.monotonic() < deadline, lines
        time.sleep(0.1)
    return lines


def test_a_follower_moves_and_comes_back_to_the_bit_and_others_stay(
    tenant: Tenants, move: Callable[[str], None], published: dict[str, str]
) -> None:
    client, stranger = tenant("a"), tenant("b")
    made = adapt(client, 1, follow=True)
    still = adapt(client, 1)
    assert made["follow"] and not still["follow"] and made["id"] != still["id"]
    assert [line["outcome"] for line in history(client, made["id"])] == ["made"]
    assert history(client, made["id"]) == history(client, made["id"])
    before, beside = predict(client, made["id"]), predict(client, still["id"])
    assert before == beside and before[0] == published["first"]

    move("second")
    line, first = until_history(client, made["id"], 2)
    assert (line["outcome"], line["revision"], line["checkpoint"]) == ("followed", 2, published["second"])
    assert line["quality"]["n"] == line["previous_quality"]["n"] == 6
    assert (first["outcome"], first["revision"], first["checkpoint"]) == ("made", 1, published["first"])
    shown = client.get(f"/v1/adapted-models/{made['id']}").json()
    assert (shown["revision"], shown["learner"], shown["checkpoint"]["id"]) == (2, "ridge", published["second"])
    after = predict(client, made["id"])
    assert after[0] == published["second"] and after[1] != before[1]
    assert predict(client, still["id"]) == beside

    move("first")
    assert predict(client, made["id"]) == before
    assert [line["outcome"] for line in history(client, made["id"])] == ["followed", "followed", "made"]
    assert_problem(stranger.get(f"/v1/adapted-models/{made['id']}/history"), 404, "not_found")


def test_what_would_be_worse_or_cannot_be_made_is_not_followed(tenant: Tenants, move: Callable[[str], None]) -> None:
    client = tenant("a")
    model = adapt(client, 2, follow=True)["id"]
    before = predict(client, model)
    move("blind")
    line, _ = until_history(client, model, 2)
    assert (line["outcome"], line["revision"]) == ("kept", 1)
    assert line["quality"]["accuracy"] < line["previous_quality"]["accuracy"] and line["reason"]
    move("narrow")
    line = until_history(client, model, 3)[0]
    assert (line["outcome"], line["quality"]) == ("failed", None) and "form of inputs" in line["reason"]
    assert predict(client, model) == before


def test_equal_requests_before_and_after_a_move(tenant: Tenants, move: Callable[[str], None]) -> None:
    client = tenant("a")
    task = vector_task(3, checkpoint=NAME, follow=True, query={"inputs": ASKED})
    first = client.post("/adapt", json=task, headers={"Idempotency-Key": "k"}).json()
    move("second")
    until_history(client, first["id"], 2)
    found = client.post("/adapt", json=task)
    assert (found.status_code, found.json()["id"]) == (200, first["id"]), "it is on the new checkpoint now"
    again = client.post("/adapt", json=task, headers={"Idempotency-Key": "k"})
    assert again.status_code == 201 and again.json()["id"] == first["id"]
    assert again.json()["predictions"] == found.json()["predictions"] != first["predictions"]
    fixed = client.post("/adapt", json=vector_task(3, checkpoint=NAME))
    assert fixed.status_code == 201 and fixed.json()["id"] != first["id"], "a follower is not what was asked for"
    child = client.post(
        f"/v1/adapted-models/{first['id']}/examples", json={"support": {"inputs": [[0, 0, 9, 0]], "labels": ["up"]}}
    ).json()
    assert (child["follow"], child["checkpoint"]["id"]) == (True, found.json()["checkpoint"]["id"])


def test_following_is_switched_on_and_off(tenant: Tenants, move: Callable[[str], None], published: dict[str, str]):
    client = tenant("a")
    model = adapt(client, 4)["id"]
    path = f"/v1/adapted-models/{model}"
    move("second")
    assert client.patch(path, json={"follow": True}).json()["follow"]
    until_history(client, model, 2)
    assert not client.patch(path, json={"follow": False}).json()["follow"]
    now = client.get(path).json()
    assert (now["revision"], now["checkpoint"]["id"]) == (2, published["second"])
    move("first")
    assert client.get(path).json() == now


def test_only_an_alias_can_be_followed(tenant: Tenants, move: Callable[[str], None], published: dict[str, str]):
    client = tenant("a")
    for checkpoint in (published["first"], "auto"):
        answer = client.post("/adapt", json=vector_task(5, checkpoint=checkpoint, follow=True))
        assert_problem(answer, 422, "invalid", "follow")
    named = client.post("/adapt", json=vector_task(5, checkpoint=published["first"])).json()["id"]
    assert_problem(client.patch(f"/v1/adapted-models/{named}", json={"follow": True}), 422, "invalid", "follow")
    for bad in ("yes", 1, None):
        assert_problem(client.post("/adapt", json=vector_task(5, checkpoint=NAME, follow=bad)), 422)
    assert_problem(client.get("/v1/adapted-models/am_0/history"), 404)


def test_a_follower_that_is_deleted_leaves_nothing(
    tenant: Tenants, move: Callable[[str], None], query: Callable[..., list[Any]]
) -> None:
    client = tenant("a")
    model = adapt(client, 6, follow=True)["id"]
    move("second")
    until_history(client, model, 2)
    assert client.delete(f"/v1/adapted-models/{model}").status_code == 200
    assert query("SELECT count(*) FROM adapted_model_history WHERE adapted_model_id = $1", model)[0][0] == 0
    assert query("SELECT count(payload) FROM tasks WHERE adapted_model_id = $1", model)[0][0] == 0
    move("first")
    assert_problem(client.get(f"/v1/adapted-models/{model}/history"), 404)
