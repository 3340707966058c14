"""One keep-alive HTTP connection without a client library: a raw socket, a C parser, requests as ready bytes."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import cast
from urllib.parse import urlsplit

import httptools
import httpx

JSON = "application/json"
SAFETENSORS = "application/vnd.safetensors"


@dataclass(frozen=True)
class Answer:
    """What came back. ``status`` 0: the connection broke."""

    status: int
    body: bytes


class Connection(asyncio.Protocol):
    """One request at a time. What the client costs is close to what the kernel costs."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._parser = httptools.HttpResponseParser(self)
        self._answer: asyncio.Future[Answer] | None = None
        self._body: list[bytes] = []

    async def ask(self, request: bytes) -> Answer:
        """Send a whole request; its answer."""
        self._answer = asyncio.get_running_loop().create_future()
        if self._transport is None or self._transport.is_closing():
            return Answer(0, b"")
        self._transport.write(request)
        return await self._answer

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is no subclass

    def connection_lost(self, exc: Exception | None) -> None:
        self._settle(Answer(0, b""))

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_body(self, body: bytes) -> None:
        """Called by the parser."""
        self._body.append(body)

    def on_message_complete(self) -> None:
        """Called by the parser."""
        body, self._body = b"".join(self._body), []
        self._settle(Answer(self._parser.get_status_code(), body))
        self._parser = httptools.HttpResponseParser(self)

    def _settle(self, answer: Answer) -> None:
        if self._answer is not None and not self._answer.done():
            self._answer.set_result(answer)


class OrdinaryConnection:
    """The same through httpx, as most Python callers ask: its own cost is in every figure."""

    def __init__(self, url: str) -> None:
        self._http = httpx.AsyncClient(base_url=url, timeout=60)

    async def ask(self, request: bytes) -> Answer:
        """Send a whole request; its answer."""
        head, body = request.split(b"\r\n\r\n", 1)
        first, *lines = head.decode().split("\r\n")
        headers = dict(line.split(": ", 1) for line in lines if not line.startswith(("Host", "Content-Length")))
        try:
            answer = await self._http.post(first.split()[1], content=body, headers=headers)
        except httpx.TransportError:
            return Answer(0, b"")
        return Answer(answer.status_code, answer.content)

    def close(self) -> None:
        """Sockets close with the process."""


async def connect_ordinary(url: str) -> OrdinaryConnection:
    """A connection to the server at ``url``, through httpx."""
    return OrdinaryConnection(url)


async def connect(url: str, kind: Callable[[], Connection] = Connection) -> Connection:
    """A connection to the server at ``url``."""
    where = urlsplit(url)
    _, connection = await asyncio.get_running_loop().create_connection(
        kind, where.hostname or "127.0.0.1", where.port or 80
    )
    return connection


def post(path: str, media_type: str, body: bytes, key: str | None = None) -> bytes:
    """A whole POST request as bytes."""
    bearer = f"Authorization: Bearer {key}\r\n" if key else ""
    head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\n{bearer}Prefer: wait=60\r\nContent-Type: {media_type}\r\n"
    return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body
