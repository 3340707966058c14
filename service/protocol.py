"""A deadline and a bound for every request's arrival. uvicorn has neither: partial headers or a dripping body would
hold a connection for ever, and endless headers would fill memory."""

import asyncio
from typing import Any, cast

from starlette.types import Scope
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from service.calls import leave_call
from service.errors import unreadable_problem

_MAX_HEAD_BYTES = 64 * 1024
_BODY_BYTES_PER_S = 64 * 1024
"""Whoever sends at least so much is no dripper, however long a large upload takes."""


class DeadlineProtocol(HttpToolsProtocol):
    """uvicorn's HTTP protocol, which closes the connection when a request's headers and body are not all here
    ``deadline_s`` seconds after its first byte (or after the connection opened). A body that came at 64 KiB/s or faster
    in that time, on average, gets as long again, and so on."""

    deadline_s: float
    _timer: asyncio.TimerHandle | None = None
    _head_bytes = 0
    _body_bytes = 0
    _in_head = True

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._arm()

    def connection_lost(self, exc: Exception | None) -> None:
        self._disarm()
        super().connection_lost(exc)
        if self.cycle is not None and self.cycle.disconnected:
            leave_call(cast(Scope, self.cycle.scope))

    def data_received(self, data: bytes) -> None:
        if self._timer is None and not self._answering():
            self._arm()
        self._head_bytes += len(data)
        super().data_received(data)
        if self._in_head and self._head_bytes > _MAX_HEAD_BYTES:
            self._refuse(431)

    def on_message_begin(self) -> None:
        self._arm()
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        self._in_head = False
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        self._body_bytes += len(body)
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._in_head, self._head_bytes = True, 0
        self._disarm()
        super().on_message_complete()

    def send_400_response(self, msg: str) -> None:
        self._refuse(400)

    def _refuse(self, status: int) -> None:
        """A problem, though no request could be made of what came."""
        if self.transport.is_closing():
            return
        body = unreadable_problem(status).body
        head = b"content-type: application/problem+json\r\nconnection: close\r\ncontent-length: %d\r\n\r\n"
        self.transport.write(STATUS_LINE[status] + head % len(body) + bytes(body))
        self.transport.close()

    def _answering(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def _arm(self) -> None:
        self._disarm()
        self._body_bytes = 0
        self._timer = self.loop.call_later(self.deadline_s, self._end_of_time)

    def _disarm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _end_of_time(self) -> None:
        self._timer = None
        if self.transport.is_closing():
            return
        if self._body_bytes >= self.deadline_s * _BODY_BYTES_PER_S and not self._answered():
            self._arm()
        else:
            self.transport.close()

    def _answered(self) -> bool:
        """Whether the answer went out before the body was here: nobody reads the rest of it."""
        return self.cycle is not None and self.cycle.response_complete


def protocol_with_deadline(deadline_s: float) -> type[asyncio.Protocol]:
    """The protocol with this deadline; uvicorn makes its instances itself."""
    return type("DeadlineProtocol", (DeadlineProtocol,), {"deadline_s": deadline_s})


def as_uvicorn_http(protocol: type[asyncio.Protocol]) -> Any:
    """uvicorn types its ``http`` setting as names only, but takes a class."""
    return protocol
