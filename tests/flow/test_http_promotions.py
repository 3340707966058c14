"""Promotions over HTTP, with a trainer process: a worse checkpoint is refused with figures, a better one promoted, and
a rollback brings the old answers back."""

import json
import os
import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from kshot.checkpoints import Checkpoint, save_checkpoint
from kshot.contracts.checkpoints import VectorInput
from kshot.contracts.ids import new_id
from tests.flow.conftest import HttpStack, Query
from tests.flow.dataset_calls import upload
from tests.flow.http_stack import CHECKOUT, PYTHON, assert_problem, run_process
from tests.kshot.training.test_gate import IDENTITY, checkpoint, damaged, vectors

pytestmark = pytest.mark.flow
Tenants = Callable[[str], httpx.Client]
AT_ONCE = {"Prefer": "respond-async"}


@dataclass(frozen=True)
class Registered:
    """Checkpoints of one name: ``blind`` was published first, so ``good`` is in production (version 2)."""

    name: str
    blind: str
    good: str

    @property
    def alias(self) -> str:
        return f"/v1/aliases/{self.name}@production"


def publish(stack: HttpStack, folder: Path, *series: Sequence[Checkpoint]) -> list[tuple[str, list[str]]]:
    """Checkpoints of a name no other test uses, in this order, for each of the series; that name and their ids."""
    names = [new_id("ckpt").lower().replace("_", "-") for _ in series]
    for name, checkpoints in zip(names, series, strict=True):
        for i, one in enumerate(checkpoints):
            manifest = one.manifest.model_copy(update={"name": name, "description": f"number {i}"})
            save_checkpoint(folder / f"{name}-{i}", Checkpoint(manifest, one.encoder, one.head))
    done = subprocess.run(
        [*PYTHON, "workers", "publish", str(folder)], cwd=CHECKOUT, env={**os.environ, **stack.environ},
        check=True, capture_output=True, text=True,
    )  # fmt: skip
    made = dict(line.split() for line in done.stdout.splitlines() if len(line.split()) == 2)
    return [(name, [made[f"{name}-{i}"] for i in range(len(one))]) for name, one in zip(names, series, strict=True)]


@pytest.fixture(scope="module")
def both(http_stack: HttpStack, tmp_path_factory: pytest.TempPathFactory) -> list[Registered]:
    """Two such names, and a third where ``blind`` is narrow: it takes vectors of one width, ``good`` of any."""
    series = [damaged(checkpoint()), checkpoint()]
    widths = [checkpoint(), checkpoint(VectorInput(), IDENTITY)]
    made = publish(http_stack, tmp_path_factory.mktemp("promotions"), series, series, widths)
    return [Registered(name, blind, good) for name, (blind, good) in made]


@pytest.fixture(scope="module")
def dataset(admin: httpx.Client) -> str:
    answer = upload(admin, vectors(), "vectors.npz")
    assert answer.status_code == 201, answer.text
    return str(answer.json()["id"])


@contextmanager
def trainer(stack: HttpStack, folder: Path) -> Iterator[None]:
    environ = {**stack.environ, "KSHOT_DEVICE": "cpu", "KSHOT_WORK": str(folder / "work")}
    with run_process(environ, folder / "trainer.log", "workers", "trainer"):
        yield


def question(name: str) -> dict[str, Any]:
    """A one-shot call whose answer says which checkpoint gave it."""
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(10, 8)).round(3).tolist()
    support = {"inputs": rows[:6], "labels": ["a", "a", "b", "b", "c", "c"]}
    return {"checkpoint": name, "support": support, "inputs": rows[6:], "return": ["labels", "probabilities", "logits"]}


def answers(client: httpx.Client, name: str) -> str:
    """The predictions of a one-shot call and of a fresh adapted model, as bytes would be."""
    asked = question(name)
    one_shot = client.post("/v1/predict", json=asked)
    query = {"inputs": asked["inputs"]}
    made = client.post("/v1/adapt", json={"checkpoint": name, "support": asked["support"], "query": query})
    assert one_shot.status_code == 200 and made.status_code == 201, made.text
    return json.dumps([one_shot.json()["predictions"], made.json()["predictions"]])


