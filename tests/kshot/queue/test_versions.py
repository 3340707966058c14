"""Front ends and workers of different versions on one stream: nothing is lost, nothing is in the way."""

from collections.abc import AsyncIterator

import pytest
from redis.asyncio import Redis

from kshot.contracts.ids import new_id
from kshot.contracts.model import Model
from kshot.contracts.tasks import Doorbell, PredictCall, Reply
from kshot.queue import front as front_module
from kshot.queue import streams, work
from kshot.queue.front import FrontQueue
from kshot.queue.work import WorkQueue
from standalone import EmbeddedServers

NEWER = "7"
PARKED = f"kshot:parked:{NEWER}"
FIELDS: dict[str, dict[type[Model], str]] = {
    "1": {
        Doorbell: "reply_to task_id",
        PredictCall: "checkpoint deadline_ms id model reply_to request_id store_inputs task tenant",
        Reply: "checkpoint failure id predictions quality selection timings",
    },
}
"""What each version of the messages holds. A process refuses fields it does not know, so a new one is a new version."""


@pytest.fixture
async def worker(servers: EmbeddedServers, redis: Redis) -> AsyncIterator[WorkQueue]:
    queue = WorkQueue(servers.redis_url, new_id("wrk"))
    await queue.take(1, block=False)  # makes the group
    yield queue
    await queue.close()


@pytest.fixture
async def newer_front(
    servers: EmbeddedServers, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[FrontQueue]:
    """A front end of a later version; what it says happens to be what this version says."""
    monkeypatch.setattr(front_module, "VERSION", NEWER)
    front = FrontQueue(servers.redis_url)
    await front.start()
    yield front
    await front.stop()


def a_call(front: FrontQueue) -> PredictCall:
    return PredictCall(
        id=new_id("pred"), tenant="t", checkpoint="c", model="m", reply_to=front.reply_to, deadline_ms=60_000
    )


def upgrade(monkeypatch: pytest.MonkeyPatch) -> None:
    """The worker reads the later version, too."""
    for module in (streams, work):
        monkeypatch.setattr(module, "READABLE", frozenset({streams.VERSION, NEWER}))


async def until(redis: Redis, stream: str, length: int) -> None:
    while await redis.xlen(stream) != length:
        pass


async def test_a_message_of_another_version_is_parked_and_those_behind_it_are_answered(
    newer_front: FrontQueue, worker: WorkQueue, redis: Redis, monkeypatch: pytest.MonkeyPatch
):
    assert await newer_front.ring("task_new")
    assert await newer_front.send(a_call(newer_front), b"new")
    monkeypatch.setattr(front_module, "VERSION", streams.VERSION)
    assert await newer_front.ring("task_old")
    assert await newer_front.send(a_call(newer_front), b"old")
    taken = await worker.take(10)
    assert [bell.task_id for bell in taken.bells] == ["task_old"]
    assert [call.payload for call in taken.calls] == [b"old"]
    await until(redis, PARKED, 2)
    assert await redis.xlen("kshot:adapt") == 0
    assert await redis.xlen("kshot:predict") == 1  # the one that is being answered
    assert (await redis.xpending("kshot:predict", "workers"))["pending"] == 1
    assert 0 < await redis.ttl(PARKED) <= 600


async def test_a_parked_message_comes_back_once_for_a_worker_that_can_read_it(
    newer_front: FrontQueue, worker: WorkQueue, redis: Redis, servers: EmbeddedServers, monkeypatch: pytest.MonkeyPatch
):
    call = a_call(newer_front)
    assert await newer_front.send(call, b"new")
    assert await newer_front.ring("task_new")
    ((sent, _),) = await redis.xrange("kshot:predict")
    await worker.take(10)
    await until(redis, PARKED, 2)
    assert await worker.take_over(0, 10) == []
    assert await redis.xlen(PARKED) == 2  # not for a worker that cannot read it
    upgrade(monkeypatch)
    another = WorkQueue(servers.redis_url, new_id("wrk"))
    await another.take_over(60_000, 10)
    await worker.take_over(60_000, 10)
    taken = await another.take(10)
    assert [bell.task_id for bell in taken.bells] == ["task_new"]
    assert [(one.call, one.payload) for one in taken.calls] == [(call, b"new")]
    now_ms = (await redis.time())[0] * 1000
    assert taken.calls[0].waited_ms >= now_ms - int(sent.split(b"-")[0]) - 1000  # since it was sent, not since then
    assert await redis.xlen(PARKED) == 0
    waiting = newer_front.expect(call.id)
    monkeypatch.setattr(work, "VERSION", NEWER)
    await another.reply([(newer_front.reply_to, Reply(id=call.id, predictions=[]))], taken.calls)
    assert (await waiting).predictions == []
    assert await redis.xlen("kshot:predict") == 0
    await another.close()


async def test_a_call_that_its_worker_took_and_could_not_read_is_parked_when_taken_over(
    newer_front: FrontQueue, worker: WorkQueue, redis: Redis
):
    assert await newer_front.send(a_call(newer_front), b"new")
    await redis.xreadgroup("workers", "wrk_dead", {"kshot:predict": ">"}, count=10)
    assert await worker.take_over(0, 10) == []
    await until(redis, PARKED, 1)
    assert await redis.xlen("kshot:predict") == 0


async def test_what_says_it_is_readable_and_is_not_is_kept_to_be_looked_at(worker: WorkQueue, redis: Redis):
    await redis.xadd("kshot:predict", {"v": "1", "call": b"{}", "payload": b""})
    assert (await worker.take(10)).calls == []
    await until(redis, "kshot:parked:unreadable", 1)
    assert await redis.xlen("kshot:predict") == 0
    await worker.take_over(0, 10)
    assert await redis.xlen("kshot:parked:unreadable") == 1


async def test_what_is_parked_is_bounded(newer_front: FrontQueue, worker: WorkQueue, redis: Redis):
    for n in range(1010):
        assert await newer_front.ring(f"task_{n}")
    while await redis.xlen("kshot:adapt"):
        await worker.take(500, block=False)
    await until(redis, PARKED, 1000)
    (_, last), *_ = await redis.xrevrange(PARKED, count=1)
    assert b"task_1009" in last[b"bell"]


def test_messages_are_of_the_version_that_they_say():
    """A field added, removed or renamed is a new `VERSION` (in the steps that `READABLE` says), written down here."""
    assert {kind: " ".join(sorted(kind.model_fields)) for kind in FIELDS["1"]} == FIELDS[streams.VERSION]
    assert streams.VERSION in streams.READABLE
