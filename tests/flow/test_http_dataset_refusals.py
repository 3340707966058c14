"""Data sets that are refused: every row of "Bad input" and "Access" that an upload can meet. Nothing stays behind."""

import io
import json
import pickle
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from kshot.contracts.ids import new_id
from tests.flow.conftest import HttpStack
from tests.flow.dataset_calls import a_name, form, staging, upload
from tests.flow.http_stack import ADMIN_KEY, assert_problem, run_api
from tests.kshot.episodes.dataset_files import npz, picture, picture_zip, text_csv, zipped

pytestmark = pytest.mark.flow
UNPICKLED = Path(tempfile.gettempdir()) / "kshot-was-unpickled-by-an-upload"


@pytest.fixture(autouse=True)
def _nothing_is_left_in_staging(http_stack: HttpStack) -> Iterator[None]:
    yield
    assert staging(http_stack) == []


class _Explosive:
    def __reduce__(self) -> Any:
        return (open, (str(UNPICKLED), "w"))


def _linked() -> bytes:
    link = zipfile.ZipInfo("b/0.png")
    link.external_attr = 0o120777 << 16
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("a/0.png", picture(0))
        archive.writestr(link, "/etc/passwd")
    return buffer.getvalue()


def _many_entries() -> bytes:
    """An end record that speaks of a million entries: it is refused before any of them is looked at."""
    return zipped({"a/0.png": b""}).replace(b"PK\x05\x06\0\0\0\0\x01\0\x01\0", b"PK\x05\x06\0\0\0\0\xff\xff\xff\xff")


@pytest.mark.reliability("bad input: npz bomb", "bomb", "lying header", "object array")
@pytest.mark.reliability("bad input: pickle or `.pt` upload", "uploads")
@pytest.mark.reliability("bad input: zip data set", "traversal", "symlinks", "entries", "bomb ratio")
@pytest.mark.parametrize(
    ("data", "status"),
    [
        (zipped({"../a/0.png": picture(0), "b/0.png": picture(1)}), 422),
        (zipped({"/a/0.png": picture(0), "b/0.png": picture(1)}), 422),
        (_linked(), 422),
        (_many_entries(), 413),
        (zipped({"a/0.png": b"\0" * 2**26, "b/0.png": picture(1)}), 413),
        (picture_zip()[:-100], 422),
        (picture_zip(1), 422),
        (zipped({"a/0.png": picture(0)[:50], "b/0.png": picture(1)}), 422),
        (zipped({"a/0.png": b"GIF89a" + b"\0" * 50, "b/0.png": picture(1)}), 415),
        (pickle.dumps(_Explosive()), 415),
        (zipped({"model/data.pkl": pickle.dumps(_Explosive())}), 415),
        (npz(inputs=np.array([_Explosive(), 1], object), labels=np.arange(2)), 422),
        (npz(inputs=np.full((4, 2), np.nan), labels=np.arange(4)), 422),
        (npz(inputs=np.eye(4), labels=np.arange(3)), 422),
        (zipped({"inputs.npy": b"\x93NUMPY\x01\x00\x20\x00{'descr':'<f8','shape':(99999,)}"}), 422),
        (zipped({"inputs.npy": b"\0" * 2**26}), 413),
        ("text,label\nétude,a\n".encode("latin-1"), 422),
        (b"text,label\nhi,a\nho\n", 422),
        (b"a,b,label\n1,NaN,x\n2,3,y\n", 422),
        (b"", 422),
        (picture(0), 415),
    ],
)
def test_a_file_that_is_hostile_or_broken(admin: httpx.Client, data: bytes, status: int) -> None:
    answer = upload(admin, data)
    assert_problem(answer, status, None, "file")
    assert not UNPICKLED.exists()


@pytest.mark.parametrize(
    ("request_", "param"),
    [
        ({"name": "No Spaces"}, "name"),
        ({"name": "../etc"}, "name"),
        ({"name": ""}, "name"),
        ({"colour": "red"}, "colour"),
        ({"format": "sinusoid"}, "format"),
        ({"format": "image_zip"}, "format"),
        ({"description": 5}, "description"),
        ({"columns": {"inputs": "nothing"}}, "columns.inputs"),
        ({"columns": {"targets": {"label": "colour"}}}, "columns.targets.label"),
        ({"columns": {"targets": {"nothing": "regression"}}}, "columns.targets.nothing"),
        ({"split": {"shares": {"train": 0.5, "test": 0.4}}}, "split.shares"),
        ({"split": {"shares": {"train": 0.0, "test": 1.0}}}, "split.shares.train"),
        ({"split": {"seed": "1"}}, "split.seed"),
        ({"split": {"seed": True}}, "split.seed"),
        ({"splits": {"train": ["c0", "c1"], "test": ["c1", "c2"]}}, "splits.test"),
        ({"splits": {"train": ["c0", "secret"]}}, "splits.train"),
        ({"splits": {"train": ["c0"], "test": ["c1", "c2"]}}, "splits.train"),
        ({"splits": {"others": ["c0", "c1"]}}, "splits"),
        ({"splits": ["c0"]}, None),
    ],
)
def test_a_request_that_makes_no_sense(admin: httpx.Client, request_: dict[str, Any], param: str | None) -> None:
    answer = upload(admin, text_csv(), **request_)
    assert_problem(answer, 415 if request_.get("format") == "image_zip" else 422, None, param)
    assert "secret" not in answer.text


