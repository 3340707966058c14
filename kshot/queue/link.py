"""One connection to Redis that many callers use at once: the commands of a turn of the event loop leave in one write.

Of 64 commands at once each costs 0.002 ms of processor time here and 0.043 through redis-py's pool, which writes them
one by one (`python -m benchmarks.light_clients`).
"""

import asyncio
import socket
from collections import deque
from collections.abc import Sequence
from typing import Any, cast

import hiredis
from redis.exceptions import ResponseError

from kshot.queue.address import read_address

_CONNECT_S = 1.0
_PIECE = 256 * 1024
"""Most bytes of one write: what is longer goes out as fast as the server takes it."""
_LOOKS = 4
"""Within one time limit."""
Word = str | bytes | int


class Link:
    """Connects when it is first asked, and again after the connection was lost. Commands are answered in order.

    A server that takes and answers nothing for ``timeout_s`` counts as away: all that wait get TimeoutError, and the
    next command opens a connection anew. A long command or answer may take any time, as long as bytes move. A command
    that was not answered may have been carried out. Raises ValueError for a URL that cannot be followed.
    """

    def __init__(self, url: str, *, timeout_s: float = 1.0) -> None:
        self._address = read_address(url)
        self._timeout_s = timeout_s
        self._wire: _Wire | None = None
        self._connecting: asyncio.Task[None] | None = None

    def ask(self, *words: Word) -> "asyncio.Future[Any]":
        """A command's answer. The future ends in one of `Away` where Redis is away or refuses the command. A long
        command that is cancelled before its first byte has left is not sent."""
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._put(words, future)
        return future

    def tell(self, *words: Word) -> None:
        """A command whose answer nobody needs."""
        self._put(words, None)

    def ask_together(self, commands: Sequence[tuple[Word, ...]]) -> "asyncio.Future[list[Any]]":
        """The answers to commands that Redis carries out as one: whoever waits for what the first of them brings is
        told when the last is done, and not of the first alone. One that it refuses is an error among the answers."""
        self.tell("MULTI")
        for words in commands:
            self.tell(*words)
        return self.ask("EXEC")

    def drop(self) -> None:
        """Close the connection at once, so that the server ends what it still does for it; whoever waits gets
        ConnectionError, and the next command opens a connection anew."""
        if self._wire is not None:
            self._wire.end(ConnectionError("dropped"))

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
                if at.path is not None:
                    await loop.create_unix_connection(lambda: wire, at.path)
                else:
                    await loop.create_connection(lambda: wire, at.host, at.port, ssl=at.tls)
            if wire.ended:
                return
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
        if at.password is not None:
            words.append(("AUTH", *([at.username] if at.username is not None else []), at.password))
        if at.db:
            words.append(("SELECT", at.db))
        return words


_Command = tuple[bytes, "asyncio.Future[Any] | None"]


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
        self._paused = False
        self._buffered = 0
        self._moved_at = 0.0
        self._begun: memoryview | None = None
        self._unsent: deque[_Command] = deque()
        self._waiting: deque[asyncio.Future[Any] | None] = deque()
        self._watch: asyncio.TimerHandle | None = None

    def put(self, command: bytes, future: "asyncio.Future[Any] | None") -> None:
        loop = asyncio.get_running_loop()
        if not self._unsent and not self._waiting:
            self._move()
        self._unsent.append((command, future))
        if self._ready and not self._flushing:
            self._flushing = True
            loop.call_soon(self.flush)
        if self._watch is None:
            self._watch = loop.call_later(self._timeout_s / _LOOKS, self._look)

    def greet(self, command: bytes) -> None:
        """Before the first command; its answer comes before the first answer."""
        assert self._transport is not None
        self._greetings += 1
        self._transport.write(command)

    def flush(self) -> None:
        """Send what was put, until the server is behind; from the first call on, whatever is put is sent in the next
        turn."""
        self._ready, self._flushing = True, False
        while self._transport is not None and not self.ended and not self._paused and (piece := self._next_piece()):
            self._transport.write(piece)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's are no subclasses
        if self.ended:  # while it was being opened
            self._transport.abort()
            return
        self._transport.set_write_buffer_limits(high=_PIECE // 4)
        connected = self._transport.get_extra_info("socket")
        if connected.family != socket.AF_UNIX:  # else megabytes would lie in the system's buffer, and none seem to move
            connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, _PIECE)
        self._move()

    def pause_writing(self) -> None:
        """The server is behind, and so is the system's buffer."""
        assert self._transport is not None
        self._paused, self._buffered = True, self._transport.get_write_buffer_size()

    def resume_writing(self) -> None:
        self._paused = False
        self._move()
        if self._ready:
            self.flush()

    def data_received(self, data: bytes) -> None:
        self._move()
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
        futures = [*self._waiting, *(future for _, future in self._unsent)]
        self._begun = None
        self._waiting.clear()
        self._unsent.clear()
        for future in futures:
            _refuse(future, error)

    def _next_piece(self) -> "bytes | memoryview | None":
        """Whole commands together, or a part of a long one."""
        if self._begun is not None:
            piece, rest = self._begun[:_PIECE], self._begun[_PIECE:]
            self._begun = rest if rest else None
            return piece
        small: list[bytes] = []
        n_bytes = 0
        while self._unsent and n_bytes + len(self._unsent[0][0]) <= _PIECE:
            command, future = self._unsent.popleft()
            self._waiting.append(future)
            small.append(command)
            n_bytes += len(command)
        if small or not self._unsent:
            return b"".join(small)
        command, future = self._unsent.popleft()
        if future is None or not future.cancelled():
            self._waiting.append(future)
            self._begun = memoryview(command)
        return self._next_piece()

    def _take(self, answer: Any) -> None:
        if self._greetings:
            self._greetings -= 1
            if isinstance(answer, ResponseError):
                self.end(answer)
            return
        future = self._waiting.popleft()
        if isinstance(answer, ResponseError):
            _refuse(future, answer)
        elif future is not None and not future.done():
            future.set_result(answer)

    def _move(self) -> None:
        """Something moves, or begins to."""
        self._moved_at = asyncio.get_running_loop().time()

    def _look(self) -> None:
        """Whether nothing has moved for too long. What was only handed to the system says nothing of the server: bytes
        count as moving out where there are more of them than the system takes."""
        self._watch = None
        if not self._waiting and not self._unsent:
            return
        if self._paused and self._transport is not None:
            before, self._buffered = self._buffered, self._transport.get_write_buffer_size()
            if self._buffered < before:
                self._move()
        loop = asyncio.get_running_loop()
        if loop.time() - self._moved_at >= self._timeout_s:
            self.end(TimeoutError("Redis does not answer"))
        else:
            self._watch = loop.call_later(self._timeout_s / _LOOKS, self._look)


def _refuse(future: "asyncio.Future[Any] | None", error: Exception) -> None:
    if future is not None and not future.done():
        future.set_exception(error)
        future.exception()  # whoever gave up waiting need not hear of it


def _packed(words: tuple[Word, ...]) -> bytes:
    return hiredis.pack_command(words)  # type: ignore[arg-type, no-any-return]  # its stub means a tuple of one
