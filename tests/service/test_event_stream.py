"""A stream of events ends when its caller may no longer have it."""

from types import SimpleNamespace
from typing import Any

import pytest

from kshot.contracts.errors import Unauthenticated
from service import event_stream


async def test_a_stream_ends_when_the_key_no_longer_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = 0

    async def may_go_on() -> None:
        nonlocal asked
        asked += 1
        if asked == 3:
            raise Unauthenticated("revoked")

    async def look(*_: object) -> tuple[bool, list[Any]]:
        return False, []

    monkeypatch.setattr(event_stream, "_look", look)
    for name in ("_LOOK_S", "_RECHECK_S"):
        monkeypatch.setattr(event_stream, name, -1.0)
    state: Any = SimpleNamespace(closing=False)
    assert [piece async for piece in event_stream._stream(state, "job", 0, may_go_on)] == [
        event_stream.KEEPALIVE_COMMENT
    ]
    assert asked == 3
