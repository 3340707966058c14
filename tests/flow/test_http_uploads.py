"""Uploads as connections: slow ones, dripping ones, dropped ones, too large ones; and the operator's own Omniglot."""

import resource
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import numpy as np
import psutil
import pytest

from kshot.contracts.checkpoints import ImageInput
from kshot.contracts.datasets import DATASET_FILE
from kshot.episodes.datasets import read_pool
from kshot.episodes.omniglot import read_omniglot
from tests.flow.conftest import HttpStack, Query
from tests.flow.dataset_calls import a_name, form, staging, upload
from tests.flow.http_stack import ADMIN_KEY, Api, assert_problem, run_api
from tests.kshot.data_folder import data_folder
from tests.kshot.episodes.dataset_files import picture, zipped

pytestmark = pytest.mark.flow


@pytest.fixture(scope="module")
def small_api(http_stack: HttpStack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    """An API process with a data folder, and a small limit for files."""
    folder = tmp_path_factory.mktemp("operator")
    (folder / "data").mkdir()
    limits = {"KSHOT_DATA": str(folder / "data"), "KSHOT_MAX_DATASET_BYTES": str(8 * 2**20)}
    with run_api({**http_stack.environ, **limits}, folder) as api:
        yield api


def test_omniglot_without_a_folder_or_without_the_files_is_422_with_the_remedy(
    http_stack: HttpStack, small_api: Api, admin: httpx.Client
) -> None:
    for api in (http_stack.api, small_api):
        with api.client(ADMIN_KEY) as client:
            answer = client.post("/v1/datasets", json={"name": a_name(), "source": "omniglot"})
            assert_problem(answer, 422, "invalid", "source")
            assert "KSHOT_DATA" in answer.json()["detail"]


def test_omniglot_from_the_operators_folder(
    http_stack: HttpStack, small_api: Api, admin: httpx.Client, tmp_path: Path, query: Query
) -> None:
    packed = data_folder("omniglot/omniglot28_bits.npz") / "omniglot/omniglot28_bits.npz"
    mine = small_api.log.parent / "data" / "omniglot"
    mine.mkdir()
    (mine / packed.name).symlink_to(packed)
    with small_api.client(ADMIN_KEY) as client:
        made = client.post("/v1/datasets", json={"name": a_name(), "source": "omniglot"}, timeout=120)
        assert made.status_code == 201, made.text
    found = made.json()
    assert {part: count["n_classes"] for part, count in found["counts"].items()} == {
        "train": 1028, "valid": 172, "test": 423,
    }  # fmt: skip
    assert found["n_examples"] == 32_460 and found["pictures"] == {
        "greyscale": True, "width": 28, "height": 28, "dark_on_light": True,
    }  # fmt: skip
    (tmp_path / "data.zip").symlink_to(Path(http_stack.environ["KSHOT_OBJECTS"]) / "datasets" / f"{found['id']}.zip")
    stored = query("SELECT manifest FROM datasets WHERE id = $1", found["id"])[0]["manifest"]
    (tmp_path / DATASET_FILE).write_text(stored)
    pool = read_pool(tmp_path, "valid", ImageInput(height=28, width=28, channels=1, invert=True))
    original = read_omniglot(packed, "valid")
    assert set(pool.classes) == set(original.classes)
    name = pool.classes[5]
    np.testing.assert_array_equal(
        np.asarray(pool.inputs)[pool.rows[5]], np.asarray(original.inputs)[original.rows[original.classes.index(name)]]
    )


def _head(http_stack: HttpStack, key: str, length: int) -> bytes:
    return (
        f"POST /v1/datasets HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {key}\r\n"
        f"Content-Type: multipart/form-data; boundary=B\r\nContent-Length: {length}\r\n\r\n"
    ).encode()


def test_an_upload_that_keeps_coming_lives_past_the_deadline(http_stack: HttpStack) -> None:
    """The deadline of this stack is 2 s; 1.2 MB at about 240 kB/s take five."""
    key = http_stack.key("slow", "admin")["key"]
    row = b"something to say about this,c%d\n"
    body = form(b"text,label\n" + b"".join(row % (i % 9) for i in range(36_000)))
    with socket.create_connection(("127.0.0.1", http_stack.api.port)) as connection:
        connection.settimeout(30)
        connection.sendall(_head(http_stack, key, len(body)))
        started = time.monotonic()
        for start in range(0, len(body), 24_000):
            connection.sendall(body[start : start + 24_000])
            time.sleep(0.1)
        assert time.monotonic() - started > 4, "too fast to show anything"
        assert connection.recv(4096).startswith(b"HTTP/1.1 201")


@pytest.mark.reliability("bad input: partial headers", "uploads")
def test_a_dripping_or_dropped_upload_is_closed_and_leaves_nothing(http_stack: HttpStack) -> None:
    key = http_stack.key("drips", "admin")["key"]
    body = form(b"text,label\n" + b"x,y\n" * 100_000)
    closed = threading.Event()
    with socket.create_connection(("127.0.0.1", http_stack.api.port)) as connection:
        connection.settimeout(0.1)
        connection.sendall(_head(http_stack, key, len(body)) + body[:1000])
        for i in range(300):
            try:
                connection.sendall(body[1000 + i : 1001 + i])
                if connection.recv(4096) == b"":
                    closed.set()
                    break
            except TimeoutError:
                pass
            except ConnectionError:
                closed.set()
                break
    assert closed.is_set(), "still open after 30 s of dripping"
    with socket.create_connection(("127.0.0.1", http_stack.api.port)) as connection:
        connection.sendall(_head(http_stack, key, len(body)) + body[: len(body) // 2])
        time.sleep(0.3)
    for _ in range(100):
        if not staging(http_stack):
            return
        time.sleep(0.05)
    raise AssertionError(staging(http_stack))


@pytest.mark.reliability("bad input: 100 MB body", "uploads")
def test_a_file_over_the_limit_is_413_and_memory_stays_flat(
    http_stack: HttpStack, small_api: Api, admin: httpx.Client
) -> None:
    process = psutil.Process(small_api.process.pid)
    before = process.memory_info().rss
    peak = before
    head, _, tail = form(b"@").partition(b"@")

    def chunks(megabytes: int) -> Iterator[bytes]:
        nonlocal peak
        yield head + b"text,label\n"
        for _ in range(megabytes):
            yield b"x,y\n" * 2**18
            peak = max(peak, process.memory_info().rss)
        yield tail

    headers = {"Content-Type": "multipart/form-data; boundary=B", "Authorization": f"Bearer {ADMIN_KEY}"}
    with small_api.client() as client:
        answer = client.post("/v1/datasets", content=chunks(100), headers=headers)
        assert_problem(answer, 413, "too_large", "file")
        fits = client.post("/v1/datasets", content=chunks(7), headers=headers)
        assert_problem(fits, 422, "invalid", "file")  # all of it is of one class
    assert peak - before < 24 * 2**20
    assert staging(http_stack) == []


def test_a_reader_that_is_killed_costs_one_upload(http_stack: HttpStack, admin: httpx.Client) -> None:
    """As Linux does where memory runs out."""
    drawing = picture(0)
    large = zipped({f"c{i % 9}/{i}.png": drawing for i in range(9000)})
    process = psutil.Process(http_stack.api.process.pid)
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(upload, admin, large)
        while not asked.done() and not (staging(http_stack) and process.children()):
            time.sleep(0.01)
        time.sleep(0.3)
        for child in process.children():
            child.kill()
        assert_problem(asked.result(), 413, "too_large", "file")
    assert upload(admin, large).status_code == 201
    assert staging(http_stack) == []


@pytest.mark.reliability("faults: disk full", "uploads")
def test_a_full_disk_is_503_and_the_service_recovers(http_stack: HttpStack, small_api: Api) -> None:
    data = b"text,label\n" + b"x,a\ny,b\n" * 2**18
    unlimited = resource.prlimit(small_api.process.pid, resource.RLIMIT_FSIZE)
    with small_api.client(ADMIN_KEY) as client:
        resource.prlimit(small_api.process.pid, resource.RLIMIT_FSIZE, (2**20, unlimited[1]))
        try:
            refused = upload(client, data)
        finally:
            resource.prlimit(small_api.process.pid, resource.RLIMIT_FSIZE, unlimited)
        assert_problem(refused, 503, "unavailable")
        assert int(refused.headers["retry-after"]) >= 1 and staging(http_stack) == []
        assert upload(client, data).status_code == 201
