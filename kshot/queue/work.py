"""The workers' side: take doorbells and predict calls, send replies."""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from redis.exceptions import ResponseError

from kshot.contracts.tasks import Doorbell, PredictCall, Reply
from kshot.queue.leaving import LeftCalls
from kshot.queue.link import Link, Word
from kshot.queue.parking import bring_back, park, parked
from kshot.queue.streams import (
    ADAPT_STREAM,
    GROUP,
    PREDICT_STREAM,
    READABLE,
    VERSION,
    Away,
    M,
    read_message,
    sent_ms,
    version_of,
)

_BLOCK_MS = 2000
_READER_TIMEOUT_S = 10.0
"""Longer than the block."""
_REPLY_STREAM_LIFE_S = 600
_CLOCK_S = 5.0
_TAKE_OVER_BYTES = 256 * 1024 * 1024
"""Of payloads: about where one round of `WorkQueue.take_over` ends."""
_UNREADABLE = "unreadable"
"""Where a message goes that says it is of a version we know, and is not."""

_Entries = Sequence[tuple[bytes, list[bytes]]]
"""Of one stream: message id, fields and values in turn."""


@dataclass(frozen=True)
class Delivered:
    """A predict call as delivered. ``message`` acknowledges it; ``waited_ms`` is its time in the stream, ``trace`` of
    its request (`kshot.tracing`), ``received`` when it came, by this process' clock."""

    message: bytes
    call: PredictCall
    payload: bytes
    waited_ms: float
    trace: str | None = None
    received: float = field(default_factory=time.monotonic, compare=False)


@dataclass(frozen=True)
class Taken:
    """What one read of the streams brought."""

    bells: list[Doorbell]
    calls: list[Delivered]


