"""Orders that come at the same moment are recorded together; each is answered as if it were alone."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from tests.flow.conftest import Query
from tests.flow.http_stack import vector_task

pytestmark = pytest.mark.flow
Tenants = Callable[[str], httpx.Client]
RIGHT, LEFT = {"inputs": [[5.0, 0.0, 0.0, 0.0]]}, {"inputs": [[-5.0, 0.0, 0.0, 0.0]]}


def all_at_once(calls: Sequence[tuple[httpx.Client, dict[str, Any]]]) -> list[httpx.Response]:
    with ThreadPoolExecutor(len(calls)) as threads:
        return list(threads.map(lambda call: call[0].post("/adapt", json=call[1]), calls))


def labels(answer: httpx.Response) -> list[str]:
    return [prediction["label"] for prediction in answer.json()["predictions"]]


def test_orders_of_several_tenants_stay_apart(tenant: Tenants, query: Query) -> None:
    clients = [tenant(name) for name in "abc"]
    asked = [(clients[i % 3], vector_task(200 + i // 2, query=RIGHT if i % 2 else LEFT)) for i in range(24)]
    answers = all_at_once(asked)
    assert [answer.status_code for answer in answers] == [201] * 24
    assert [labels(answer) for answer in answers] == [["right"] if i % 2 else ["left"] for i in range(24)]
    ids = [answer.json()["id"] for answer in answers]
    assert len(set(ids)) == 24
    for i, client in enumerate(clients):
        listed = {model["id"] for model in client.get("/v1/adapted-models").json()["data"]}
        assert listed == set(ids[i::3])
    noted = query("SELECT object_id FROM audit_log WHERE action = 'adapted_model.create' AND object_id = ANY($1)", ids)
    assert sorted(row["object_id"] for row in noted) == sorted(ids)


def test_equal_orders_at_once_make_one_model(tenant: Tenants) -> None:
    client = tenant("a")
    answers = all_at_once([(client, vector_task(230, query=RIGHT))] * 8)
    assert sorted(answer.status_code for answer in answers) == [200] * 7 + [201]
    assert len({answer.json()["id"] for answer in answers}) == 1
    assert [labels(answer) for answer in answers] == [["right"]] * 8


def test_equal_supports_at_once_answer_each_its_own_query(tenant: Tenants) -> None:
    client = tenant("a")
    answers = all_at_once([(client, vector_task(231, query=RIGHT if i % 2 else LEFT)) for i in range(8)])
    assert {answer.status_code for answer in answers} <= {200, 201}
    assert [labels(answer) for answer in answers] == [["left"], ["right"]] * 4


def test_one_that_cannot_be_made_leaves_the_others_alone(tenant: Tenants) -> None:
    client = tenant("a")
    flat = vector_task(232)
    flat["support"]["labels"] = ["one"] * 6
    answers = all_at_once([(client, flat), *((client, vector_task(233 + i)) for i in range(5))])
    assert [answer.status_code for answer in answers] == [422, *[201] * 5]


def test_what_is_answered_is_what_is_read_later_byte_for_byte(tenant: Tenants, query: Query) -> None:
    """Though the answer is written from the worker's reply, and later from the row."""
    client = tenant("a")
    bodies = [
        vector_task(240, query=RIGHT, metadata={"longer": 1e25, "b": None, "a": -0.5}),
        {
            "checkpoint": "plain",
            "support": {"inputs": [[v, v * v] for v in range(8)], "labels": [[2.0 * v, 1.5] for v in range(8)]},
            "query": {"inputs": [[2.0, 4.0]]},
        },
        vector_task(241, options={"learner": "protonet"}, ttl_seconds=60),
    ]
    for body in bodies:
        answer = client.post("/adapt", json=body)
        assert answer.status_code == 201, answer.text
        assert client.get(answer.headers["location"]).content == answer.content
    left = query("SELECT query FROM tasks WHERE query IS NOT NULL AND status = 'succeeded'")
    assert left == []
