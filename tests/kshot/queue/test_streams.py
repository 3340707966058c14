"""Doorbells, predict calls and replies over a real Valkey."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator

import pytest
from redis.asyncio import Redis

from kshot.contracts.ids import new_id
from kshot.contracts.tasks import PredictCall, Reply
from kshot.queue import front as front_module
from kshot.queue.front import FrontQueue
from kshot.queue.streams import Away
from kshot.queue.work import WorkQueue
from standalone import EmbeddedServers


@pytest.fixture
async def ends(servers: EmbeddedServers, redis: Redis) -> AsyncIterator[tuple[FrontQueue, WorkQueue, WorkQueue]]:
    front = FrontQueue(servers.redis_url)
    one, two = (WorkQueue(servers.redis_url, new_id("wrk")) for _ in range(2))
    await front.start()
    yield front, one, two
    await front.stop()
    await one.close()
    await two.close()


def a_call(front: FrontQueue) -> PredictCall:
    return PredictCall(
        id=new_id("pred"), tenant="t", checkpoint="c", model="m", reply_to=front.reply_to, deadline_ms=1000
    )


async def take_some(queue: WorkQueue, most: int = 10):
    while not ((taken := await queue.take(most)).bells or taken.calls):
        pass
    return taken


async def test_a_bell_reaches_one_worker_and_its_reply_the_caller(ends):
    front, one, two = ends
    assert await front.ring("task_1")
    waiting = front.expect("am_1")
    taken = await take_some(one)
    assert [bell.task_id for bell in taken.bells] == ["task_1"]
    assert not (await two.take(10, block=False)).bells
    await one.reply([(taken.bells[0].reply_to, Reply(id="am_1", predictions=[{"label": "a"}]))])
    assert (await asyncio.wait_for(waiting, 60)).predictions == [{"label": "a"}]


async def waiting_take(front: FrontQueue, queue: WorkQueue):
    """A `take_some` that waits in Redis, as the front end's own reader does."""
    taking = asyncio.create_task(take_some(queue, 100))
    while int((await front.link.ask("INFO", "clients")).partition(b"blocked_clients:")[2].split()[0]) < 2:
        await asyncio.sleep(0.01)
    return asyncio.wait_for(taking, 120)


async def test_bells_calls_and_replies_of_one_moment_are_heard_together(ends):
    front, one, _ = ends
    taking = await waiting_take(front, one)
    assert await asyncio.gather(*(front.ring(f"task_{n}") for n in range(20))) == [True] * 20
    bells = (await taking).bells
    assert [bell.task_id for bell in bells] == [f"task_{n}" for n in range(20)]
    taking = await waiting_take(front, one)
    calls = [a_call(front) for _ in range(20)]
    assert all(await asyncio.gather(*(front.send(call, b"payload") for call in calls)))
    assert [taken.call for taken in (await taking).calls] == calls
    answers = [front.expect(call.id) for call in calls]
    await one.reply([(call.reply_to, Reply(id=call.id)) for call in calls])
    await asyncio.wait_for(asyncio.wait(answers, return_when=asyncio.FIRST_COMPLETED), 120)
    assert all(answer.done() for answer in answers)


async def test_a_call_that_is_given_up_before_it_left_stays_here(ends):
    front, one, _ = ends
    calls = [a_call(front) for _ in range(3)]
    posted = [front.post(call, b"payload") for call in calls]
    posted[1].cancel()
    await asyncio.gather(posted[0], posted[2])
    assert [taken.call for taken in (await take_some(one)).calls] == [calls[0], calls[2]]
    front.post(a_call(front), b"payload").cancel()
    assert await front.backlog(bound=0) == 2 and await front.send(a_call(front), b"payload")


async def test_a_dead_workers_call_is_taken_over_until_it_is_done(ends):
    front, one, two = ends
    call = a_call(front)
    assert await front.send(call, b"\x00payload")
    (lost,) = (await take_some(one)).calls
    assert (lost.call, lost.payload) == (call, b"\x00payload")
    assert await two.take_over(60_000, 10) == []
    (again,) = await two.take_over(0, 10)
    assert again.call == call
    await two.done([again])
    assert await one.take_over(0, 10) == []
    assert await front.backlog() == 0


