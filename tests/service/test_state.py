"""What requests share: who reads a body where, who is asked for workers, who may have how much open."""

import asyncio
import threading
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from typing import Any, cast

import pytest

from kshot.contracts.errors import QueueFull, Unavailable
from service.bodies.stream import JSON, MULTIPART, SAFETENSORS, Raw
from service.bodies.strict_json import strict_object
from service.predicting import _counted
from service.settings import Settings
from service.state import State


def a_state(database: object = None) -> State:
    settings = Settings(database_url="postgresql://x", redis_url="redis://x")
    parts: Any = dict.fromkeys(("queue", "objects", "rates", "sign_ins", "metrics", "committer"))
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


async def test_each_process_lets_in_its_share_of_a_tenants_predictions() -> None:
    state = a_state()
    for processes, share in ((1, 256), (2, 128), (64, 4), (1000, 1)):
        state.processes = processes
        with ExitStack() as open_calls:
            for _ in range(share):
                open_calls.enter_context(_counted(state, "ten_a"))
            with pytest.raises(QueueFull), _counted(state, "ten_a"):
                pass
            with _counted(state, "ten_b"):
                pass
