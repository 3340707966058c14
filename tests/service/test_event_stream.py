"""A stream of events ends when its caller may no longer have it."""

import hashlib
from types import SimpleNamespace
from typing import Any

import pytest
from starlette.requests import Request

from kshot.contracts.errors import Forbidden, KshotError, Unauthenticated
from kshot.storage.lookups import Found, Question
from kshot.storage.quotas import NO_QUOTAS
from service import auth, event_stream


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
    monkeypatch.setattr(event_stream, "_LOOK_S", 0.0)
    state: Any = SimpleNamespace(closing=False)
    assert [piece async for piece in event_stream._stream(state, "job", 0, may_go_on)] == [
        event_stream.KEEPALIVE_COMMENT
    ]
    assert asked == 3


@pytest.mark.parametrize(
    ("sent", "role", "error"),
    [
        (b"Bearer ksk_good", "admin", None),
        (b"Bearer ksk_good", "user", Forbidden),
        (b"Bearer ksk_revoked", "admin", Unauthenticated),
        (None, "admin", Unauthenticated),
    ],
)
async def test_a_caller_is_looked_at_again(sent: bytes | None, role: str, error: type[KshotError] | None) -> None:
    """A key that was seen before, and is revoked by now, does not count."""

    async def find(question: Question) -> Found:
        secret = "ksk_good"
        row = {"key": "key_1", "tenant": "ten_1", "role": role, "sha256": hashlib.sha256(secret.encode()).digest()}
        row |= {"quotas": None}
        return Found(question, row | {"ended": question.secret == "ksk_revoked"})

    seen = {hashlib.sha256(b"ksk_revoked").digest(): "ten_1"}
    state: Any = SimpleNamespace(keys_exist=True, database=SimpleNamespace(find=find), tenants=seen, quotas=NO_QUOTAS)
    request = Request({"type": "http", "headers": [] if sent is None else [(b"authorization", sent)]})
    if error is None:
        await auth.recheck_admin(request, state)
    else:
        with pytest.raises(error):
            await auth.recheck_admin(request, state)
