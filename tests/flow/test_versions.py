"""A front end of the next version meets a worker of this one: what that one cannot read waits for one that can."""

import asyncio

import pytest
from redis.asyncio import Redis

from kshot.contracts.ids import new_id
from kshot.contracts.tasks import Payload, PredictCall
from kshot.contracts.wire import pack, unpack
from kshot.queue import front, streams
from kshot.queue.parking import parked
from tests.flow.fault_stack import Stack, blobs
from tests.flow.newer_worker import NEWER, NEWER_PAYLOAD

pytestmark = pytest.mark.flow


def newer(payload: Payload) -> bytes:
    """As the next version writes it, whatever that changes besides."""
    header, arrays = unpack(payload.encode())
    return pack(header | {"version": NEWER_PAYLOAD}, arrays)


async def test_what_the_next_version_sent_waits_for_a_worker_that_reads_it(
    stack: Stack, monkeypatch: pytest.MonkeyPatch
):
    support = blobs(0)
    with stack.worker():
        model = await stack.submit("plain", support)
        await stack.until(model, "succeeded")
        asked = await stack.predict(model, support.inputs)
        monkeypatch.setattr(front, "VERSION", NEWER)
        monkeypatch.setattr(streams, "READABLE", streams.READABLE | {NEWER})
        task = await stack.submit("plain", support, payload=newer(Payload(support)), payload_version=NEWER_PAYLOAD)
        call = PredictCall(
            id=new_id("pred"), tenant=model.tenant, checkpoint=model.checkpoint_id, model=model.model_id,
            reply_to=stack.front.reply_to, deadline_ms=300_000,
        )  # fmt: skip
        calling = asyncio.create_task(stack.call(call, Payload(query=support.inputs)))
        async with Redis.from_url(stack.servers.redis_url) as redis:
            while await redis.xlen(parked(NEWER)) < 2:  # the bell, and the call
                await asyncio.sleep(0.02)
        neighbour = await stack.submit("plain", blobs(1))
        await stack.until(neighbour, "succeeded")
        assert tuple(await stack.row(task))[:2] == ("queued", 0), "older workers leave it alone"
        assert not calling.done()
        with stack.worker(module="tests.flow.newer_worker"):
            assert (await stack.until(task, "succeeded")).attempt == 1
            assert [one["label"] for one in (await calling).predictions or ()] == [
                one["label"] for one in asked.predictions or ()
            ]
    assert await stack.results(task) == 1
