"""Aliases and checkpoints over HTTP, where nothing needs comparing."""

import time
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from kshot.contracts.checkpoints import VectorInput
from kshot.contracts.ids import new_id
from tests.flow.conftest import HttpStack, Query
from tests.flow.http_stack import assert_problem, vector_task
from tests.flow.test_http_promotions import publish
from tests.kshot.training.test_gate import IDENTITY, checkpoint

pytestmark = pytest.mark.flow
Tenants = Callable[[str], httpx.Client]


Three = tuple[str, list[str]]


@pytest.fixture(scope="module")
def unused(http_stack: HttpStack, tmp_path_factory: pytest.TempPathFactory) -> list[Three]:
    plain = checkpoint(VectorInput(), IDENTITY)
    return publish(http_stack, tmp_path_factory.mktemp("registry"), *[[plain, plain, plain]] * 6)


@pytest.fixture
def three(unused: list[Three]) -> Three:
    """A name of the test's own and three checkpoints of it, the last of them in production (version 3)."""
    return unused.pop()


def test_an_alias_moves_from_the_version_its_mover_saw(admin: httpx.Client, three: Three, query: Query) -> None:
    name, (first, second, third) = three
    candidate = f"/v1/aliases/{name}@candidate"
    assert_problem(admin.get(candidate), 404, "not_found")
    assert_problem(
        admin.put(candidate, json={"checkpoint": first}, headers={"If-Match": "*"}), 412, "precondition_failed"
    )
    made = admin.put(candidate, json={"checkpoint": first})
    assert (made.status_code, made.headers["etag"], made.json()["version"]) == (200, '"1"', 1)
    same = admin.put(candidate, json={"checkpoint": first})
    assert same.json() == made.json()
    moved = admin.put(candidate, json={"checkpoint": name}, headers={"If-Match": '"1"'})
    assert (moved.json()["checkpoint"], moved.headers["etag"]) == (third, '"2"')
    for condition in ('"1"', 'W/"2"', '"3", "4"'):
        late = admin.put(candidate, json={"checkpoint": second}, headers={"If-Match": condition})
        assert_problem(late, 412, "precondition_failed", "If-Match")
        late = admin.post(f"{candidate}/rollback", json={}, headers={"If-Match": condition})
        assert_problem(late, 412, "precondition_failed", "If-Match")
    for unreadable in ("2", '"2', "two", '"2",'):
        assert_problem(
            admin.put(candidate, json={"checkpoint": second}, headers={"If-Match": unreadable}), 422, param="If-Match"
        )
    assert admin.get(candidate).headers["etag"] == '"2"'
    assert admin.put(candidate, json={"checkpoint": second}, headers={"If-Match": '"1", "2"'}).status_code == 200
    reasons = [change["reason"] for change in admin.get(f"{candidate}/history").json()["data"]]
    assert reasons == ["set", "set", "set"]
    actions = query("SELECT action FROM audit_log WHERE object_id = $1", f"{name}@candidate")
    assert [row["action"] for row in actions] == ["alias.set"] * 3


def test_rolling_back_stops_where_it_began(admin: httpx.Client, three: Three) -> None:
    name, (first, second, third) = three
    back = f"/v1/aliases/{name}/rollback"
    assert [admin.post(back, **body).json()["checkpoint"] for body in ({}, {"json": {}})] == [second, first]
    assert_problem(admin.post(back, json={}), 409, "conflict")
    assert_problem(admin.post(back, json={"version": 99}), 422, param="version")
    assert_problem(admin.post(back, json={"version": "3"}), 422, param="version")
    assert_problem(admin.post(back, json={"to": 3}), 422, param="to")
    assert_problem(admin.post("/v1/aliases/nobody/rollback", json={}), 404)
    assert admin.delete(f"/v1/checkpoints/{second}").status_code == 200
    gone = admin.post(back, json={"version": 2})
    assert_problem(gone, 409, "conflict")
    assert "deleted" in gone.json()["detail"]
    assert admin.post(back, json={"version": 3}).json()["checkpoint"] == third


