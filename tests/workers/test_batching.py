"""Which items share a batch, in which order, and how long an item waits for company."""

import asyncio
import dataclasses
import time

import numpy as np

from kshot.contracts.tasks import LearnerOptions, Payload, SupportSet, TargetSpec
from tests.workers.samples import adapt, blobs, claim, predict
from workers import batching
from workers.batching import Limits, Queues
from workers.decoding import adapt_work
from workers.executing import solve
from workers.work import Key, Work


def queues(tasks: int = 64, queries: int = 256) -> Queues:
    return Queues(Limits(tasks, queries))


def later(work: Work, seconds: float) -> Work:
    return dataclasses.replace(work, arrived=work.arrived + seconds)


async def test_only_items_of_one_key_share_a_batch():
    waiting = queues()
    ones, others = [adapt(i) for i in range(3)], [adapt(i, width=7) for i in range(2)]
    for work in (ones[0], others[0], ones[1], others[1], ones[2]):
        waiting.put(work)
    assert await waiting.next() == ones
    assert await waiting.next() == others


async def test_ways_shots_and_queries_may_differ_within_a_batch():
    waiting = queues()
    works = [adapt(0, n_way=2), adapt(1, n_way=5, k_shot=4), adapt(2, ask=True)]
    for work in works:
        waiting.put(work)
    assert await waiting.next() == works


async def test_the_key_that_waited_longest_comes_first():
    waiting = queues()
    old, young = adapt(0), adapt(1, width=7)
    for work in (old, young, later(adapt(2, width=7), 10)):
        waiting.put(work)
    assert await waiting.next() == [old]


async def test_replays_come_after_everything_callers_wait_for_and_never_among_it():
    waiting = queues()
    replay = adapt_work(dataclasses.replace(claim(Payload(blobs(0))), background=True))
    asked = [later(adapt(1), 10), later(adapt(2, width=7), 20)]
    for work in (replay, *asked):
        waiting.put(work)
    assert [await waiting.next() for _ in range(3)] == [[asked[0]], [asked[1]], [replay]]


async def test_a_batch_holds_as_many_tasks_as_the_limit_says():
    waiting = queues(tasks=2)
    works = [adapt(i) for i in range(5)]
    for work in works:
        waiting.put(work)
    assert [await waiting.next() for _ in range(3)] == [works[:2], works[2:4], works[4:]]


async def test_an_adaptation_to_several_targets_counts_each():
    waiting = queues(tasks=4)
    works = [joint(i, n_targets) for i, n_targets in enumerate([3, 1, 2, 9])]
    for work in works:
        waiting.put(work)
    assert [[work.weight for work in await waiting.next()] for _ in range(3)] == [[3, 1], [2], [9]]


async def test_predictions_count_their_queries_and_one_over_the_limit_runs_alone(checkpoint):
    solved = solve(checkpoint, [adapt(0)])[0]
    waiting = queues(queries=10)
    sizes = [4, 6, 1, 25, 3]
    works = [predict(solved, blobs(i, n_way=size, k_shot=1).inputs) for i, size in enumerate(sizes)]
    for work in works:
        waiting.put(work)
    batches = [await waiting.next() for _ in range(4)]
    assert [[work.weight for work in batch] for batch in batches] == [[4, 6], [1], [25], [3]]


async def test_an_idle_worker_starts_at_once_with_what_comes():
    waiting = queues()
    batch = asyncio.create_task(waiting.next())
    await asyncio.sleep(0)
    works = [adapt(0), adapt(1)]
    waiting.put(works[0])
    assert await batch == [works[0]]


async def test_a_busy_worker_gives_a_new_item_a_moment_for_company(monkeypatch):
    monkeypatch.setattr(batching, "LINGER_S", 30.0)  # ended by the full batch, not by the clock
    waiting = queues(tasks=2)
    works = [adapt(0), adapt(1)]
    waiting.put(works[0])
    batch = asyncio.create_task(waiting.next())
    await asyncio.sleep(0.01)
    assert not batch.done()
    waiting.put(works[1])
    assert await batch == works


async def test_an_item_that_waited_already_waits_no_more(monkeypatch):
    monkeypatch.setattr(batching, "LINGER_S", 30.0)
    waiting = queues()
    work = dataclasses.replace(adapt(0), arrived=time.monotonic() - 31)
    waiting.put(work)
    assert await waiting.next() == [work]


