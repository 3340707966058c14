"""Requests become orders in rounds: whoever comes while one is under way is in the next."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

_MOST = 32
"""In one round: of 64 callers half are read while the other half are computed."""
_LONGEST_S = 0.1
"""Who takes longer, because Postgres hangs, keeps nobody out any more."""


class Rounds:
    """Lets in who waits, in the order they came, once all who were let in have left.

    A round of ``longest_s`` is over all the same. Without rounds, bodies that have just arrived are read before orders
    that are nearly ready go on, so that all callers end up in one crowd: the workers idle while the API reads, and the
    API while they compute. In rounds one crowd is read while the one before is recorded and computed. And who comes in
    one turn of the event loop goes on together, rather than the first of them alone, which costs Postgres and a worker
    several times as much as one of thirty.
    """

    def __init__(self, longest_s: float = _LONGEST_S) -> None:
        self._longest_s = longest_s
        self._waiting: deque[asyncio.Future[int]] = deque()
        self._round = self._inside = 0
        self._opening: asyncio.Handle | None = None
        self._closing: asyncio.TimerHandle | None = None

    @asynccontextmanager
    async def enter(self) -> AsyncIterator[None]:
        """Within it one is in a round."""
        let_in: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._waiting.append(let_in)
        self._open_soon()
        try:
            await let_in
            yield
        finally:
            if let_in.done() and not let_in.cancelled():
                self._leave(let_in.result())

    def _leave(self, number: int) -> None:
        if number == self._round:
            self._inside -= 1
            self._open_soon()

    def _open_soon(self) -> None:
        if self._waiting and not self._inside and self._opening is None:
            self._opening = asyncio.get_running_loop().call_soon(self._open)

    def _open(self) -> None:
        self._opening = None
        self._round += 1
        self._inside = 0
        while self._waiting and self._inside < _MOST:
            let_in = self._waiting.popleft()
            if not let_in.done():  # else nobody waits any more
                let_in.set_result(self._round)
                self._inside += 1
        if self._closing is not None:
            self._closing.cancel()
        self._closing = asyncio.get_running_loop().call_later(self._longest_s, self._close, self._round)

    def _close(self, number: int) -> None:
        if number == self._round:
            self._inside, self._round = 0, self._round + 1
            self._open_soon()
