"""The front end's side: ring, send predict calls, read replies."""

import asyncio
import math
import time

import structlog
from redis.exceptions import ResponseError

from kshot.contracts.ids import new_id
from kshot.contracts.tasks import Doorbell, PredictCall, Reply
from kshot.queue.leaving import withdraw
from kshot.queue.link import Link, Word
from kshot.queue.streams import ADAPT_STREAM, GROUP, PREDICT_STREAM, REPLY_PREFIX, VERSION, Away, read_message
from kshot.queue.together import Together

_BLOCK_MS = 2000
_READER_TIMEOUT_S = 10.0
"""Longer than the block."""
_COUNT = 256
_TRIM_EVERY_S = 1.0
_FRESH_S = 0.05
_LARGE_BYTES = 256 * 1024
"""Payloads from here on have a connection of their own: no bell, rate or small call waits behind megabytes."""
_log = structlog.get_logger()


class FrontQueue:
    """One per API process: its own reply stream, and futures matched to replies by id: each waiter's its own.

    What is asked for in one turn of the event loop goes out together, through ``link``; large payloads go beside it.
    """

    def __init__(self, url: str) -> None:
        self.reply_to = REPLY_PREFIX + new_id("evt")
        self.link = Link(url)
        self._together = Together(self.link)
        self._bulk = Link(url)
        self._reader = Link(url, timeout_s=_READER_TIMEOUT_S)
        self._waiting: dict[str, list[asyncio.Future[Reply]]] = {}
        self._posted: dict[str, tuple[Link, tuple[Word, ...]]] = {}
        self._server: bytes | None = None
        self._task: asyncio.Task[None] | None = None
        self._backlog = 0
        self._backlog_at = float("-inf")

    async def start(self) -> None:
        """Begin to read replies. Redis may be away; the reader keeps trying."""
        self._task = asyncio.create_task(self._read_replies())

    async def stop(self) -> None:
        """Stop reading and drop the reply stream."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
        try:
            await self.link.ask("DEL", self.reply_to)
        except Away:
            pass
        await self.link.close()
        await self._bulk.close()
        await self._reader.close()

    def expect(self, id: str) -> "asyncio.Future[Reply]":
        """A future for the reply to ``id``; call before sending, and `forget` it when done."""
        future: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(id, []).append(future)
        return future

    def forget(self, id: str, future: "asyncio.Future[Reply]") -> None:
        """Whoever had this future waits no more; others may."""
        waiting = self._waiting.get(id, [])
        if future in waiting:
            waiting.remove(future)
        if not waiting:
            self._waiting.pop(id, None)
            self._posted.pop(id, None)

    async def ring(self, task_id: str) -> bool:
        """Ring the doorbell for a committed task. False where Redis is away: workers will find the row by polling."""
        bell = Doorbell(task_id=task_id, reply_to=self.reply_to)
        try:
            await self._together.ask("XADD", ADAPT_STREAM, "*", "v", VERSION, "bell", bell.model_dump_json())
        except Away as error:
            _log.warning("doorbell_lost", task_id=task_id, error=type(error).__name__)
            return False
        return True

    async def send(self, call: PredictCall, payload: bytes) -> bool:
        """Send a predict call with its payload. False where Redis is away."""
        try:
            await self.post(call, payload)
        except Away as error:
            _log.warning("predict_not_sent", error=type(error).__name__)
            return False
        return True

    def post(self, call: PredictCall, payload: bytes, trace: str | None = None) -> "asyncio.Future[bytes]":
        """The same as a future, which ends in one of `Away` where Redis is away. Cancel it where nobody waits for the
        reply any more: a large payload that has not begun to leave stays here then. ``trace``: of its
        request (`kshot.tracing`)."""
        self._backlog += 1
        link = self.link if len(payload) < _LARGE_BYTES else self._bulk
        fields = ("v", VERSION, "call", call.model_dump_json(), "payload", payload)
        traced = () if trace is None else ("trace", trace)  # workers that know no such field pass it over
        words = ("XADD", PREDICT_STREAM, "*", *fields, *traced)
        if call.id in self._waiting:
            self._posted[call.id] = link, words
        return (link if link is self._bulk else self._together).ask(*words)

    def withdraw(self, id: str, sent: "asyncio.Future[bytes]") -> None:
        """Nobody waits for this predict call any more. ``sent``: what `post` gave."""
        if sent.done() and not sent.cancelled() and sent.exception() is None:
            for command in withdraw(id, sent.result()):
                self.link.tell(*command)

    async def backlog(self, bound: float = math.inf) -> int:
        """Predict calls in the stream, as of at most 50 ms ago (and those sent from here since then); as of now where
        that would be ``bound`` or more, for some may have been answered. Raises one of `Away` while Redis is away."""
        if self._backlog >= bound or time.monotonic() - self._backlog_at > _FRESH_S:
            self._backlog = int(await self.link.ask("XLEN", PREDICT_STREAM))
            self._backlog_at = time.monotonic()
        return self._backlog

    async def calls(self) -> tuple[int, int]:
        """Predict calls that wait for a worker, and those that one has taken, as of now. Raises one of `Away` while
        Redis is away."""
        length = int(await self.link.ask("XLEN", PREDICT_STREAM))
        try:
            taken = int((await self.link.ask("XPENDING", PREDICT_STREAM, GROUP))[0])
        except ResponseError:  # no worker has made the group yet
            taken = 0
        return max(0, length - taken), taken

    async def ping(self) -> bool:
        """Whether Redis answers within a second."""
        try:
            return bool(await self.link.ask("PING"))
        except Away:
            return False

    async def _read_replies(self) -> None:
        last: str | bytes = "0"
        trimmed = time.monotonic()
        away = True
        while True:
            try:
                if away:
                    await self._send_again()
                    away = False
                streams = await self._reader.ask(
                    "XREAD", "COUNT", _COUNT, "BLOCK", _BLOCK_MS, "STREAMS", self.reply_to, last
                )
            except Away:
                away = True
                await asyncio.sleep(0.5)
                continue
            for message_id, pairs in streams[0][1] if streams else ():
                last = message_id
                self._deliver(dict(zip(pairs[::2], pairs[1::2], strict=True)))
            if streams and time.monotonic() - trimmed > _TRIM_EVERY_S:  # replies read are of no further use
                trimmed = time.monotonic()
                self.link.tell("XTRIM", self.reply_to, "MINID", last)

    async def _send_again(self) -> None:
        """After Redis was away. One that was started anew, or another, may have lost the calls that wait: they are sent
        once more. Workers answer a call that comes twice with what they answered first. Raises one of `Away`."""
        try:
            told = await self._reader.ask("INFO", "server")
        except ResponseError:  # not every account may ask
            return
        server = next((line for line in told.split(b"\r\n") if line.startswith(b"run_id:")), None)
        if self._server not in (None, server):
            await self._reader.ask("XLEN", PREDICT_STREAM)  # while it reads its data it refuses this, and calls too
            _log.warning("predict_sent_again", calls=len(self._posted))
            for link, words in self._posted.values():
                link.tell(*words)
        self._server = server

    def _deliver(self, fields: dict[bytes, bytes]) -> None:
        reply = read_message(Reply, fields, b"reply")
        if reply is None:
            return
        self._posted.pop(reply.id, None)
        for future in self._waiting.pop(reply.id, ()):
            if not future.done():
                future.set_result(reply)
