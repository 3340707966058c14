"""How much comes in at once: bounded in bytes, not only in items."""

import asyncio
import dataclasses
import threading

import pytest

from kshot.storage import claiming
from tests.workers.place import Place
from workers import decoding, intake
from workers.adaptation import AdaptationWorker
from workers.batching import Limits
from workers.decoding import in_thread_if_large


async def test_a_claim_takes_no_more_than_fits_in_memory_oldest_first(place: Place):
    ids = [await place.accepted() for _ in range(5)]
    size = len((await place.row(ids[0])).payload)

    async def claim(max_bytes: int) -> list[str]:
        async with place.stack.database.begin() as connection:
            claims = await claiming.claim(connection, "wrk_me", 60, 10, max_bytes=max_bytes)
        return sorted((claim.task_id for claim in claims), key=ids.index)

    assert await claim(2 * size) == ids[:2]
    assert await claim(1) == ids[2:3]  # one at least, or it would wait for ever
    assert await claim(100 * size) == ids[3:]


async def test_what_waits_in_a_worker_is_bounded_in_bytes(place: Place, monkeypatch: pytest.MonkeyPatch):
    ids = [await place.accepted() for _ in range(3)]
    monkeypatch.setattr(intake, "_BYTES_AHEAD", 1)
    worker = AdaptationWorker(dataclasses.replace(place.stack, limits=Limits(tasks=1, queries=1)))
    polling = asyncio.create_task(worker._intake.poll())  # and nobody computes: what was claimed stays
    while (await place.row(ids[0])).status != "running":
        await asyncio.sleep(0.01)
    await asyncio.sleep(0.3)
    polling.cancel()
    assert [(await place.row(task)).status for task in ids] == ["running", "queued", "queued"]


async def test_large_payloads_are_decoded_beside_the_event_loop(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(decoding, "_LARGE", 100)

    def where(_: None) -> threading.Thread:
        return threading.current_thread()

    assert await in_thread_if_large(where, None, 100) is threading.current_thread()
    assert await in_thread_if_large(where, None, 101) is not threading.current_thread()


async def test_a_task_that_rings_no_bell_uses_up_nobody_elses(place: Place):
    left, fresh = await place.accepted(), await place.accepted()
    await place.claim(left, lease_s=-1)  # by one that died
    await AdaptationWorker(place.stack)._intake._claim_rung(1)
    assert [(await place.row(task)).attempt for task in (left, fresh)] == [2, 1]


async def test_a_task_that_is_given_back_is_rung_for(place: Place):
    claim = await place.claimed()
    worker = AdaptationWorker(place.stack)
    await place.stack.queue.take(9, block=False)  # bells of tests before, or the group's making
    await worker._give_back([claim])
    assert [bell.task_id for bell in (await place.stack.queue.take(9)).bells] == [claim.task_id]
    assert (await place.row(claim.task_id)).status == "queued"


async def test_a_checkpoint_is_loaded_as_soon_as_work_for_it_waits(place: Place):
    worker = AdaptationWorker(place.stack)  # and nobody computes
    await place.accepted()
    await worker._intake._claim_rung(1)
    await worker._models._loads.finish()
    assert worker._models._checkpoints.get(place.checkpoint_id) is not None
