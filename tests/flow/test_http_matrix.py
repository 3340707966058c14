"""Every operation, by everyone, on what is his own tenant's and on another's: generated from the OpenAPI document."""

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import httpx
import pytest

from kshot.contracts.ids import new_id
from tests.flow.conftest import HttpStack, Query
from tests.flow.http_stack import assert_problem, vector_task
from tests.flow.matrix import MISSING, OPERATIONS, Operation, World

pytestmark = pytest.mark.flow
OWN, OTHER = "matrix-own", "matrix-other"


@dataclass(frozen=True)
class Caller:
    """Who asks. ``tenant`` None: nobody, or nobody any more."""

    client: httpx.Client
    tenant: str | None = None
    role: str = "user"

    def status(self, operation: Operation) -> set[int]:
        """What the answer must be."""
        if operation.public:
            return {200}
        if self.tenant is None:
            return {401}
        if operation.admins and self.role != "admin":
            return {403}
        return {404} if operation.owned and self.tenant == OTHER else {200, 201, 202}


@pytest.fixture(scope="module")
def callers(http_stack: HttpStack, query: Query) -> dict[str, Caller]:
    made = {"nobody": Caller(http_stack.client(None))}
    for tenant, of in ((OWN, ""), (OTHER, " of another tenant")):
        for role in ("user", "admin"):
            key = http_stack.key(tenant, role)["key"]
            made[f"{role}{of}"] = Caller(http_stack.client(key), tenant, role)
            made[f"session of a {role}{of}"] = Caller(signed_in(http_stack, key), tenant, role)
    ends = {"revoked": "revoked_at = now()", "expired": "expires_at = now() - interval '1 second'"}
    for how, change in ends.items():
        ended = http_stack.key(OWN, "admin")
        made[f"{how} key"] = Caller(http_stack.client(ended["key"]))
        made[f"session of a {how} key"] = Caller(signed_in(http_stack, ended["key"]))
        query(f"UPDATE api_keys SET {change} WHERE id = $1", ended["id"])
    last = http_stack.key(OWN, "admin")
    made["expired session"] = Caller(signed_in(http_stack, last["key"]))
    query("UPDATE sessions SET expires_at = now() - interval '1 second' WHERE key_id = $1", last["id"])
    return made


def signed_in(stack: HttpStack, key: str) -> httpx.Client:
    """A browser that has the console open."""
    client = stack.client(None)
    client.headers.update({"X-Kshot-Console": "1", "Origin": stack.api.url})
    assert client.post("/session", json={"key": key}).status_code == 201
    return client


@pytest.fixture(scope="module")
def world(callers: dict[str, Caller], query: Query) -> Iterator[World]:
    made = World(callers["admin"].client, query, OWN)
    yield made
    made.end_jobs()


@pytest.fixture(scope="module")
def document(admin: httpx.Client) -> dict[str, Any]:
    paths: dict[str, Any] = admin.get("/openapi.json").json()["paths"]
    return paths


def test_the_matrix_knows_every_operation_of_the_document(document: dict[str, Any]) -> None:
    assert {(verb, path) for path, item in document.items() for verb in item} == set(OPERATIONS)


@pytest.mark.reliability("access: tenant B reads", "every route")
@pytest.mark.reliability("access: normal key on admin routes", "admin routes")
@pytest.mark.reliability("access: audit log", "rows")
@pytest.mark.parametrize(("verb", "path"), sorted(OPERATIONS))
def test_everyone_may_what_he_may(
    verb: str, path: str, callers: dict[str, Caller], world: World, document: dict[str, Any], query: Query
) -> None:
    operation, log = OPERATIONS[verb, path], dict[str, int]()
    shared = operation.makes(world) if operation.makes is not None else ""
    for name, caller in callers.items():
        expected = caller.status(operation)
        succeeds = max(expected) < 300
        used = operation.makes(world) if operation.makes is not None and succeeds and operation.writes else shared
        answer = send(caller, verb, path, used, operation)
        assert answer.status_code in expected, (name, answer.text)
        assert str(answer.status_code) in document[path][verb]["responses"], name
        log[answer.headers["x-request-id"]] = operation.writes if succeeds else 0
        if expected == {404}:
            assert told(answer) == told(send(caller, verb, path, missing(path), operation)), name
        elif not succeeds:
            assert_problem(answer, answer.status_code)
    if operation.makes is not None and not operation.creates:
        for name in ("admin", "session of a admin"):
            assert_problem(send(callers[name], verb, path, missing(path), operation), 404, "not_found")
    rows = query("SELECT request_id, tenant_id FROM audit_log WHERE request_id = ANY($1)", list(log))
    assert Counter(row["request_id"] for row in rows) == Counter(log), "one row for each change"
    if operation.owned:
        untouched = world.made("GET", f"/v1/adapted-models/{shared}")
        assert (untouched["status"], untouched["pinned"], untouched["observed"]) == ("succeeded", False, None)


def send(caller: Caller, verb: str, path: str, used: str, operation: Operation) -> httpx.Response:
    where = re.sub(r"\{\w+\}", used, path)
    body = None if operation.body is None else operation.body(used)
    return caller.client.request(verb, where, json=body)


def missing(path: str) -> str:
    """An id that nothing has, for this path."""
    return next(unused for start, unused in MISSING.items() if path.startswith(start))


def told(answer: httpx.Response) -> tuple[dict[str, Any], dict[str, str]]:
    """Everything a caller could tell two refusals apart by."""
    own = {"x-request-id", "date"}
    headers = {name: value for name, value in answer.headers.items() if name not in own}
    return {**answer.json(), "request_id": ""}, headers


def test_what_a_body_names_is_looked_for_in_the_callers_tenant_too(world: World, callers: dict[str, Caller]) -> None:
    """Feedback on an own model that speaks of another tenant's prediction."""
    asked = {"model": world.model(), "inputs": [[1, 2, 3, 4]]}
    theirs = world.made("POST", "/predict", asked)["id"]
    other = callers["user of another tenant"].client
    own = other.post("/adapt", json=vector_task(1)).json()["id"]
    answers = [
        other.post(f"/v1/adapted-models/{own}/feedback", json={"prediction": prediction, "labels": ["left"]})
        for prediction in (theirs, new_id("pred"))
    ]
    for answer in answers:
        assert_problem(answer, 404, "not_found", "prediction")
    assert told(answers[0]) == told(answers[1])
