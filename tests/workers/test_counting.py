"""What a worker counts, and where it says so."""

from dataclasses import replace

from kshot.contracts.errors import Invalid
from kshot.contracts.worker_stats import BATCH_ITEMS, SECONDS, Tally
from kshot.storage.system import seen_workers
from kshot.storage.workers import worker_gone, worker_seen
from tests.workers.place import Place
from workers.work import Failed


def test_an_observation_falls_into_the_class_whose_bound_it_reaches():
    tally = Tally(BATCH_ITEMS)
    for value in (1, 2, 3, 4, 128, 129):
        tally.add(value)
    assert tally.histogram().counts == (1, 1, 2, 0, 0, 0, 0, 1, 1)
    assert tally.histogram().sum == 267


async def test_items_are_counted_by_kind_and_outcome_and_said_with_the_heartbeat(place: Place):
    counts, claim = place.stack.counts, await place.claimed()
    counts.claimed([claim, replace(claim, attempt=2)])
    counts.batch(1)
    counts.ended(place.solved(claim))
    counts.ended([Failed(claim, Invalid("wrong")), Failed(claim, ConnectionError())])  # the latter is given back
    await place.models.checkpoint(place.checkpoint_id)
    await place.models.checkpoint(place.checkpoint_id)
    stats = counts.stats(place.models.counted())
    async with place.stack.database.begin() as connection:
        await worker_seen(connection, "wrk_counting", "cpu", stats=stats)
        await worker_seen(connection, "wrk_counting", "cpu", stats=stats)
        (seen,) = [one for one in await seen_workers(connection) if one.id == "wrk_counting"]
        await worker_gone(connection, "wrk_counting")
    assert seen.stats == stats and seen.age_s >= 0
    assert {(one.kind, one.outcome): one.count for one in stats.tasks} == {
        ("adapt", "succeeded"): 1,
        ("adapt", "failed"): 1,
    }
    assert stats.retried == 1
    assert stats.batches == 1 and sum(stats.queue_seconds["adapt"].counts) == 1
    assert len(stats.compute_seconds["adapt"].counts) == len(SECONDS) + 1
    (loaded,) = [cache for cache in stats.caches if cache.cache == "checkpoints"]
    assert (loaded.tier, loaded.hits, loaded.misses, loaded.entries) == ("host", 1, 1, 1)
