"""A deadline for every request to arrive. uvicorn has none: partial headers or a dripping body would hold a
connection for ever."""

import asyncio
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol


def protocol_with_deadline(deadline_s: float) -> type[asyncio.Protocol]:
    """uvicorn's HTTP protocol, which closes the connection when a request's headers and body are not all here
    ``deadline_s`` seconds after its first byte (or after the connection opened)."""

    class DeadlineProtocol(HttpToolsProtocol):
        _timer: asyncio.TimerHandle | None = None

        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            super().connection_made(transport)
            self._arm()

        def connection_lost(self, exc: Exception | None) -> None:
            self._disarm()
            super().connection_lost(exc)

        def data_received(self, data: bytes) -> None:
            if self._timer is None and not self._answering():
                self._arm()
            super().data_received(data)

        def on_message_begin(self) -> None:
            self._arm()
            super().on_message_begin()

        def on_message_complete(self) -> None:
            self._disarm()
            super().on_message_complete()

        def _answering(self) -> bool:
            return self.cycle is not None and not self.cycle.response_complete

        def _arm(self) -> None:
            self._disarm()
            self._timer = self.loop.call_later(deadline_s, self._close)

        def _disarm(self) -> None:
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None

        def _close(self) -> None:
            self._timer = None
            if not self.transport.is_closing():
                self.transport.close()

    return DeadlineProtocol


def as_uvicorn_http(protocol: type[asyncio.Protocol]) -> Any:
    """uvicorn types its ``http`` setting as names only, but takes a class."""
    return protocol
