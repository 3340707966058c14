"""Payloads that take longer than a server may be silent, on their way to Redis and back; and servers that hang."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from redis.asyncio import Redis

from kshot.contracts.ids import new_id
from kshot.contracts.tasks import PredictCall, Reply
from kshot.queue.front import FrontQueue
from kshot.queue.link import Link
from kshot.queue.streams import Away
from kshot.queue.work import WorkQueue
from standalone import EmbeddedServers
from tests.kshot.queue.proxy import Proxy, a_proxy

MIB = 2**20
_LIMIT_S = 1.2


@pytest.fixture
async def proxy(servers: EmbeddedServers) -> AsyncIterator[Proxy]:
    async with a_proxy(servers.redis_url.removeprefix("unix://")) as made:
        yield made


@pytest.fixture
async def link(proxy: Proxy) -> AsyncIterator[Link]:
    made = Link(proxy.url, timeout_s=_LIMIT_S)
    yield made
    await made.close()


def a_call(reply_to: str) -> PredictCall:
    return PredictCall(id=new_id("pred"), tenant="t", checkpoint="c", model="m", reply_to=reply_to, deadline_ms=1000)


async def test_what_moves_may_take_longer_than_a_server_may_be_silent(proxy: Proxy, link: Link) -> None:
    payload = bytes(range(256)) * (8 * MIB // 256)
    proxy.up = proxy.down = len(payload) / (4 * _LIMIT_S)
    clock = asyncio.get_running_loop().time
    began = clock()
    before, echo, after = link.ask("ECHO", "before"), link.ask("ECHO", payload), link.ask("ECHO", "after")
    assert (await before, await after) == (b"before", b"after")
    assert await echo == payload
    assert clock() - began > 4 * _LIMIT_S  # what this test is about: it did take long


async def test_a_server_that_hangs_in_the_middle_is_away(proxy: Proxy, link: Link) -> None:
    proxy.up = 4 * MIB
    long, short = link.ask("ECHO", bytes(32 * MIB)), link.ask("PING")
    await asyncio.sleep(2 * _LIMIT_S)
    assert not long.done()
    proxy.open.clear()
    for waiting in (long, short):
        with pytest.raises(Away):
            await asyncio.wait_for(waiting, 60)
    proxy.open.set()
    assert await link.ask("PING") == b"PONG"


async def test_new_commands_do_not_keep_a_hung_server_alive(proxy: Proxy, link: Link) -> None:
    assert await link.ask("PING") == b"PONG"
    proxy.open.clear()
    first = link.ask("PING")
    for _ in range(200):
        link.tell("PING")
        await asyncio.sleep(_LIMIT_S / 10)
        if first.done():
            break
    assert isinstance(first.exception() if first.done() else None, TimeoutError)


async def test_a_long_command_that_nobody_waits_for_is_not_sent(proxy: Proxy, link: Link, redis: Redis) -> None:
    proxy.up = 8 * MIB
    first, second = link.ask("SET", "first", bytes(4 * MIB)), link.ask("SET", "second", bytes(4 * MIB))
    await asyncio.sleep(0.05)
    second.cancel()
    assert await first == b"OK"
    assert await link.ask("EXISTS", "first", "second") == 1


async def test_small_commands_do_not_wait_behind_a_large_payload(proxy: Proxy) -> None:
    front = FrontQueue(proxy.url)
    proxy.up = 8 * MIB
    try:
        large = front.post(a_call(front.reply_to), bytes(16 * MIB))
        await asyncio.sleep(0.1)
        small = front.post(a_call(front.reply_to), b"small")
        assert await front.ring("task_1") and await front.ping() and await small
        assert not large.done()
        assert await large
    finally:
        await front.stop()


async def test_large_calls_are_taken_and_taken_over_and_replies_do_not_wait(proxy: Proxy, redis: Redis) -> None:
    sender = FrontQueue(proxy.url)
    one, two = WorkQueue(proxy.url, "wrk_one"), WorkQueue(proxy.url, "wrk_two")
    try:
        await one.take(10, block=False)  # makes the groups
        payloads = [bytes([i]) * (6 * MIB) for i in range(3)]
        for payload in payloads:
            assert await sender.send(a_call(sender.reply_to), payload)
        proxy.down = 8 * MIB  # two seconds for all of them
        taken = await one.take(10)
        assert [call.payload for call in taken.calls] == payloads
        taking_over = asyncio.create_task(two.take_over(0, 10))
        await asyncio.sleep(0.2)
        await two.reply([("kshot:reply:someone", Reply(id="am_1"))])
        assert not taking_over.done()
        assert [call.payload for call in await taking_over] == payloads
    finally:
        await sender.stop()
        await one.close()
        await two.close()


async def test_what_was_claimed_before_redis_went_away_is_not_lost(proxy: Proxy, redis: Redis) -> None:
    sender = FrontQueue(proxy.url)
    one, two = WorkQueue(proxy.url, "wrk_one"), WorkQueue(proxy.url, "wrk_two")
    try:
        await one.take(10, block=False)
        assert await sender.send(a_call(sender.reply_to), b"first")
        assert await sender.send(a_call(sender.reply_to), bytes(16 * MIB))
        assert len((await one.take(10)).calls) == 2
        proxy.down = 4 * MIB
        taking_over = asyncio.create_task(two.take_over(0, 10))
        await asyncio.sleep(0.5)
        proxy.open.clear()  # in the middle of the second
        assert [call.payload for call in await asyncio.wait_for(taking_over, 60)] == [b"first"]
        proxy.open.set()
        proxy.down = 1e9
        assert [len(call.payload) for call in await two.take_over(0, 10)] == [5, 16 * MIB]
    finally:
        await sender.stop()
        await one.close()
        await two.close()


async def test_a_read_that_is_cancelled_takes_no_message_more(servers: EmbeddedServers, redis: Redis) -> None:
    front, work = FrontQueue(servers.redis_url), WorkQueue(servers.redis_url, "wrk_one")
    await work.take(10, block=False)
    taking = asyncio.create_task(work.take(10))
    while not await _readers(redis):
        await asyncio.sleep(0.01)
    taking.cancel()
    await asyncio.gather(taking, return_exceptions=True)
    for _ in range(500):  # a connection that stays would stay for ever
        if not await _readers(redis):
            break
        await asyncio.sleep(0.01)
    assert not await _readers(redis)
    assert await front.send(a_call(front.reply_to), b"x")
    assert (await redis.xpending("kshot:predict", "workers"))["pending"] == 0
    assert [call.payload for call in (await work.take(10)).calls] == [b"x"]
    await front.stop()
    await work.close()


async def _readers(redis: Redis) -> int:
    return sum(client["cmd"] == "xreadgroup" for client in await redis.client_list())