class WorkQueue:
    """One per worker: a consumer in the workers' group. What is sent in one turn of the event loop leaves together.

    Four connections: replies never wait behind the payloads that are read or taken over, and ``left`` has its own.
    """

    def __init__(self, url: str, worker: str) -> None:
        self._worker = worker
        self._sender = Link(url)
        self._reader = Link(url, timeout_s=_READER_TIMEOUT_S)
        self._claimer = Link(url)
        self._clock = _ServerClock(self._sender)
        self.left = LeftCalls(url)

    async def close(self) -> None:
        """Close the connections."""
        await self._sender.close()
        await self._claimer.close()
        await self._reader.close()
        await self.left.close()

    async def take(self, count: int, *, block: bool = True) -> Taken:
        """Up to ``count`` messages of each stream, waiting up to 2 s for the first.

        Doorbells are acknowledged and deleted at once (the row holds the truth); predict calls stay pending until
        `done`, so that another worker can take over those of a dead one. Raises one of `Away` while Redis is away.
        Who cancels it gets no message more: the connection is closed, or Redis would keep the read waiting.
        """
        await self._clock.ask()
        wait = ("BLOCK", _BLOCK_MS) if block else ()
        try:
            found = await self._reader.ask(
                "XREADGROUP", "GROUP", GROUP, self._worker, "COUNT", count, *wait,
                "STREAMS", ADAPT_STREAM, PREDICT_STREAM, ">", ">",
            )  # fmt: skip
        except asyncio.CancelledError:
            self._reader.drop()
            raise
        except ResponseError as error:
            if "NOGROUP" not in str(error):
                raise
            await self._create_groups()
            return Taken([], [])
        by_stream: dict[bytes, _Entries] = dict(found or ())
        rung = by_stream.get(ADAPT_STREAM.encode(), ())
        bells = self._read(Doorbell, ADAPT_STREAM, rung, b"bell")
        self._strike(ADAPT_STREAM, [message for message, _, _ in bells])
        calls = self._delivered(by_stream.get(PREDICT_STREAM.encode(), ()))
        return Taken([bell for _, bell, _ in bells], calls)

    async def take_over(self, idle_ms: int, count: int) -> list[Delivered]:
        """Predict calls that another worker took and did not finish within ``idle_ms``: ``count`` at most, and no more
        once they are large together. Also brings back, for a later read, what older workers parked."""
        await self._clock.ask()
        await self._bring_back(count)
        try:
            _, stale, *_ = await self._claim(ADAPT_STREAM, idle_ms, b"0", count, "JUSTID")
            calls = await self._claim_calls(idle_ms, count)  # last, for nothing may fail once they are ours
        except ResponseError as error:
            if "NOGROUP" not in str(error):
                raise
            return []
        self._strike(ADAPT_STREAM, stale)  # bells: whoever polls Postgres finds their tasks
        return self._delivered(calls)

    async def ring(self, task_ids: Sequence[str]) -> None:
        """Ring for tasks that were given back. Raises one of `Away` where some were not rung for."""
        bells = (Doorbell(task_id=task_id, reply_to=None).model_dump_json() for task_id in task_ids)
        await asyncio.gather(
            *[self._sender.ask("XADD", ADAPT_STREAM, "*", "v", VERSION, "bell", bell) for bell in bells]
        )

    async def done(self, calls: Sequence[Delivered]) -> None:
        """Acknowledge and delete predict calls that were answered (or that nobody waits for)."""
        await self.reply((), calls)

    async def reply(self, replies: Sequence[tuple[str, Reply]], calls: Sequence[Delivered] = ()) -> None:
        """Send replies to their reply streams, and strike the calls they answer, in one round trip; a reader hears all
        of his replies at once. A stream whose reader is gone expires. Raises one of `Away` where any of it was not
        done."""
        commands: list[tuple[Word, ...]] = [
            ("XADD", reply_to, "*", "v", VERSION, "reply", reply.model_dump_json()) for reply_to, reply in replies
        ]
        commands += [
            ("EXPIRE", reply_to, _REPLY_STREAM_LIFE_S)
            for reply_to in dict.fromkeys(reply_to for reply_to, _ in replies)
        ]
        struck = self._strike(PREDICT_STREAM, [call.message for call in calls])
        asked = [self._sender.ask_together(commands)] if commands else []
        for answer in await asyncio.gather(*asked, *struck, return_exceptions=True):
            for part in answer if isinstance(answer, list) else [answer]:
                if isinstance(part, BaseException):
                    raise part

    def _strike(self, stream: str, messages: Sequence[bytes]) -> "list[asyncio.Future[Any]]":
        """Acknowledge and delete messages. Nobody has to wait for the answers: `take_over` finds what stayed."""
        if not messages:
            return []
        return [self._sender.ask("XACK", stream, GROUP, *messages), self._sender.ask("XDEL", stream, *messages)]

    async def _claim_calls(self, idle_ms: int, count: int) -> _Entries:
        """One by one, as each may be large. What was claimed before Redis went away counts: it is ours."""
        found: list[tuple[bytes, list[bytes]]] = []
        n_bytes, cursor = 0, b"0"
        while len(found) < count and n_bytes < _TAKE_OVER_BYTES:
            try:
                cursor, entries, *_ = await self._claim(PREDICT_STREAM, idle_ms, cursor, 1)
            except Away:
                if not found:
                    raise
                break
            found += entries
            n_bytes += sum(len(value) for _, pairs in entries for value in pairs)
            if cursor == b"0-0":
                break
        return found

    def _claim(self, stream: str, idle_ms: int, cursor: bytes, count: int, *how: str) -> "asyncio.Future[Any]":
        consumer = (GROUP, self._worker, idle_ms, cursor)
        return self._claimer.ask("XAUTOCLAIM", stream, *consumer, "COUNT", count, *how)

    def _delivered(self, entries: _Entries) -> list[Delivered]:
        now_ms = self._clock.now_ms()
        return [
            Delivered(
                message,
                call,
                fields.get(b"payload", b""),
                max(0.0, now_ms - sent_ms(message, fields)),
                None if (trace := fields.get(b"trace")) is None else trace.decode(errors="replace"),
            )
            for message, call, fields in self._read(PredictCall, PREDICT_STREAM, entries, b"call")
        ]

    def _read(
        self, kind: type[M], stream: str, entries: _Entries, name: bytes
    ) -> list[tuple[bytes, M, dict[bytes, bytes]]]:
        """Id, message and fields of each that can be read; the others are parked. Nobody has to wait for that: until it
        is done they are pending, and `take_over` finds them."""
        read = []
        for message, pairs in entries:
            fields = _fields(pairs)
            found = read_message(kind, fields, name)
            if found is not None:
                read.append((message, found, fields))
                continue
            version = version_of(fields)
            self._sender.ask(*park(stream, message, pairs, _UNREADABLE if version in READABLE else version))
        return read

    async def _bring_back(self, count: int) -> None:
        for version in READABLE:
            for message, pairs in await self._claimer.ask("XRANGE", parked(version), "-", "+", "COUNT", count):
                await self._claimer.ask(*bring_back(version, message, pairs))

    async def _create_groups(self) -> None:
        """Also after Redis lost its data: the group starts at 0, so that calls already sent are found."""
        for stream in (ADAPT_STREAM, PREDICT_STREAM):
            try:
                await self._sender.ask("XGROUP", "CREATE", stream, GROUP, "0", "MKSTREAM")
            except ResponseError as error:
                if "BUSYGROUP" not in str(error):
                    raise


class _ServerClock:
    """Redis' clock, by which its message ids tell when they were sent: asked now and then, ours in between."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self._ahead_ms = 0.0
        self._asked_at = float("-inf")

    async def ask(self) -> None:
        """Before messages are read, so that none is lost where this fails."""
        before = time.monotonic()
        if before - self._asked_at > _CLOCK_S:
            seconds, microseconds = await self._link.ask("TIME")
            now = time.monotonic()
            self._ahead_ms = int(seconds) * 1000 + int(microseconds) / 1000 - (before + now) / 2 * 1000
            self._asked_at = now

    def now_ms(self) -> float:
        return self._ahead_ms + time.monotonic() * 1000


def _fields(pairs: Sequence[bytes]) -> dict[bytes, bytes]:
    return dict(zip(pairs[::2], pairs[1::2], strict=True))
