"""Data sets over HTTP: made, shown, listed, deleted; built-in ones; what a slow upload may take."""

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from kshot.episodes.omniglot import read_omniglot
from tests.flow.conftest import HttpStack, Query
from tests.flow.dataset_calls import a_name, staging, upload
from tests.flow.http_stack import assert_problem
from tests.kshot.data_folder import data_folder
from tests.kshot.episodes.dataset_files import as_png, npz, picture_zip, text_csv, zipped

pytestmark = pytest.mark.flow
Tenants = Callable[[str], httpx.Client]


def test_a_zip_is_uploaded_shown_listed_and_deleted(http_stack: HttpStack, admin: httpx.Client, query: Query) -> None:
    data, name = picture_zip(10, 3), a_name()
    answer = upload(admin, data, "letters.zip", {"X-Request-Id": f"made-{name}"}, name=name, description="letters")
    assert answer.status_code == 201, answer.text
    made = answer.json()
    assert answer.headers["location"] == f"/v1/datasets/{made['id']}"
    assert (made["object"], made["format"], made["modality"], made["bytes"]) == (
        "dataset", "image_zip", "image", len(data),
    )  # fmt: skip
    assert made["counts"]["train"] == {"n_classes": 6, "n_examples": 18} and made["pictures"]["dark_on_light"]
    assert made["splits"] is None, "class names on the data set's own page alone"
    stored = Path(http_stack.environ["KSHOT_OBJECTS"]) / "datasets" / f"{made['id']}.zip"
    assert stored.read_bytes() == data and staging(http_stack) == []
    for reference in (made["id"], name):
        shown = admin.get(f"/v1/datasets/{reference}").json()
        assert len(shown["splits"]["train"]) == 6 and shown["used_by"] == []
        assert shown["sizes"] == {"train": [3] * 6, "valid": [3] * 2, "test": [3] * 2}
        assert {**shown, "splits": None, "sizes": None, "used_by": None} == made
    first = admin.get("/v1/datasets", params={"limit": 1}).json()
    assert first["data"] == [made]
    assert_problem(upload(admin, data, name=name), 409, "conflict", "name")
    assert admin.delete(f"/v1/datasets/{name}").json() == {"object": "dataset", "id": made["id"], "deleted": True}
    assert not stored.exists()
    assert_problem(admin.get(f"/v1/datasets/{made['id']}"), 404, "not_found")
    assert_problem(admin.delete(f"/v1/datasets/{name}"), 404, "not_found")
    audited = query("SELECT * FROM audit_log WHERE object_id = $1 ORDER BY id", made["id"])
    assert [row["action"] for row in audited] == ["dataset.create", "dataset.delete"]
    assert audited[0]["request_id"] == f"made-{name}"
    assert upload(admin, data, name=name).status_code == 201, "the name is free again"


@pytest.mark.parametrize(
    ("data", "request_", "found"),
    [
        (text_csv(), {}, {"format": "text_csv", "modality": "text", "n_examples": 40, "smallest": 4}),
        (b'{"q": "hi", "intent": "greet"}\n{"q": "bye", "intent": "part"}\n',
         {"columns": {"inputs": "q", "label": "intent"}}, {"format": "text_jsonl", "n_examples": 2}),
        (npz(inputs=np.eye(8), labels=np.arange(8) % 4), {}, {"format": "vector_npz", "width": 8, "smallest": 2}),
        (b"a,label,b\n1,x,2\n2,y,3\n", {"split": {"shares": {"train": 1.0}, "seed": 3}},
         {"format": "vector_csv", "width": 2, "seed": 3}),
        (b"who,a,dose,bad\n" + b"".join(b"p%d,%d,%d,%d\n" % (i // 2, i, i, i % 2) for i in range(20)),
         {"columns": {"targets": {"dose": "regression", "bad": "classification"}, "group": "who"}},
         {"format": "table_csv", "task": "multitask", "width": 1, "n_examples": 20}),
    ],
)  # fmt: skip
def test_every_format(admin: httpx.Client, data: bytes, request_: dict[str, Any], found: dict[str, Any]) -> None:
    made = upload(admin, data, **request_)
    assert made.status_code == 201, made.text
    assert {key: made.json()[key] for key in found} == found


def test_a_split_of_ones_own(admin: httpx.Client) -> None:
    own = {"train": ["c1", "c0"], "test": ["c7", "c8"]}
    made = upload(admin, text_csv(), splits=own)
    assert admin.get(made.headers["location"]).json()["splits"] == {**own, "valid": []}


def test_the_request_may_come_after_the_file(admin: httpx.Client) -> None:
    files = [("file", ("x.csv", text_csv())), ("request", (None, json.dumps({"name": a_name()})))]
    assert admin.post("/v1/datasets", files=files).status_code == 201


def test_an_idempotency_key_makes_one_data_set(http_stack: HttpStack, admin: httpx.Client, query: Query) -> None:
    name, headers = a_name(), {"Idempotency-Key": a_name()}
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda _: upload(admin, text_csv(), "", headers, name=name), range(4)))
    assert sorted(answer.status_code for answer in answers) == [200, 200, 200, 201]
    assert len({answer.json()["id"] for answer in answers}) == 1
    other = upload(admin, text_csv(11), "", headers, name=name)
    assert_problem(other, 422, "idempotency_key_reused")
    assert len(query("SELECT id FROM datasets WHERE name = $1", name)) == 1 and staging(http_stack) == []
    assert admin.delete(f"/v1/datasets/{name}").status_code == 200
    gone = upload(admin, text_csv(), "", headers, name=name)
    assert_problem(gone, 410, "expired", "Idempotency-Key")
    assert "deleted" in gone.json()["detail"]