def test_names_that_are_none_are_unknown(admin: httpx.Client, three: Three) -> None:
    for name in ("a@b@c", "A", "..%2fx", "-a", "a" * 300, "%00", "x@", "*"):
        assert admin.get(f"/v1/aliases/{name}").status_code == 404, name
        assert admin.put(f"/v1/aliases/{name}", json={"checkpoint": three[0]}).status_code == 404, name
        assert admin.get(f"/v1/aliases/{name}/history").status_code == 404, name


def test_users_read_and_administrators_move(tenant: Tenants, three: Three) -> None:
    name, (first, _, third) = three
    user = tenant("user")
    assert user.get(f"/v1/aliases/{name}").json()["checkpoint"] == third
    history = user.get(f"/v1/aliases/{name}/history").json()
    assert [change["reason"] for change in history["data"]] == ["publish"] * 3 and not history["has_more"]
    assert {change["key"] for change in history["data"]} == {None}
    for refused in (
        user.put(f"/v1/aliases/{name}", json={"checkpoint": first}),
        user.post(f"/v1/aliases/{name}/rollback", json={}),
        user.delete(f"/v1/checkpoints/{first}"),
        user.get("/v1/promotions"),
        user.get(f"/v1/promotions/{new_id('pro')}"),
    ):
        assert_problem(refused, 403, "forbidden")


def test_a_checkpoint_in_use_is_not_deleted_and_a_deleted_one_makes_nothing(
    http_stack: HttpStack, admin: httpx.Client, tenant: Tenants, three: Three, query: Query
) -> None:
    name, (first, _, third) = three
    path = f"/v1/checkpoints/{first}"
    assert_problem(admin.delete(f"/v1/checkpoints/{third}"), 409, "conflict")
    assert f"{name}@production" in admin.delete(f"/v1/checkpoints/{third}").json()["detail"]
    user = tenant("user")
    model = user.post("/adapt", json={**vector_task(1), "checkpoint": first}).json()["id"]
    assert "1 adapted model" in admin.delete(path).json()["detail"]
    assert user.delete(f"/v1/adapted-models/{model}").status_code == 200
    assert (
        user.post("/predict", json={**vector_task(1), "checkpoint": first, "inputs": [[0, 0, 0, 0]]}).status_code == 200
    )
    key = query("SELECT object_key FROM checkpoints WHERE id = $1", first)[0]["object_key"]
    weights = Path(http_stack.environ["KSHOT_OBJECTS"]) / key
    assert weights.is_file()
    assert admin.delete(path).json() == {"object": "checkpoint", "id": first, "deleted": True}
    assert not weights.exists() and admin.delete(path).status_code == 200
    for refused in (
        user.post("/adapt", json={**vector_task(2), "checkpoint": first}),
        user.post("/predict", json={**vector_task(2), "checkpoint": first, "inputs": [[0, 0, 0, 0]]}),
        admin.put(f"/v1/aliases/{name}", json={"checkpoint": first, "force": True}),
    ):
        assert_problem(refused, 410, "expired", "checkpoint")
    shown = admin.get(path).json()
    assert shown["deleted_at"] is not None and shown["bytes"] == 0 and shown["aliases"] == []
    listed = [one["id"] for one in admin.get("/v1/checkpoints", params={"limit": 100}).json()["data"]]
    assert third in listed and first not in listed
    rows = query("SELECT action FROM audit_log WHERE object_id = $1", first)
    assert [row["action"] for row in rows] == ["checkpoint.delete"]
    for missing in (new_id("ckpt"), "nobody", f"{name}@production"):
        assert_problem(admin.delete(f"/v1/checkpoints/{missing}"), 404, "not_found")


def test_what_another_process_deleted_is_soon_served_from_memory_no_more(
    tenant: Tenants, three: Three, query: Query
) -> None:
    _, (first, _, _) = three
    client = tenant("user")
    asked = {**vector_task(3), "checkpoint": first, "inputs": [[0, 0, 0, 0]]}
    assert client.post("/predict", json=asked).status_code == 200
    query("UPDATE checkpoints SET deleted_at = now() WHERE id = $1", first)
    made = client.post("/adapt", json={**vector_task(3), "checkpoint": first})
    assert_problem(made, 410, "expired")  # what would stay is refused at once
    deadline = time.monotonic() + 120
    while (answer := client.post("/predict", json=asked)).status_code == 200:
        assert time.monotonic() < deadline
        time.sleep(0.2)
    assert_problem(answer, 410, "expired")
