"""The front end's side: ring, send predict calls, read replies."""

import asyncio

import structlog

from kshot.contracts.ids import new_id
from kshot.contracts.tasks import Doorbell, PredictCall, Reply
from kshot.queue.streams import ADAPT_STREAM, PREDICT_STREAM, REPLY_PREFIX, Away, by_stream, open_redis, read_message

_BLOCK_MS = 2000
_log = structlog.get_logger()


class FrontQueue:
    """One per API process: its own reply stream, and futures matched to replies by id."""

    def __init__(self, url: str) -> None:
        self.reply_to = REPLY_PREFIX + new_id("evt")
        self._sender = open_redis(url)
        self._reader = open_redis(url, blocking=True)
        self._waiting: dict[str, asyncio.Future[Reply]] = {}
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Begin to read replies. Redis may be away; the reader keeps trying."""
        self._task = asyncio.create_task(self._read_replies())

    async def stop(self) -> None:
        """Stop reading and drop the reply stream."""
        while self._task is not None and not self._task.done():
            self._task.cancel()  # more than once: `asyncio.wait_for` of Python 3.11 (in redis-py) may swallow it
            await asyncio.wait([self._task], timeout=0.5)
        try:
            await self._sender.delete(self.reply_to)
        except Away:
            pass
        await self._sender.aclose()
        await self._reader.aclose()

    def expect(self, id: str) -> "asyncio.Future[Reply]":
        """A future for the reply to ``id``; call before sending, and `forget` it when done."""
        return self._waiting.setdefault(id, asyncio.get_running_loop().create_future())

    def forget(self, id: str) -> None:
        """Nobody waits for ``id`` any more."""
        self._waiting.pop(id, None)

    async def ring(self, task_id: str) -> bool:
        """Ring the doorbell for a committed task. False where Redis is away: workers will find the row by polling."""
        bell = Doorbell(task_id=task_id, reply_to=self.reply_to)
        try:
            await self._sender.xadd(ADAPT_STREAM, {"bell": bell.model_dump_json()})
        except Away as error:
            _log.warning("doorbell_lost", task_id=task_id, error=type(error).__name__)
            return False
        return True

    async def send(self, call: PredictCall, payload: bytes) -> bool:
        """Send a predict call with its payload. False where Redis is away."""
        try:
            await self._sender.xadd(PREDICT_STREAM, {"call": call.model_dump_json(), "payload": payload})
        except Away as error:
            _log.warning("predict_not_sent", error=type(error).__name__)
            return False
        return True

    async def backlog(self) -> int:
        """Predict calls in the stream. Raises one of `Away` while Redis is away."""
        return int(await self._sender.xlen(PREDICT_STREAM))

    async def ping(self) -> bool:
        """Whether Redis answers within a second."""
        try:
            return bool(await self._sender.ping())
        except Away:
            return False

    async def _read_replies(self) -> None:
        last: str | bytes = "0"
        while True:
            try:
                streams = await self._reader.xread({self.reply_to: last}, count=256, block=_BLOCK_MS)
            except Away:
                await asyncio.sleep(0.5)
                continue
            for _, messages in by_stream(streams):
                for message_id, fields in messages:
                    last = message_id
                    self._deliver(fields)
                await self._trim(last)

    def _deliver(self, fields: dict[bytes, bytes]) -> None:
        reply = read_message(Reply, fields, b"reply")
        if reply is None:
            return
        future = self._waiting.pop(reply.id, None)
        if future is not None and not future.done():
            future.set_result(reply)

    async def _trim(self, last: str | bytes) -> None:
        """Replies read are of no further use."""
        try:
            await self._sender.xtrim(self.reply_to, minid=last)
        except Away:
            pass