async def test_nobody_is_refused_on_a_figure_of_a_moment_ago(ends, monkeypatch: pytest.MonkeyPatch):
    front, one, _ = ends
    monkeypatch.setattr(front_module, "_FRESH_S", 1e9)
    assert await front.backlog() == 0
    for _ in range(3):
        assert await front.send(a_call(front), b"x")
    assert await front.backlog() == 3
    taken = await take_some(one)
    await one.done(taken.calls)
    assert await front.backlog(4) == 3  # far enough from the bound: the figure will do
    assert await front.backlog(3) == 0


async def test_who_waits_is_told_from_who_is_served(ends):
    front, one, _ = ends
    assert await front.calls() == (0, 0)
    for _ in range(3):
        assert await front.send(a_call(front), b"x")
    assert await front.calls() == (3, 0)  # also before any worker came
    await one.take(10, block=False)  # makes the group
    taken = await one.take(2)
    assert await front.calls() == (1, 2)
    await one.done(taken.calls)
    assert await front.calls() == (1, 0)


async def test_calls_sent_before_the_group_was_lost_are_found(ends, servers: EmbeddedServers):
    front, one, _ = ends
    await one.take(10, block=False)
    redis = Redis.from_url(servers.redis_url)
    await redis.flushall()
    await redis.aclose()
    assert await front.send(a_call(front), b"x")
    assert len((await take_some(one)).calls) == 1


@pytest.mark.reliability("faults: Valkey killed, hung", "predict")
async def test_calls_that_wait_are_sent_again_when_the_server_lost_them(ends, servers: EmbeddedServers):
    front, one, _ = ends
    call = a_call(front)
    waiting = front.expect(call.id)
    assert await front.send(call, b"x")
    while front._server is None:  # it has met this server
        await asyncio.sleep(0.02)
    os.kill(servers.pid("valkey"), signal.SIGKILL)
    await asyncio.to_thread(servers.stop, "valkey")
    servers.delete_data("valkey")
    await asyncio.to_thread(servers.start, "valkey")
    while True:
        try:
            taken = await take_some(one)
            break
        except Away:
            await asyncio.sleep(0.1)
    (again,) = taken.calls
    assert (again.call, again.payload) == (call, b"x")
    await one.reply([(call.reply_to, Reply(id=call.id, predictions=[{"label": "a"}]))], [again])
    assert (await asyncio.wait_for(waiting, 60)).predictions == [{"label": "a"}]
    assert front._posted == {}


async def test_a_stopped_server_is_away_and_comes_back(ends, servers: EmbeddedServers):
    front, one, _ = ends
    servers.stop("valkey")
    assert not await front.ring("task_1")
    assert not await front.ping()
    servers.start("valkey")
    assert await front.ping()
    assert await front.ring("task_2")
    assert "task_2" in [bell.task_id for bell in (await take_some(one)).bells]


async def test_a_message_nobody_can_read_stops_none_behind_it(ends, redis: Redis):
    front, one, _ = ends
    await one.take(10, block=False)  # makes the group
    await redis.xadd("kshot:adapt", {"bell": b'{"of": "another version"}'})
    await redis.xadd("kshot:predict", {"call": b"{}", "payload": b""})
    assert await front.ring("task_1")
    assert await front.send(a_call(front), b"payload")
    taken = await take_some(one)
    assert [bell.task_id for bell in taken.bells] == ["task_1"]
    assert [call.payload for call in taken.calls] == [b"payload"]
    assert await redis.xlen("kshot:adapt") == 0
    assert await redis.xlen("kshot:predict") == 1  # the call, until it is done


async def test_bells_of_a_dead_worker_do_not_stay_in_the_stream(ends, redis: Redis):
    front, one, two = ends
    await one.take(10, block=False)
    assert await front.ring("task_1")
    await redis.xreadgroup("workers", "wrk_dead", {"kshot:adapt": ">"}, count=10)
    await two.take_over(0, 10)
    assert await redis.xlen("kshot:adapt") == 0


async def test_a_reply_nobody_can_read_stops_none_behind_it(ends, redis: Redis):
    front, one, _ = ends
    waiting = front.expect("am_1")
    await redis.xadd(front.reply_to, {"reply": b'{"id": "am_1", "of": "a newer version"}'})
    await redis.xadd(front.reply_to, {"other": b""})
    await one.reply([(front.reply_to, Reply(id="am_1", predictions=[{"label": "a"}]))])
    assert (await asyncio.wait_for(waiting, 60)).predictions == [{"label": "a"}]
