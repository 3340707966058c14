"""Rows of "Bad input" that hold for every route alike: a walk through the OpenAPI document, so that no new route is
forgotten."""

import re

import httpx
import pytest

from kshot.contracts.ids import new_id
from tests.flow.http_stack import assert_problem

pytestmark = pytest.mark.flow
JSON = {"Content-Type": "application/json"}
DEEP = {
    "100,000 levels": (b'{"a":' * 100_000, {400, 413}),  # 413 where a body may be of 64 KiB alone
    "50,000 levels": (b"[" * 50_000, {400}),
    "an integer of 5,000 digits": (b'{"a": ' + b"7" * 5000 + b"}", {400}),
}
NO_JSON = {
    "NaN": b'{"a": NaN}',
    "Infinity": b'{"a": [-Infinity]}',
    "1e400": b'{"a": {"b": 1e400}}',
    "a key given twice": b'{"a": 1, "a": 1}',
    "NUL": rb'{"a": "\u0000"}',
    "a lone surrogate": rb'{"\ud800": 1}',
    "a field nobody knows": b'{"nobody-knows": 1}',
}


@pytest.fixture(scope="module")
def with_json(admin: httpx.Client) -> list[tuple[str, str]]:
    """Verb and path of every operation that takes JSON, with ids that are nobody's."""
    found = [
        (verb, re.sub(r"\{\w+\}", new_id("key" if "api-keys" in path else "am"), path))
        for path, item in admin.get("/openapi.json").json()["paths"].items()
        for verb, operation in item.items()
        if "application/json" in operation.get("requestBody", {}).get("content", {})
    ]
    assert len(found) > 12
    return found


@pytest.mark.reliability("bad input: NaN, Infinity", "every route")
@pytest.mark.reliability("bad input: duplicate JSON keys", "every route")
@pytest.mark.parametrize("body", NO_JSON.values(), ids=NO_JSON)
def test_what_no_json_may_hold_is_422_on_every_route(
    admin: httpx.Client, with_json: list[tuple[str, str]], body: bytes
) -> None:
    for verb, path in with_json:
        assert_problem(admin.request(verb, path, content=body, headers=JSON), 422, "invalid")


@pytest.mark.reliability("bad input: JSON 100,000 levels deep", "every route")
@pytest.mark.parametrize(("body", "answers"), DEEP.values(), ids=DEEP)
def test_deep_json_and_endless_integers_are_400_on_every_route(
    admin: httpx.Client, with_json: list[tuple[str, str]], body: bytes, answers: set[int]
) -> None:
    for verb, path in with_json:
        answer = admin.request(verb, path, content=body, headers=JSON)
        assert answer.status_code in answers, f"{verb} {path}"
        assert_problem(answer, answer.status_code)


@pytest.mark.reliability("bad input: path tricks", "every route")
@pytest.mark.parametrize(
    "trick",
    ["../etc/passwd", "%2e%2e%2fetc", "..%2f..", "%2fetc%2fpasswd", "file:%2f%2f%2fetc", "am_..", "a%00b", "%ff"],
)
def test_path_tricks_are_404_or_422_on_every_route(admin: httpx.Client, trick: str) -> None:
    paths = admin.get("/openapi.json").json()["paths"]
    named = [(verb, path) for path, item in paths.items() if "{" in path for verb in item]
    assert len(named) > 20
    for verb, path in named:
        answer = admin.request(verb, re.sub(r"\{\w+\}", trick, path), content=b"{}", headers=JSON)
        assert answer.status_code in (404, 422), f"{verb} {path}"
        assert_problem(answer, answer.status_code)
