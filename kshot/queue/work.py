"""The workers' side: take doorbells and predict calls, send replies."""

from collections.abc import Sequence
from dataclasses import dataclass

from redis.exceptions import ResponseError

from kshot.contracts.tasks import Doorbell, PredictCall, Reply
from kshot.queue.streams import ADAPT_STREAM, GROUP, PREDICT_STREAM, Messages, by_stream, open_redis, read_message

_BLOCK_MS = 2000
_REPLY_STREAM_LIFE_S = 600


@dataclass(frozen=True)
class Delivered:
    """A predict call as delivered. ``message`` acknowledges it; ``waited_ms`` is its time in the stream."""

    message: bytes
    call: PredictCall
    payload: bytes
    waited_ms: float


@dataclass(frozen=True)
class Taken:
    """What one read of the streams brought."""

    bells: list[Doorbell]
    calls: list[Delivered]


class WorkQueue:
    """One per worker: a consumer in the workers' group."""

    def __init__(self, url: str, worker: str) -> None:
        self._worker = worker
        self._sender = open_redis(url)
        self._reader = open_redis(url, blocking=True)

    async def close(self) -> None:
        """Close both connections."""
        await self._sender.aclose()
        await self._reader.aclose()

    async def take(self, count: int, *, block: bool = True) -> Taken:
        """Up to ``count`` messages of each stream, waiting up to 2 s for the first.

        Doorbells are acknowledged and deleted at once (the row holds the truth); predict calls stay pending until
        `done`, so that another worker can take over those of a dead one. Raises one of `Away` while Redis is away.
        """
        try:
            found = await self._reader.xreadgroup(
                GROUP,
                self._worker,
                {ADAPT_STREAM: ">", PREDICT_STREAM: ">"},
                count=count,
                block=_BLOCK_MS if block else None,
            )
        except ResponseError as error:
            if "NOGROUP" not in str(error):
                raise
            await self._create_groups()
            return Taken([], [])
        bells: list[Doorbell] = []
        calls: list[Delivered] = []
        for stream, messages in by_stream(found):
            if stream.decode() == ADAPT_STREAM:
                read = [read_message(Doorbell, fields, b"bell") for _, fields in messages]
                bells = [bell for bell in read if bell is not None]
                await self._remove(ADAPT_STREAM, [message for message, _ in messages])
            else:
                calls = await self._delivered(messages)
        return Taken(bells, calls)

    async def take_over(self, idle_ms: int, count: int) -> list[Delivered]:
        """Predict calls that another worker took and did not finish within ``idle_ms``."""
        try:
            answer = await self._sender.xautoclaim(
                PREDICT_STREAM, GROUP, self._worker, min_idle_time=idle_ms, count=count
            )
            stale = await self._sender.xautoclaim(
                ADAPT_STREAM, GROUP, self._worker, min_idle_time=idle_ms, count=count, justid=True
            )
        except ResponseError as error:
            if "NOGROUP" not in str(error):
                raise
            return []
        await self._remove(ADAPT_STREAM, stale)  # bells: whoever polls Postgres finds their tasks
        return await self._delivered(answer[1])

    async def done(self, calls: Sequence[Delivered]) -> None:
        """Acknowledge and delete predict calls that were answered (or that nobody waits for)."""
        await self._remove(PREDICT_STREAM, [call.message for call in calls])

    async def reply(self, replies: Sequence[tuple[str, Reply]]) -> None:
        """Send replies to their reply streams, in one round trip. A stream whose reader is gone expires."""
        if not replies:
            return
        pipeline = self._sender.pipeline(transaction=False)
        for reply_to, reply in replies:
            pipeline.xadd(reply_to, {"reply": reply.model_dump_json()})
        for reply_to in {reply_to for reply_to, _ in replies}:
            pipeline.expire(reply_to, _REPLY_STREAM_LIFE_S)
        await pipeline.execute()

    async def _delivered(self, messages: Messages) -> list[Delivered]:
        if not messages:
            return []
        seconds, microseconds = await self._sender.time()
        now_ms = seconds * 1000 + microseconds / 1000
        delivered, unreadable = [], []
        for message, fields in messages:
            call = read_message(PredictCall, fields, b"call")
            if call is None:
                unreadable.append(message)
                continue
            waited_ms = max(0.0, now_ms - int(message.split(b"-")[0]))
            delivered.append(Delivered(message, call, fields.get(b"payload", b""), waited_ms))
        await self._remove(PREDICT_STREAM, unreadable)
        return delivered

    async def _remove(self, stream: str, messages: Sequence[bytes]) -> None:
        if not messages:
            return
        pipeline = self._sender.pipeline(transaction=False)
        pipeline.xack(stream, GROUP, *messages)
        pipeline.xdel(stream, *messages)
        await pipeline.execute()

    async def _create_groups(self) -> None:
        """Also after Redis lost its data: the group starts at 0, so that calls already sent are found."""
        for stream in (ADAPT_STREAM, PREDICT_STREAM):
            try:
                await self._sender.xgroup_create(stream, GROUP, id="0", mkstream=True)
            except ResponseError as error:
                if "BUSYGROUP" not in str(error):
                    raise