async def test_closed_it_hands_out_what_is_left_and_then_nothing():
    waiting = queues(tasks=1)
    works = [adapt(0), adapt(1)]
    for work in works:
        waiting.put(work)
    waiting.close()
    assert [await waiting.next() for _ in range(3)] == [[works[0]], [works[1]], None]


async def test_closing_wakes_an_idle_worker():
    waiting = queues()
    batch = asyncio.create_task(waiting.next())
    await asyncio.sleep(0)
    waiting.close()
    assert await batch is None


async def test_items_can_be_taken_out_again():
    waiting = queues()
    works = [adapt(i) for i in range(3)]
    for work in works:
        waiting.put(work)
    assert waiting.take_out(lambda work: work is works[1]) == [works[1]]
    assert await waiting.next() == [works[0], works[2]]


async def test_what_is_taken_out_during_the_moment_for_company_is_not_waited_for(monkeypatch):
    monkeypatch.setattr(batching, "LINGER_S", 30.0)
    waiting = queues()
    waiting.put(adapt(0))
    batch = asyncio.create_task(waiting.next())
    await asyncio.sleep(0.01)
    waiting.take_out(lambda work: True)
    waiting.close()
    assert await batch is None


async def test_after_all_was_taken_out_the_next_item_still_comes(monkeypatch):
    monkeypatch.setattr(batching, "LINGER_S", 30.0)
    waiting = queues()
    waiting.put(adapt(0))
    batch = asyncio.create_task(waiting.next())
    await asyncio.sleep(0.01)
    waiting.take_out(lambda work: True)
    work = adapt(1)
    waiting.put(work)
    waiting.close()
    assert await batch == [work]


async def test_thousands_of_keys_come_in_the_order_of_their_heads():
    rng = np.random.default_rng(0)
    waiting = queues(tasks=2)
    base = adapt(0)
    works = [
        dataclasses.replace(
            base, key=dataclasses.replace(base.key, shape=(int(rng.integers(1000)),)), arrived=float(at)
        )
        for at in range(3000)
    ]
    for work in works:
        waiting.put(work)
    gone = {id(work) for work in works[::7]}
    assert len(waiting.take_out(lambda work: id(work) in gone)) == len(gone)
    left: dict[Key, list[Work]] = {}
    for work in works:
        if id(work) not in gone:
            left.setdefault(work.key, []).append(work)
    waiting.close()
    while batch := await waiting.next():
        line = min(left.values(), key=lambda line: line[0].arrived)
        expected, rest = line[:2], line[2:]
        assert batch == expected
        left[batch[0].key] = rest
        if not rest:
            del left[batch[0].key]
    assert not left


def test_seeds_and_options_a_learner_ignores_do_not_split_batches():
    def key(learner: str, **options: float) -> Key:
        payload = Payload(blobs(0), options=LearnerOptions(**options))
        return adapt_work(claim(payload, learner=learner)).key

    assert key("protonet", seed=1) == key("protonet", seed=2, l2=3.0)
    assert key("ridge", l2=1.0) != key("ridge", l2=2.0)


def joint(seed: int, n_targets: int) -> Work:
    targets = np.random.default_rng(seed).normal(size=(4, n_targets)).astype(np.float32)
    columns = tuple(TargetSpec(name=str(i), kind="regression") for i in range(n_targets))
    support = SupportSet("multitask", blobs(seed).inputs, targets, columns=columns)
    return adapt_work(claim(Payload(support), learner="multitask", task_id=f"task_{seed}"))


async def test_only_a_small_item_alone_that_was_quick_before_is_computed_at_once():
    waiting = queues()
    first, again, large, beside = adapt(0), adapt(1), adapt(2, width=40_000), adapt(3)
    assert not waiting.is_quick([first])  # what it takes is not known yet
    waiting.took([first], 0.001)
    assert waiting.is_quick([again]) and not waiting.is_quick([again, beside])
    waiting.took([large], 0.001)
    assert not waiting.is_quick([large])
    waiting.put(beside)
    assert not waiting.is_quick([again])  # somebody waits
    assert await waiting.next() == [beside]
    waiting.took([again], 1.0)
    assert not waiting.is_quick([again])
