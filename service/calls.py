"""A call under way: since when, how long its caller waits, and whether he is still there."""

import asyncio
import time
from typing import Any

from starlette.requests import ClientDisconnect, Request
from starlette.types import Scope

_CALL = "kshot.call"


class Call:
    """Of one request. ``started``: by the monotonic clock."""

    __slots__ = ("_awaited", "left", "started")

    def __init__(self) -> None:
        self.started = time.monotonic()
        self.left = False
        self._awaited: asyncio.Future[Any] | None = None

    def leave(self) -> None:
        """The caller went away: whatever he waits for ends."""
        self.left = True
        if self._awaited is not None:
            _end(self._awaited)

    def watch(self, awaited: "asyncio.Future[Any]") -> None:
        """``awaited`` ends in ClientDisconnect once the caller is gone."""
        self._awaited = awaited
        if self.left:
            _end(awaited)

    def require_caller(self) -> None:
        """Raises ClientDisconnect where nobody would hear the answer: what was not begun need not be."""
        if self.left:
            raise ClientDisconnect


def begin_call(scope: Scope) -> Call:
    """The call of this request, from now on."""
    call: Call = scope.setdefault(_CALL, Call())
    return call


def call_of(request: Request) -> Call:
    """The call of a request; of one that did not come by the entrance, begun now."""
    return begin_call(request.scope)


def leave_call(scope: Scope) -> None:
    """The connection of this request was lost before its answer was out."""
    call: Call | None = scope.get(_CALL)
    if call is not None:
        call.leave()


def _end(awaited: "asyncio.Future[Any]") -> None:
    if not awaited.done():
        awaited.set_exception(ClientDisconnect())
        awaited.exception()  # whoever gave up waiting need not hear of it
