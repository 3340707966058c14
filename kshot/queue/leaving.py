"""Predict calls that nobody waits for any more: their callers left, or their deadline passed.

A call that no worker has taken leaves the stream. Of one that a worker has, every worker is told by a stream of ids,
and the one that has it does not begin. Losing such an id costs a computation, and nothing else.
"""

from redis.exceptions import ResponseError

from kshot.queue.link import Link, Word
from kshot.queue.streams import PREDICT_STREAM

LEFT_STREAM = "kshot:left"
_KEPT = 1000
_BLOCK_MS = 2000
_TIMEOUT_S = 10.0
"""Longer than the block."""


def withdraw(id: str, message: bytes) -> list[tuple[Word, ...]]:
    """The commands that withdraw the call ``id``, which is ``message`` in its stream."""
    return [
        ("XDEL", PREDICT_STREAM, message),
        ("XADD", LEFT_STREAM, "MAXLEN", "~", _KEPT, "*", "id", id),
    ]


class LeftCalls:
    """A worker's reader of them, on a connection of its own."""

    def __init__(self, url: str) -> None:
        self._link = Link(url, timeout_s=_TIMEOUT_S)
        self._last: bytes | None = None

    async def close(self) -> None:
        """Close the connection."""
        await self._link.close()

    async def next(self) -> list[str]:
        """Ids of calls withdrawn since the last time (the first time: none), waiting up to 2 s for one. Raises one of
        `Away` while Redis is away."""
        if self._last is None:
            self._last = await self._newest()
            return []
        found = await self._link.ask("XREAD", "BLOCK", _BLOCK_MS, "STREAMS", LEFT_STREAM, self._last)
        entries = found[0][1] if found else []
        if entries:
            self._last = entries[-1][0]
        return [pairs[1].decode(errors="replace") for _, pairs in entries]

    async def _newest(self) -> bytes:
        try:
            newest: list[tuple[bytes, object]] = await self._link.ask("XREVRANGE", LEFT_STREAM, "+", "-", "COUNT", 1)
        except ResponseError:
            return b"0"
        return newest[0][0] if newest else b"0"
