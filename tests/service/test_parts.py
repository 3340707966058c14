"""Small parts: preferences, hosts, errors, settings, logs."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from pydantic import ValidationError

from kshot.contracts.errors import Invalid, KshotError, RateLimited, Unavailable, error_class
from kshot.queue.link import Link
from service.context import is_loopback
from service.errors import problem_response
from service.prefer import Preference, parse_prefer
from service.rates import Rates
from service.routes import health
from service.settings import Settings


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        (None, Preference(10, None)),
        ("wait=5", Preference(5, "wait=5", 5)),
        ("Wait = 5", Preference(5, "wait=5", 5)),
        ("wait=100", Preference(60, "wait=60", 60)),
        ("wait=0", Preference(0, "wait=0")),
        ("respond-async", Preference(0, "respond-async")),
        ("respond-async, wait=3", Preference(3, "respond-async, wait=3", 3)),
        ("wait=x, handling=lenient", Preference(10, None)),
        ("wait=-1", Preference(10, None)),
    ],
)
def test_prefer(header: str | None, expected: Preference) -> None:
    assert parse_prefer(header) == expected


@pytest.mark.parametrize("host", ["localhost", "localhost:8000", "127.0.0.1:1", "127.8.9.1", "[::1]:80", "LOCALHOST"])
def test_loopback_hosts(host: str) -> None:
    assert is_loopback(host)


@pytest.mark.parametrize(
    "host",
    ["", "example.com", "127.0.0.1.example.com", "localhost.example.com", "0.0.0.0", "[::]", "10.0.0.1", "[", "a@b"],
)
def test_other_hosts(host: str) -> None:
    assert not is_loopback(host)


def all_errors(base: type[KshotError] = KshotError) -> list[type[KshotError]]:
    return [cls for child in base.__subclasses__() for cls in (child, *all_errors(child))]


@pytest.mark.parametrize("cls", KshotError.__subclasses__())
def test_every_error_has_a_status_and_comes_back_by_its_code(cls: type[KshotError]) -> None:
    assert 400 <= cls.status < 600
    assert error_class(cls.code).status == cls.status


def test_problems_say_when_to_come_back() -> None:
    response = problem_response(RateLimited("slow down", retry_after=0.2), "req_1")
    assert response.status_code == 429 and response.headers["retry-after"] == "1"
    assert b'"request_id":"req_1"' in response.body
    assert problem_response(Invalid("no", param="a.b"), None).media_type == "application/problem+json"


async def test_a_refused_request_may_come_back_when_the_window_frees() -> None:
    """Without Redis and without requests in the minute before: the next is let in once this minute is over."""
    time.sleep(max(0, time.time() % 60 - 55))  # not across the end of a minute
    link = Link("redis://127.0.0.1:1")
    rates = Rates(link, per_minute=3)
    for _ in range(3):
        await rates.hit("ten_a")
    with pytest.raises(RateLimited) as refused:
        await rates.hit("ten_a")
    assert refused.value.retry_after == pytest.approx(60 - time.time() % 60, abs=1)
    await rates.hit("ten_b")
    await link.close()


async def test_readiness_does_not_wait_for_a_database_that_answers_one_question_and_hangs_at_the_next(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Hanging:
        database = queue = property(lambda self: self)

        @asynccontextmanager
        async def single(self) -> AsyncIterator[Any]:
            yield self

        async def scalar(self, statement: object) -> int:
            return 1

        async def workers(self) -> list[Any]:
            await asyncio.Event().wait()
            return []

        async def ping(self) -> bool:
            return True

        store_answers = ping

    monkeypatch.setattr(health, "_PATIENCE_S", 0.05)
    answer = await asyncio.wait_for(health.readyz(Hanging()), 20)
    assert answer.status_code == 503


def test_a_redis_url_that_cannot_be_followed_is_refused_at_the_start_and_not_shown() -> None:
    with pytest.raises(ValidationError) as refused:
        Settings(database_url="postgresql://x", redis_url="redis://:secret@x?socket_timeout=3")
    (fault,) = refused.value.errors(include_input=False)
    assert "socket_timeout" in fault["msg"] and "secret" not in fault["msg"]


async def test_requests_end_also_where_counting_them_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    link = Link("redis://127.0.0.1:1")
    rates = Rates(link, per_minute=3)

    async def broken(*_: object) -> bool:
        raise RuntimeError("a fault of the library")

    monkeypatch.setattr(rates._local, "hit", broken)
    outcomes = await asyncio.wait_for(asyncio.gather(*(rates.hit(t) for t in "aab"), return_exceptions=True), 10)
    assert [type(outcome) for outcome in outcomes] == [Unavailable] * 3
    await link.close()


def test_an_admin_key_has_at_least_32_characters() -> None:
    with pytest.raises(ValidationError):
        Settings(database_url="postgresql://x", redis_url="redis://x", admin_key="short")


def test_settings_do_not_show_secrets() -> None:
    settings = Settings(database_url="postgresql://u:pw@h/d", redis_url="redis://:pw@h", admin_key="k" * 40)
    assert "pw" not in repr(settings) and "kkk" not in repr(settings)
