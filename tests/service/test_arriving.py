"""Who gives up a place at the gate while a body is long in coming, and that what such bodies may come to is bounded."""

import asyncio
from collections.abc import Callable

import pytest
from starlette.requests import Request
from starlette.types import Message

from service import arriving
from service.arriving import Anteroom, Place, announced_bytes
from service.gate import Gate


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arriving, "LONG_S", 0.001)


class Upload:
    """A call that was let in, and a body that comes when it is told to."""

    def __init__(self, gate: Gate, anteroom: Anteroom, n_bytes: int) -> None:
        gate.enter("a")
        self.place = Place(gate, anteroom, "a", n_bytes)
        self._sent: asyncio.Queue[Message] = asyncio.Queue()
        self._receive = self.place.reading(self._sent.get)
        self._read = asyncio.create_task(self._receive())

    async def send(self, message: Message) -> None:
        self._sent.put_nowait(message)
        await self._read
        self._read = asyncio.create_task(self._receive())

    def end(self) -> None:
        self._read.cancel()
        self.place.leave()


def taken(gate: Gate) -> int:
    """Places at the gate."""
    return gate._total


async def until(check: Callable[[], bool]) -> None:
    async with asyncio.timeout(120):
        while not check():
            await asyncio.sleep(0.001)


async def test_a_call_steps_aside_until_its_body_is_here() -> None:
    gate = Gate(16)
    upload = Upload(gate, Anteroom(100), 10)
    assert taken(gate) == 1
    await until(lambda: taken(gate) == 0)
    await upload.send({"type": "http.request", "body": b"x", "more_body": True})
    assert taken(gate) == 0
    await upload.send({"type": "http.request", "body": b"x"})
    assert taken(gate) == 1
    upload.end()
    assert taken(gate) == 0


async def test_a_caller_who_leaves_meanwhile_leaves_no_trace() -> None:
    gate, anteroom = Gate(16), Anteroom(100)
    for _ in range(50):
        upload = Upload(gate, anteroom, 80)  # for one of these there is room
        await until(lambda: taken(gate) == 0)
        await upload.send({"type": "http.disconnect"})
        upload.end()
    assert taken(gate) == 0 and anteroom.enter("a", 80)


async def test_what_finds_no_room_keeps_its_place_until_there_is_some() -> None:
    gate, anteroom = Gate(16), Anteroom(100)
    uploads = [Upload(gate, anteroom, 40) for _ in range(4)]
    await until(lambda: taken(gate) == 2)
    assert not anteroom.enter("a", 1) and anteroom.enter("b", 16), "a tenant leaves a fifth to others"
    anteroom.leave("b", 16)
    uploads[0].end()
    await until(lambda: taken(gate) == 1)
    for upload in uploads[1:]:
        upload.end()
    assert taken(gate) == 0


@pytest.mark.parametrize(
    ("headers", "n_bytes"),
    [
        ({"content-length": "70"}, 70),
        ({"content-length": "9" * 30}, 100),
        ({"content-length": "-1"}, 100),
        ({"transfer-encoding": "chunked"}, 100),
        ({}, 0),
    ],
)
def test_what_a_body_may_come_to_is_what_it_announces_and_no_more_than_is_read(
    headers: dict[str, str], n_bytes: int
) -> None:
    raw = [(name.encode(), value.encode()) for name, value in headers.items()]
    assert announced_bytes(Request({"type": "http", "headers": raw}), 100) == n_bytes
