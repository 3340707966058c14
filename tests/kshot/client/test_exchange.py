"""Retries, step by step: scripts are values, so that no test has to wait."""

import httpx
import pytest

from kshot.client import QueueFull, Unavailable, Unreachable
from kshot.client.exchange import exchange
from kshot.client.requests import Request, json_body
from kshot.client.steps import Return, Send, Sleep, advance
from kshot.contracts.api import Problem

ADAPT = Request("POST", "/v1/adapt", body=json_body({}), found_again=True)
START = Request("POST", "/v1/training-jobs", body=json_body({})).created_once()
ROLL_BACK = Request("POST", "/v1/aliases/x/rollback", repeatable=False)


def answer(status: int, code: str = "unavailable", **headers: str) -> httpx.Response:
    problem = Problem(type="urn", title="t", status=status, detail="what is wrong", code=code, request_id="req_1")
    return httpx.Response(status, content=problem.model_dump_json(), headers=headers)


def broken(kind: type[httpx.HTTPError] = httpx.ReadError) -> httpx.HTTPError:
    return kind("broken", request=httpx.Request("GET", "http://127.0.0.1:8000/v1/adapt"))  # type: ignore[call-arg]


def test_an_answer_ends_it():
    script = exchange(START, 5)
    assert advance(script, None) == Send(START)
    assert isinstance(advance(script, httpx.Response(201)), Return)


def test_it_waits_as_long_as_the_service_says():
    script = exchange(START, 5)
    advance(script, None)
    pause = advance(script, answer(503, **{"Retry-After": "7"}))
    assert isinstance(pause, Sleep) and 7 <= pause.seconds <= 7.25
    assert advance(script, None) == Send(START)


def test_pauses_grow_and_are_never_the_same():
    script = exchange(START, 6)
    advance(script, None)
    pauses = []
    for _ in range(6):
        pause = advance(script, broken())
        assert isinstance(pause, Sleep)
        pauses.append(pause.seconds)
        advance(script, None)
    assert all(0.125 * 2**i <= pauses[i] <= 0.25 * 2**i for i in range(6))
    assert len(set(pauses)) == 6


@pytest.mark.parametrize(
    ("outcome", "error"),
    [(answer(503), Unavailable), (answer(429, "queue_full"), QueueFull), (broken(httpx.ConnectError), Unreachable)],
)
def test_it_gives_up_in_the_end_with_what_was_wrong(outcome: httpx.Response | httpx.HTTPError, error: type[Exception]):
    script = exchange(START, 2)
    advance(script, None)
    for _ in range(2):
        assert isinstance(advance(script, outcome), Sleep)
        advance(script, None)
    with pytest.raises(error):
        advance(script, outcome)


@pytest.mark.parametrize("status", [400, 401, 404, 409, 422, 500, 504])
def test_what_no_repetition_helps_is_raised_at_once(status: int):
    script = exchange(START, 5)
    advance(script, None)
    with pytest.raises(Exception, match="what is wrong"):
        advance(script, answer(status, "whatever"))


def test_a_conflict_that_says_when_it_is_over_is_waited_for():
    script = exchange(START, 5)
    advance(script, None)
    assert isinstance(advance(script, answer(409, "conflict", **{"Retry-After": "1"})), Sleep)


def test_an_hour_is_not_waited_for():
    script = exchange(START, 5)
    advance(script, None)
    with pytest.raises(Unavailable) as raised:
        advance(script, answer(503, **{"Retry-After": "3600"}))
    assert raised.value.retry_after == 3600


@pytest.mark.parametrize(("outcome", "again"), [
    (broken(httpx.ReadError), False), (broken(httpx.ReadTimeout), False), (answer(503), False),
    (broken(httpx.ConnectError), True), (answer(429, "rate_limited"), True),
])  # fmt: skip
def test_what_must_not_happen_twice_is_repeated_only_where_it_surely_did_not_happen(
    outcome: httpx.Response | httpx.HTTPError, again: bool
):
    script = exchange(ROLL_BACK, 5)
    advance(script, None)
    if again:
        assert isinstance(advance(script, outcome), Sleep)
    else:
        with pytest.raises((Unreachable, Unavailable)):
            advance(script, outcome)


def test_all_attempts_to_create_have_one_key():
    script = exchange(START, 5)
    first = advance(script, None)
    advance(script, broken())
    assert isinstance(first, Send) and first.request.headers["Idempotency-Key"]
    assert advance(script, None) == first


def test_what_is_found_again_needs_a_key_only_when_it_is_repeated():
    script = exchange(ADAPT, 5)
    first = advance(script, None)
    assert isinstance(first, Send) and "Idempotency-Key" not in first.request.headers
    advance(script, broken())
    second = advance(script, None)
    assert isinstance(second, Send) and second.request.headers["Idempotency-Key"]
    advance(script, broken())
    assert advance(script, None) == second


def test_a_second_attempt_to_delete_finds_that_it_is_gone():
    script = exchange(Request("DELETE", "/v1/adapted-models/am_1"), 5)
    advance(script, None)
    advance(script, broken())
    advance(script, None)
    assert isinstance(advance(script, answer(404, "not_found")), Return)