def test_a_worse_challenger_is_refused_with_figures_a_better_one_promoted_and_rollback_restores_the_answers(
    http_stack: HttpStack, admin: httpx.Client, tenant: Tenants, both: list[Registered], dataset: str, tmp_path: Path,
    query: Query,
) -> None:  # fmt: skip
    registered = both[0]
    before = answers(tenant("before"), registered.name)
    wanted = {"checkpoint": registered.blind, "dataset": dataset}

    # nobody is there to compare them
    waiting = admin.put(registered.alias, json=wanted, headers=AT_ONCE)
    assert waiting.status_code == 202 and waiting.headers["preference-applied"] == "respond-async", waiting.text
    promotion = waiting.json()
    assert (promotion["status"], promotion["queue_state"]) == ("queued", "no_worker")
    assert waiting.headers["location"] == f"/v1/promotions/{promotion['id']}"
    again = admin.put(registered.alias, json=wanted, headers=AT_ONCE)
    assert (again.status_code, again.json()["id"]) == (202, promotion["id"])
    assert_problem(admin.delete(f"/v1/checkpoints/{registered.blind}"), 409, "conflict")
    assert_problem(admin.delete(f"/v1/datasets/{dataset}"), 409, "conflict")

    with trainer(http_stack, tmp_path):
        refused = admin.put(registered.alias, json=wanted, headers={"Prefer": "wait=60"}, timeout=90)
        assert_problem(refused, 409, "worse_than_incumbent", "checkpoint")
        assert refused.headers["location"] == waiting.headers["location"]
        decided = admin.get(waiting.headers["location"], params={"wait": 60}).json()
        assert decided["status"] == "refused" and decided["comparison"]["verdict"] == "worse", decided
        assert {row["episodes"] for row in decided["comparison"]["rows"]} == {300}
        worst = min(decided["comparison"]["rows"], key=lambda row: row["ahead"]["mean"] + row["ahead"]["interval"])
        for figure in ("challenger", "incumbent"):
            assert f"{worst[figure]['mean']:.4g}" in refused.json()["detail"]
        assert "force: true" in refused.json()["detail"]
        now = admin.get(registered.alias)
        assert (now.json()["checkpoint"], now.headers["etag"]) == (registered.good, '"2"')

        forced = admin.put(registered.alias, json={**wanted, "force": True}, headers={"If-Match": '"2"'})
        assert (forced.status_code, forced.headers["etag"]) == (200, '"3"')
        worse = answers(tenant("worse"), registered.name)
        assert worse != before
        better = admin.put(
            registered.alias, json={"checkpoint": registered.good, "dataset": dataset}, headers={"Prefer": "wait=60"},
            timeout=90,
        )  # fmt: skip
        assert better.status_code == 200 and better.headers["etag"] == '"4"', better.text
    assert answers(tenant("better"), registered.name) == before

    back = admin.post(f"{registered.alias}/rollback", json={})
    assert (back.status_code, back.json()["checkpoint"], back.headers["etag"]) == (200, registered.blind, '"5"')
    assert answers(tenant("back"), registered.name) == worse
    there = admin.post(f"{registered.alias}/rollback", json={"version": 2}, headers={"If-Match": '"5"'})
    assert (there.status_code, there.json()["checkpoint"]) == (200, registered.good)
    assert answers(tenant("restored"), registered.name) == before

    history = admin.get(f"{registered.alias}/history").json()["data"]
    reasons = [(change["version"], change["checkpoint"], change["reason"]) for change in history]
    assert reasons == [
        (6, registered.good, "rollback"), (5, registered.blind, "rollback"), (4, registered.good, "promote"),
        (3, registered.blind, "force"), (2, registered.good, "publish"), (1, registered.blind, "publish"),
    ]  # fmt: skip
    assert history[2]["promotion"].startswith("pro_") and history[2]["key"].startswith("key_")
    listed = admin.get("/v1/promotions", params={"limit": 2}).json()
    assert [one["status"] for one in listed["data"]] == ["promoted", "refused"]
    rows = query("SELECT action FROM audit_log WHERE object_id = $1 ORDER BY id", f"{registered.name}@production")
    assert [row["action"] for row in rows] == ["alias.force", "alias.promote", "alias.rollback", "alias.rollback"]


def test_what_cannot_be_compared_is_refused_at_once(admin: httpx.Client, both: list[Registered], dataset: str) -> None:
    registered = both[1]
    texts = upload(admin, b"text,label\nhello,a\nhi,a\nbye,b\nciao,b\n", "texts.csv").json()["id"]
    wanted = {"checkpoint": registered.blind}
    for body, status, param in [
        (wanted, 422, "dataset"),
        ({**wanted, "dataset": texts}, 422, "dataset"),
        ({**wanted, "dataset": new_id("ds")}, 404, "dataset"),
        ({**wanted, "dataset": 5}, 422, "dataset"),
        ({**wanted, "force": "yes"}, 422, "force"),
        ({"checkpoint": "plain"}, 422, "checkpoint"),
        ({"checkpoint": "unknown@production"}, 404, "checkpoint"),
        ({"checkpoint": new_id("ckpt")}, 404, "checkpoint"),
        ({"dataset": dataset}, 422, "checkpoint"),
        ({**wanted, "extra": 1}, 422, "extra"),
    ]:
        assert_problem(admin.put(registered.alias, json=body), status, param=param)
    assert admin.get(registered.alias).json()["version"] == 2


def test_a_challenger_that_would_refuse_callers_of_production_is_refused_at_once(
    admin: httpx.Client, both: list[Registered], dataset: str
) -> None:
    registered = both[2]
    wanted = {"checkpoint": registered.blind, "dataset": dataset}
    refused = admin.put(registered.alias, json=wanted, headers=AT_ONCE)
    assert_problem(refused, 422, param="checkpoint")
    assert "vectors of any width" in refused.json()["detail"] and "force: true" in refused.json()["detail"]
    assert admin.put(registered.alias, json={**wanted, "force": True}).json()["checkpoint"] == registered.blind


def test_a_second_challenger_waits_for_the_first(
    admin: httpx.Client, both: list[Registered], dataset: str, query: Query
) -> None:
    registered = both[1]
    wanted = {"checkpoint": registered.blind, "dataset": dataset}
    asked = admin.put(registered.alias, json=wanted, headers=AT_ONCE)
    assert asked.status_code == 202
    other = upload(admin, vectors(), "vectors.npz").json()["id"]
    refused = admin.put(registered.alias, json={**wanted, "dataset": other}, headers=AT_ONCE)
    assert_problem(refused, 409, "conflict")
    assert int(refused.headers["retry-after"]) >= 1
    query("UPDATE promotions SET status = 'failed' WHERE id = $1", asked.json()["id"])