def _post(client: httpx.Client, body: bytes, boundary: str = "B") -> httpx.Response:
    return client.post(
        "/v1/datasets", content=body, headers={"Content-Type": f"multipart/form-data; boundary={boundary}"}
    )


@pytest.mark.reliability("bad input: NaN, Infinity", "forms")
def test_a_form_that_is_broken_or_incomplete(admin: httpx.Client) -> None:
    whole = form(text_csv())
    for body, boundary in ((whole[:-20], "B"), (whole[:60], "B"), (b"", "B"), (b"hello", "B"), (whole, "C")):
        assert_problem(_post(admin, body, boundary), 400, "unreadable_body")
    assert_problem(admin.post("/v1/datasets", content=whole, headers={"Content-Type": "multipart/form-data"}), 400)
    request, file = ("request", (None, json.dumps({"name": a_name()}))), ("file", ("x.csv", text_csv()))
    for files, param in (
        ([request], "file"),
        ([file], "request"),
        ([request, file, file], "file"),
        ([request, request, file], "request"),
        ([request, file, ("other", ("", b"1"))], "other"),
        ([request, file, ("splits", ("", b"[1]"))], None),
    ):
        assert_problem(admin.post("/v1/datasets", files=files), 422, "invalid", param)
    for json_text, status in (("{", 400), ('{"name": NaN}', 422), ('{"name": "a", "name": "b"}', 422), ("[1]", 422)):
        assert_problem(admin.post("/v1/datasets", files=[("request", (None, json_text)), file]), status)
    assert_problem(admin.post("/v1/datasets", files=[("request", (None, "x" * 70_000)), file]), 413)


@pytest.mark.reliability("bad input: any URL as input", "data sets")
def test_a_body_that_is_neither(admin: httpx.Client) -> None:
    for media_type in ("application/zip", "text/csv", "application/x-pickle", "application/vnd.safetensors", ""):
        answer = admin.post("/v1/datasets", content=picture_zip(), headers={"Content-Type": media_type})
        assert_problem(answer, 415, "unsupported_media_type")
    for body, param in (
        ({"name": a_name()}, "source"),
        ({"name": a_name(), "source": "https://example.com/x.zip"}, "source"),
        ({"name": a_name(), "source": "file:///etc/passwd"}, "source"),
        ({"name": a_name(), "source": "sinusoid", "more": 1}, "more"),
        ({"name": "X", "source": "sinusoid"}, "name"),
    ):
        assert_problem(admin.post("/v1/datasets", json=body), 422, "invalid", param)


@pytest.mark.reliability("access: normal key on admin routes", "admin routes")
def test_data_sets_are_for_administrators(http_stack: HttpStack) -> None:
    user, stranger = http_stack.client(http_stack.key("no-admin")["key"]), http_stack.client(None)
    for client, status in ((user, 403), (stranger, 401)):
        assert_problem(upload(client, text_csv()), status)
        assert_problem(client.post("/v1/datasets", json={"name": "x", "source": "sinusoid"}), status)
        assert_problem(client.get("/v1/datasets"), status)
        for verb in ("GET", "DELETE"):
            assert_problem(client.request(verb, f"/v1/datasets/{new_id('ds')}"), status)


@pytest.mark.reliability("bad input: path tricks", "names")
@pytest.mark.parametrize("trick", ["../etc/passwd", "%2e%2e%2fetc", "file:%2f%2fx", "ds_..", "a%00b", "%ff", "A" * 300])
def test_path_tricks_are_404(admin: httpx.Client, trick: str) -> None:
    for verb in ("GET", "DELETE"):
        assert_problem(admin.request(verb, f"/v1/datasets/{trick}"), 404, "not_found")


@pytest.mark.reliability("bad input: path tricks", "stored names")
@pytest.mark.parametrize(
    "name", ["../../kshot-evil.csv", "/tmp/kshot-evil.csv", "..%2fkshot-evil.csv", "kshot-evil\\..\\x"]
)
def test_a_files_own_name_is_never_used(http_stack: HttpStack, admin: httpx.Client, name: str) -> None:
    made = upload(admin, text_csv(), name)
    assert made.status_code == 201
    objects = Path(http_stack.environ["KSHOT_OBJECTS"])
    assert [file.stem for file in (objects / "datasets").glob(f"{made.json()['id']}.*")] == [made.json()["id"]]
    assert not [*objects.rglob("*kshot-evil*"), *objects.parent.glob("*kshot-evil*"), *Path("/tmp").glob("kshot-evil*")]


def test_hours_of_work_end_with_413_and_the_service_answers_on(http_stack: HttpStack, tmp_path: Path) -> None:

    with (
        run_api({**http_stack.environ, "KSHOT_DATASET_CHECK_S": "0.01"}, tmp_path) as api,
        api.client(ADMIN_KEY) as client,
    ):
        assert_problem(upload(client, picture_zip(40, 20)), 413, "too_large", "file")
        assert client.get("/healthz").status_code == 200
