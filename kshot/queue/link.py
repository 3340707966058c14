"""One connection to Redis that many callers use at once: the commands of a turn of the event loop leave in one write.

redis-py's pool costs 0.1 to 0.2 ms of processor time for each command, most of it spent in taking a connection and
giving it back: more than a whole request may take.
"""

import asyncio
import ssl
from collections import deque
from typing import Any, cast

import hiredis
from redis.asyncio.connection import parse_url
from redis.exceptions import ResponseError

_CONNECT_S = 1.0
Word = str | bytes | int


class Link:
    """Connects when it is first asked, and again after the connection was lost. Commands are answered in order.

    A server that answers nothing for ``timeout_s`` counts as away: all that wait get TimeoutError, and the next
    command opens a connection anew. A command that was not answered may have been carried out.
    """

    def __init__(self, url: str, *, timeout_s: float = 1.0) -> None:
        self._address: dict[str, Any] = dict(parse_url(url))
        self._tls = _tls_context(self._address) if url.startswith("rediss:") else None
        self._timeout_s = timeout_s
        self._wire: _Wire | None = None
        self._connecting: asyncio.Task[None] | None = None

    def ask(self, *words: Word) -> "asyncio.Future[Any]":
        """A command's answer. The future ends in one of `Away` where Redis is away or refuses the command."""
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._put(words, future)
        return future

    def tell(self, *words: Word) -> None:
        """A command whose answer nobody needs."""
        self._put(words, None)

    async def close(self) -> None:
        """Close the connection; whoever still waits gets ConnectionError."""
        if self._connecting is not None and not self._connecting.done():
            self._connecting.cancel()
            await asyncio.wait([self._connecting])
        if self._wire is not None:
            self._wire.end(ConnectionError("closed"))

    def _put(self, words: tuple[Word, ...], future: "asyncio.Future[Any] | None") -> None:
        wire = self._wire
        if wire is None or wire.ended:
            wire = self._wire = _Wire(self._timeout_s)
            self._connecting = asyncio.create_task(self._connect(wire))
        wire.put(_packed(words), future)

    async def _connect(self, wire: "_Wire") -> None:
        loop, at = asyncio.get_running_loop(), self._address
        try:
            async with asyncio.timeout(_CONNECT_S):
                if "path" in at:
                    await loop.create_unix_connection(lambda: wire, at["path"])
                else:
                    host, port = at.get("host", "localhost"), at.get("port", 6379)
                    await loop.create_connection(lambda: wire, host, port, ssl=self._tls)
            for words in self._greeting():
                wire.greet(_packed(words))
        except (OSError, TimeoutError) as error:
            wire.end(error)
        except asyncio.CancelledError:
            wire.end(ConnectionError("closed"))
            raise
        wire.flush()

    def _greeting(self) -> list[tuple[Word, ...]]:
        """What a connection says before anything else."""
        at, words = self._address, list[tuple[Word, ...]]()
        if "password" in at:
            words.append(("AUTH", *([at["username"]] if "username" in at else []), at["password"]))
        if at.get("db"):
            words.append(("SELECT", at["db"]))
        return words


class _Wire(asyncio.Protocol):
    """One connection, from before it is open to its end."""

    def __init__(self, timeout_s: float) -> None:
        self.ended = False
        self._timeout_s = timeout_s
        self._transport: asyncio.Transport | None = None
        self._reader = hiredis.Reader(replyError=ResponseError)
        self._greetings = 0
        self._ready = False
        self._flushing = False
        self._unsent: list[bytes] = []
        self._waiting: deque[tuple[float, asyncio.Future[Any] | None]] = deque()
        self._watch: asyncio.TimerHandle | None = None

    def put(self, command: bytes, future: "asyncio.Future[Any] | None") -> None:
        loop = asyncio.get_running_loop()
        self._unsent.append(command)
        self._waiting.append((loop.time(), future))
        if self._ready and not self._flushing:
            self._flushing = True
            loop.call_soon(self.flush)
        if self._watch is None:
            self._watch = loop.call_later(self._timeout_s, self._look)

    def greet(self, command: bytes) -> None:
        """Before the first command; its answer comes before the first answer."""
        assert self._transport is not None
        self._greetings += 1
        self._transport.write(command)

    def flush(self) -> None:
        """Send what was put; from the first call on, whatever is put is sent in the next turn."""
        self._ready, self._flushing = True, False
        if self._unsent and self._transport is not None and not self.ended:
            self._transport.write(b"".join(self._unsent))
            self._unsent.clear()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's are no subclasses

    def data_received(self, data: bytes) -> None:
        self._reader.feed(data)
        while not self.ended and (answer := self._reader.gets()) is not False:
            self._take(answer)

    def connection_lost(self, exc: Exception | None) -> None:
        self.end(exc if isinstance(exc, OSError) else ConnectionError("Redis closed the connection"))

    def end(self, error: Exception) -> None:
        """Close, and tell all that wait."""
        self.ended = True
        if self._watch is not None:
            self._watch.cancel()
        if self._transport is not None:
            self._transport.abort()
        while self._waiting:
            _, future = self._waiting.popleft()
            _refuse(future, error)

    def _take(self, answer: Any) -> None:
        if self._greetings:
            self._greetings -= 1
            if isinstance(answer, ResponseError):
                self.end(answer)
            return
        _, future = self._waiting.popleft()
        if isinstance(answer, ResponseError):
            _refuse(future, answer)
        elif future is not None and not future.done():
            future.set_result(answer)

    def _look(self) -> None:
        """Whether the oldest command waits too long."""
        self._watch = None
        if not self._waiting:
            return
        loop = asyncio.get_running_loop()
        left = self._waiting[0][0] + self._timeout_s - loop.time()
        if left <= 0:
            self.end(TimeoutError("Redis does not answer"))
        else:
            self._watch = loop.call_later(left, self._look)


def _tls_context(address: dict[str, Any]) -> ssl.SSLContext:
    """``?ssl_ca_certs=FILE`` and ``?ssl_cert_reqs=none``, as redis-py reads them from the URL."""
    context = ssl.create_default_context(cafile=address.get("ssl_ca_certs"))
    if address.get("ssl_cert_reqs") == "none":
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


def _refuse(future: "asyncio.Future[Any] | None", error: Exception) -> None:
    if future is not None and not future.done():
        future.set_exception(error)
        future.exception()  # whoever gave up waiting need not hear of it


def _packed(words: tuple[Word, ...]) -> bytes:
    return hiredis.pack_command(words)  # type: ignore[arg-type, no-any-return]  # its stub means a tuple of one
