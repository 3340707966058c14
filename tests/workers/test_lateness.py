"""Predict calls that nobody waits for are not computed, are struck from the stream, and are counted."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from kshot.contracts.tasks import Payload, PredictCall
from kshot.queue.front import FrontQueue
from kshot.queue.streams import PREDICT_STREAM
from kshot.queue.work import Delivered
from standalone import EmbeddedServers
from tests.workers.place import Place
from tests.workers.samples import blobs
from workers.adaptation import AdaptationWorker
from workers.work import Work


@pytest.fixture
async def front(servers: EmbeddedServers) -> AsyncIterator[FrontQueue]:
    """With an empty stream."""
    front = FrontQueue(servers.redis_url)
    await front.link.ask("DEL", PREDICT_STREAM)
    yield front
    await front.stop()


async def sent(place: Place, front: FrontQueue, id: str, deadline_ms: int = 600_000) -> bytes:
    """A one-shot call, in the stream."""
    call = PredictCall(
        id=id, tenant="default", checkpoint=place.checkpoint_id, model=None, reply_to=front.reply_to,
        deadline_ms=deadline_ms,
    )  # fmt: skip
    support = blobs(0)
    message: bytes = await front.post(call, Payload(support, support.inputs).encode())
    return message


async def taken(place: Place) -> list[Delivered]:
    """What waits in the stream; the first read may make the group."""
    found: list[Delivered] = []
    for _ in range(2):
        found += (await place.stack.queue.take(9, block=False)).calls
    return found


def counted(place: Place) -> dict[str, int]:
    return {one.outcome: one.count for one in place.stack.counts.stats(()).tasks if one.kind == "oneshot"}


def waiting(worker: AdaptationWorker) -> list[Work]:
    """What is queued for the processor."""
    return worker._queues.take_out(lambda work: True)


def names(works: list[Work]) -> list[str]:
    return [work.origin.call.id for work in works if isinstance(work.origin, Delivered)]


async def test_what_came_too_late_is_not_even_decoded(place: Place, front: FrontQueue) -> None:
    worker = AdaptationWorker(place.stack)
    await taken(place)
    await sent(place, front, "pred_late", deadline_ms=0)
    await sent(place, front, "pred_timely")
    await worker._intake._accept(await taken(place))
    assert names(waiting(worker)) == ["pred_timely"]
    assert counted(place) == {"expired": 1} and await front.backlog(bound=0) == 1


async def test_what_was_withdrawn_while_it_waited_is_not_computed(place: Place, front: FrontQueue) -> None:
    worker = AdaptationWorker(place.stack)
    await taken(place)
    await place.stack.queue.left.next()  # from now on
    posted = {call: await sent(place, front, call) for call in ("pred_left", "pred_stays")}
    await worker._intake._accept(await taken(place))
    works = waiting(worker)
    assert len(works) == 2
    front.withdraw("pred_left", _done(posted["pred_left"]))
    worker._lateness.note(await place.stack.queue.left.next())
    assert names(worker._wanted(works)) == ["pred_stays"]
    await worker._endings.finish()
    assert counted(place) == {"abandoned": 1} and await front.backlog(bound=0) == 1


async def test_what_no_worker_has_leaves_the_stream(place: Place, front: FrontQueue) -> None:
    await taken(place)
    message = await sent(place, front, "pred_left")
    front.withdraw("pred_left", _done(message))
    assert await front.backlog(bound=0) == 0 and not await taken(place)


def _done(message: bytes) -> "asyncio.Future[bytes]":
    """As `post` gives it, once it was sent."""
    future: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
    future.set_result(message)
    return future
