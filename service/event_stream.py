"""The events of a meta-training job as server-sent events, for as long as there may be more of them."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable

from fastapi.sse import KEEPALIVE_COMMENT, EventSourceResponse, format_sse_event
from starlette.responses import Response

from kshot.contracts.errors import KshotError, Unavailable
from kshot.storage.job_events import StoredEvent, list_events
from kshot.storage.jobs import get_job
from service.job_views import training_event
from service.state import State

_LOOK_S = 1.0
_KEEP_ALIVE_S = 15.0
_AT_ONCE = 200
_HEADERS = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}


async def stream_events(state: State, job: str, after: int, may_go_on: Callable[[], Awaitable[None]]) -> Response:
    """Events after the one of that number, then each as it comes; ends when the job has, or ``may_go_on``, asked before
    each look, raises. 204 where the job has ended and nothing is left to tell: an EventSource stops at that, where it
    would come back for ever after an empty stream."""
    finished, events = await _look(state, job, after)
    if finished and not events:
        return Response(status_code=204, headers=_HEADERS)
    return EventSourceResponse(_stream(state, job, after, may_go_on), headers=_HEADERS)


async def _stream(state: State, job: str, after: int, may_go_on: Callable[[], Awaitable[None]]) -> AsyncIterator[bytes]:
    """Between two looks no database connection is held. While the database is away the stream waits; when the service
    is asked to end, it ends, and the caller comes back with the number of the last event it saw."""
    sent = time.monotonic()
    yield KEEPALIVE_COMMENT  # headers go out with the first bytes, and the caller knows that it is connected
    while not state.closing:
        try:
            await may_go_on()
            finished, events = await _look(state, job, after)
        except Unavailable:
            finished, events = False, []
        except KshotError:  # the job is gone, or the caller's key
            return
        for event in events:
            yield _encoded(event)
            after, sent = event.seq, time.monotonic()
        if finished and len(events) < _AT_ONCE:
            return
        if time.monotonic() - sent > _KEEP_ALIVE_S:
            yield KEEPALIVE_COMMENT
            sent = time.monotonic()
        if len(events) < _AT_ONCE:
            await asyncio.sleep(_LOOK_S)


async def _look(state: State, job: str, after: int) -> tuple[bool, list[StoredEvent]]:
    """Whether the job has ended, and then the next events: in this order, so that the last one is among them."""
    async with state.database.single() as connection:
        finished = (await get_job(connection, job)).is_finished
        return finished, await list_events(connection, job, after=after, limit=_AT_ONCE)


def _encoded(event: StoredEvent) -> bytes:
    return format_sse_event(data_str=training_event(event).model_dump_json(), event=event.kind, id=str(event.seq))
