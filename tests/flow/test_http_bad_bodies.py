"""Rows of "Bad input" about bodies, connections and names, over real HTTP. Each test is named for its row."""

import json
import socket
import time
from collections.abc import Iterator

import httpx
import psutil
import pytest

from service.settings import Settings
from tests.flow.conftest import HttpStack
from tests.flow.http_stack import assert_problem, vector_task

pytestmark = pytest.mark.flow
JSON = {"Content-Type": "application/json"}


@pytest.fixture(scope="module")
def client(http_stack: HttpStack) -> httpx.Client:
    return http_stack.tenant("bad-bodies")


@pytest.fixture(scope="module")
def model(client: httpx.Client) -> str:
    return str(client.post("/adapt", json=vector_task(0)).json()["id"])


def raw(client: httpx.Client, body: bytes, path: str = "/adapt", **headers: str) -> httpx.Response:
    return client.post(path, content=body, headers={**JSON, **headers})


@pytest.mark.reliability("bad input: NaN, Infinity", "adapt and predict")
@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e400", "-1e400"])
def test_nan_infinity_and_1e400_in_json_are_422(client: httpx.Client, model: str, number: str) -> None:
    support = '{"checkpoint": "plain", "support": {"inputs": [[0], [1]], "labels": ["a", "b"]}'
    in_inputs = support.replace("[0]", f"[{number}]") + "}"
    in_labels = support.replace('["a", "b"]', f"[{number}, 1.5]") + "}"
    in_options = support + f', "options": {{"l2": {number}}}}}'
    in_metadata = support + f', "metadata": {{"x": {number}}}}}'
    for body in (in_inputs, in_labels, in_options, in_metadata):
        assert_problem(raw(client, body.encode()), 422, "invalid")
    asked = json.dumps({"model": model, "inputs": [[0.5, 0, 0, 0]]}).replace("0.5", number)
    assert_problem(raw(client, asked.encode(), "/predict"), 422, "invalid")


@pytest.mark.reliability(
    "bad input: duplicate JSON keys", "duplicate keys", "NUL", "lone surrogate", "unknown field", "wrong types"
)
@pytest.mark.parametrize(
    "body",
    [
        '{"checkpoint": "plain", "checkpoint": "plain", "support": {"inputs": [[0], [1]], "labels": ["a", "b"]}}',
        '{"checkpoint": "plain", "support": {"inputs": [[0], [1]], "labels": ["a", "b"], "labels": ["a", "b"]}}',
        r'{"checkpoint": "words", "support": {"inputs": ["a\u0000", "b"], "labels": ["a", "b"]}}',
        r'{"checkpoint": "words", "support": {"inputs": ["a\ud800", "b"], "labels": ["a", "b"]}}',
        r'{"checkpoint": "plain", "support": {"inputs": [[0], [1]], "labels": ["a\udc00", "b"]}}',
        r'{"checkpoint": "plain\u0000", "support": {"inputs": [[0], [1]], "labels": ["a", "b"]}}',
        '{"checkpoint": "plain", "unknown": 1, "support": {"inputs": [[0], [1]], "labels": ["a", "b"]}}',
        '{"checkpoint": "plain", "support": {"inputs": [[0], [1]], "labels": ["a", "b"], "weights": 1}}',
        '{"checkpoint": "plain", "support": {"inputs": [["1"], [1]], "labels": ["a", "b"]}}',
        '{"checkpoint": "plain", "support": {"inputs": [[true], [1]], "labels": ["a", "b"]}}',
        '{"checkpoint": "plain", "support": {"inputs": [[0], [1]], "labels": [true, false]}}',
        '{"checkpoint": "plain", "ttl_seconds": "1", "support": {"inputs": [[0], [1]], "labels": ["a", "b"]}}',
        '{"checkpoint": "plain", "ttl_seconds": true, "support": {"inputs": [[0], [1]], "labels": ["a", "b"]}}',
        '{"checkpoint": "plain", "options": {"l2": "1"}, "support": {"inputs": [[0], [1]], "labels": ["a", "b"]}}',
    ],
)
def test_duplicate_keys_nul_surrogates_unknown_fields_and_wrong_types_are_422(client: httpx.Client, body: str) -> None:
    assert_problem(raw(client, body.encode()), 422, "invalid")


def test_a_change_of_many_unknown_keys_or_many_bytes_is_cut_short(client: httpx.Client, model: str) -> None:
    path = f"/v1/adapted-models/{model}"
    for n, known in ((900, 20), (5000, 0)):
        answer = client.patch(path, json={str(i): 0 for i in range(n)})
        assert_problem(answer, 422, "invalid")
        assert len(answer.json()["errors"]) == known
    assert_problem(client.patch(path, json={"metadata": {"a": "x" * 2**16}}), 413, "too_large")


@pytest.mark.reliability("bad input: JSON 100,000 levels deep", "400")
@pytest.mark.parametrize(
    "body",
    [
        b"[" * 100_000,
        b'{"support":' * 100_000,
        b'{"ttl_seconds": ' + b"7" * 5000 + b"}",
        b'{"support": ' + b"[" * 100_000,
    ],
)
def test_json_100_000_deep_or_an_integer_of_5000_digits_is_400(client: httpx.Client, body: bytes) -> None:
    assert_problem(raw(client, body), 400, "unreadable_body")