def test_twenty_uploads_of_one_name_make_one(admin: httpx.Client) -> None:
    name = a_name()
    with ThreadPoolExecutor(5) as pool:
        answers = list(pool.map(lambda _: upload(admin, text_csv(), name=name), range(20)))
    assert sorted(answer.status_code for answer in answers) == [201] + [409] * 19


def test_a_data_set_in_use_is_409_saying_who_uses_it(admin: httpx.Client) -> None:
    made = upload(admin, text_csv()).json()
    started = admin.post("/v1/training-jobs", json={"dataset": made["id"], "name": "made", "steps": 1, "evaluate": []})
    job = started.json()["id"]
    refused = admin.delete(f"/v1/datasets/{made['id']}")
    assert_problem(refused, 409, "conflict")
    assert job in refused.json()["detail"]
    assert admin.get(f"/v1/datasets/{made['id']}").json()["used_by"] == [job]
    assert admin.post(f"/v1/training-jobs/{job}/cancel").json()["status"] == "cancelled"
    assert admin.delete(f"/v1/datasets/{made['id']}").status_code == 200


def test_a_store_that_cannot_delete_does_not_undo_the_deletion(http_stack: HttpStack, admin: httpx.Client) -> None:
    made = upload(admin, text_csv()).json()
    (stored,) = (Path(http_stack.environ["KSHOT_OBJECTS"]) / "datasets").glob(f"{made['id']}.*")
    stored.unlink()
    stored.mkdir()  # which cannot be unlinked
    assert admin.delete(f"/v1/datasets/{made['id']}").status_code == 200
    stored.rmdir()
    assert_problem(admin.get(f"/v1/datasets/{made['id']}"), 404, "not_found")


def test_sinusoids_are_drawn_and_nothing_is_stored(admin: httpx.Client) -> None:
    name, headers = a_name(), {"Idempotency-Key": a_name()}
    first, again = (
        admin.post("/v1/datasets", json={"name": name, "source": "sinusoid"}, headers=headers) for _ in range(2)
    )
    assert (first.status_code, again.status_code) == (201, 200) and first.json() == again.json()
    assert (first.json()["format"], first.json()["task"], first.json()["bytes"]) == ("sinusoid", "regression", 0)
    assert admin.delete(f"/v1/datasets/{name}").status_code == 200


def test_recorded_tasks_need_a_tenant_that_opted_in(admin: httpx.Client, query: Query) -> None:
    body = {"name": a_name(), "source": "recorded-tasks", "checkpoint": "words", "tenants": ["willing"]}
    assert_problem(admin.post("/v1/datasets", json=body), 422, "invalid", "tenants[0]")
    admin.post("/v1/api-keys", json={"name": "x", "tenant": "willing"})
    assert_problem(admin.post("/v1/datasets", json=body), 422, "invalid", "tenants[0]")
    query(
        "INSERT INTO recording (tenant_id, enabled, retention_days, changed_at) "
        "SELECT id, true, 90, now() FROM tenants WHERE name = 'willing'"
    )
    made = admin.post("/v1/datasets", json=body)
    assert made.status_code == 201, made.text
    tenant = query("SELECT id FROM tenants WHERE name = 'willing'")[0]["id"]
    assert made.json()["recorded"] == {"checkpoint": "words", "tenants": [tenant]}
    assert (made.json()["modality"], made.json()["task"]) == ("text", "classification")
    for change, param in (
        ({"checkpoint": None}, "checkpoint"),
        ({"checkpoint": "nothing"}, "checkpoint"),
        ({"task": "regression"}, "task"),
        ({"tenants": ["willing", "nobody"]}, "tenants[1]"),
        ({"tenants": []}, "tenants"),
        ({"source": "sinusoid"}, "checkpoint"),
    ):
        answer = admin.post("/v1/datasets", json={**body, "name": a_name(), **change})
        assert_problem(answer, 404 if change.get("checkpoint") else 422, None, param)


def test_real_characters_in_their_own_folders(admin: httpx.Client) -> None:
    """Some of Omniglot as its original zip has it: images_background/Alphabet/character01/0709_01.png."""
    pool = read_omniglot(data_folder("omniglot/omniglot28_bits.npz") / "omniglot/omniglot28_bits.npz", "valid")
    some = list(zip(pool.classes, pool.rows, strict=True))[::9]
    files = {
        f"images_background/{name}/0001_{j:02}.png": as_png(255 - np.asarray(pool.inputs)[row, :, :, 0])
        for name, rows in some
        for j, row in enumerate(rows)
    }
    found = upload(admin, zipped(files), "images_background.zip").json()
    assert found["n_examples"] == 400 and found["smallest"] == 20 and found["pictures"]["greyscale"]
    shown = admin.get(f"/v1/datasets/{found['id']}").json()["splits"]
    assert {name for names in shown.values() for name in names} == {name for name, _ in some}
