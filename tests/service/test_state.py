"""What requests share: who reads a body where, who is asked for workers."""

import asyncio
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, cast

import pytest

from kshot.contracts.errors import Unavailable
from service.bodies.stream import JSON, MULTIPART, SAFETENSORS, Raw
from service.bodies.strict_json import strict_object
from service.settings import Settings
from service.state import State


def a_state(database: object = None) -> State:
    settings = Settings(database_url="postgresql://x", redis_url="redis://x")
    others = ("queue", "objects", "rates", "sign_ins", "metrics", "committer", "calls_gate", "orders_gate")
    parts: Any = dict.fromkeys(others)
    return State(settings=settings, database=cast(Any, database), **parts)


async def test_who_asks_for_workers_at_the_same_time_shares_the_answer_and_the_error() -> None:
    looks = 0

    class Away:
        @asynccontextmanager
        async def single(self) -> AsyncIterator[Any]:
            nonlocal looks
            looks += 1
            await asyncio.sleep(0)
            raise Unavailable("away")
            yield

    state = a_state(Away())
    first = asyncio.create_task(state.workers())
    others = [asyncio.create_task(state.workers()) for _ in range(5)]
    await asyncio.sleep(0)
    first.cancel()  # it takes nothing from the others
    outcomes = await asyncio.gather(*others, return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [Unavailable] * 5 and looks == 1
    with pytest.raises(Unavailable):
        await state.workers()
    assert looks == 2


@pytest.mark.parametrize(
    ("media_type", "data", "inline"),
    [
        (JSON, b'{"a": [' + b"1.5, " * 20_000 + b"1]}", True),
        (JSON, b'{"a": [' + b"1.5, " * 60_000 + b"1]}", False),
        (JSON, b'{"a": [1e400, ' + b"1.5, " * 20_000 + b"1]}", False),
        (JSON, b'{"a": [1e400]}', True),
        (SAFETENSORS, bytes(200_000), True),
        (MULTIPART, bytes(60_000), True),
        (MULTIPART, bytes(70_000), False),
    ],
)
async def test_only_what_is_read_quickly_is_read_in_the_event_loop(media_type: str, data: bytes, inline: bool) -> None:
    read_in = []

    def parse(raw: Raw) -> None:
        if raw.media_type == JSON:
            strict_object(raw.data, quick=raw.quick)
        read_in.append(threading.current_thread() is threading.main_thread())

    await a_state().read(Raw(media_type, b"", data), parse)
    assert read_in == [inline]