@pytest.mark.reliability("bad input: 100 MB body", "adapt")
def test_a_100_mb_chunked_body_is_413_at_the_limit_with_flat_memory(
    client: httpx.Client, http_stack: HttpStack
) -> None:
    process = psutil.Process(http_stack.api.process.pid)
    before = process.memory_info().rss
    peak, sent = before, 0

    def chunks() -> Iterator[bytes]:
        nonlocal peak, sent
        for _ in range(100):
            yield b" " * 2**20
            sent += 1
            peak = max(peak, process.memory_info().rss)

    assert_problem(client.post("/adapt", content=chunks(), headers=JSON), 413, "too_large")
    assert peak - before < 3 * 32 * 2**20, "the limit is 32 MiB; joining it may double that for a moment"
    announced = client.post("/adapt", content=b"x" * (33 * 2**20), headers=JSON)
    assert_problem(announced, 413, "too_large")
    assert client.get("/healthz").status_code == 200


def _closed_within(port: int, pieces: list[bytes], pause: float, patience: float) -> float:
    """Seconds until the server closed a connection on which we keep dripping; fails after ``patience``."""
    started = time.monotonic()
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.settimeout(pause)
        for piece in pieces:
            try:
                connection.sendall(piece)
                if connection.recv(4096) == b"":
                    return time.monotonic() - started
            except TimeoutError:
                pass
            except ConnectionError:
                return time.monotonic() - started
            assert time.monotonic() - started < patience, "still open"
    raise AssertionError("never closed")


@pytest.mark.reliability("bad input: partial headers", "headers", "body", "the deadline")
def test_partial_headers_or_a_dripping_body_are_closed_in_time(http_stack: HttpStack) -> None:
    """The deadline is 30 s; this stack sets KSHOT_HEADER_DEADLINE_S to 2."""
    assert Settings.model_fields["header_deadline_s"].default <= 30
    port, key = http_stack.api.port, http_stack.key("drip")["key"]
    line = b"POST /adapt HTTP/1.1\r\nHost: localhost\r\n"
    drip = [b"x"] * 300
    sent_nothing = [b""] * 300
    headers = [line, *[b"X-A: b\r\n"] * 300]
    known = line + b"Authorization: Bearer " + key.encode() + b"\r\nContent-Type: application/json\r\n"
    body = [known + b"Content-Length: 1000\r\n\r\n", *drip]
    chunked = [known + b"Transfer-Encoding: chunked\r\n\r\n", *[b"1\r\nx\r\n"] * 300]
    refused = [line + b"Content-Length: 1000\r\n\r\n", *drip]  # 401 at once; the body still drips
    for pieces in (sent_nothing, headers, body, chunked, refused):
        _closed_within(port, pieces, 0.1, patience=30)


@pytest.mark.reliability("bad input: path tricks", "names")
@pytest.mark.parametrize("trick", ["../etc/passwd", "%2e%2e%2fetc", "..%2f..", "/etc/passwd", "file:///etc/passwd",
                                   "am_..", "am_01J9ZK3V7Q8W5R2M4N6P0T1XY%00", "a%00b", "%ff"])  # fmt: skip
def test_path_tricks_in_ids_and_names_are_404_or_422(client: httpx.Client, trick: str) -> None:
    for base in ("/v1/adapted-models/", "/v1/checkpoints/"):
        assert client.get(base + trick).status_code in (404, 422)
    assert client.delete("/v1/adapted-models/" + trick).status_code in (404, 405, 422)
    assert client.post("/adapt", json=vector_task(0, checkpoint=trick)).status_code in (404, 422)
    assert client.post("/predict", json={"model": trick, "inputs": [[1]]}).status_code in (404, 422)


def test_unknown_paths_and_methods_are_problems_too(client: httpx.Client) -> None:
    assert_problem(client.get("/v1/nothing"), 404, "not_found")
    assert_problem(client.put("/adapt"), 405, "method_not_allowed")
    assert client.put("/v1/adapted-models/am_x").headers["allow"] == "DELETE, GET, PATCH"
    assert_problem(client.post("/adapt", content=b"{}", headers={**JSON, "Content-Encoding": "gzip"}), 415)
    assert_problem(client.post("/adapt", data={"a": "b"}), 415)
    assert_problem(client.post("/adapt", json=vector_task(0), headers={"Idempotency-Key": "a b"}), 422)
    for answer in (
        client.post("/adapt", json=vector_task(0), headers={"Idempotency-Key": "a b"}),
        client.get("/v1/adapted-models", params={"after": "x"}),
    ):
        assert answer.json()["detail"].startswith("expected ") and "^" not in answer.json()["detail"]


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (b"GET / HTTP/1.1\r\nHost: localhost\r\nX-A: " + b"a" * 200_000, 431),
        (b"GET / HTTP/1.1\r\nHost: localhost\r\n" + b"X-A: b\r\n" * 20_000, 431),
        (b"not http at all\r\n\r\n", 400),
        (b"POST /adapt HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n", 400),
    ],
)
def test_endless_headers_and_what_is_no_http_are_refused(
    http_stack: HttpStack, request_bytes: bytes, status: int
) -> None:
    with socket.create_connection(("127.0.0.1", http_stack.api.port)) as connection:
        connection.settimeout(10)
        connection.sendall(request_bytes)
        answer = connection.recv(65536)
    assert answer.startswith(b"HTTP/1.1 %d " % status)
    assert b"application/problem+json" in answer and b'"status":%d' % status in answer
