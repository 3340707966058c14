"""Tenants take turns in a worker, each by what its items cost."""

from collections import Counter
from dataclasses import replace

import pytest

from kshot.storage.tasks import Claim
from tests.workers.samples import adapt
from workers.batching import Limits, Queues
from workers.turns import LEAST, SLICE_S
from workers.work import Work


def of(tenant: str, work: Work) -> Work:
    assert isinstance(work.origin, Claim)
    return replace(work, origin=replace(work.origin, tenant=tenant))


async def order(waiting: Queues, n: int) -> list[str]:
    """Whose the next ``n`` items are."""
    served: list[str] = []
    while len(served) < n:
        batch = await waiting.next()
        assert batch is not None
        served += [work.tenant for work in batch]
    return served


async def test_one_item_of_a_quiet_tenant_goes_before_the_many_of_a_noisy_one() -> None:
    waiting = Queues(Limits(tasks=2, queries=2))
    for i in range(20):
        waiting.put(of("noisy", adapt(i)))
    assert await order(waiting, 4) == ["noisy"] * 4
    for i in range(2):
        waiting.put(of("quiet", adapt(30 + i)))
        waiting.put(of("other", adapt(40 + i, width=7)))  # of another key
    assert sorted(await order(waiting, 6)) == ["noisy", "noisy", "other", "other", "quiet", "quiet"]
    assert set(await order(waiting, 14)) == {"noisy"}


async def test_who_comes_now_does_not_wait_for_what_a_full_batch_left_behind() -> None:
    waiting = Queues(Limits(tasks=64, queries=64))
    mixed = [of("noisy", adapt(i, width=3 + i % 5)) for i in range(25)]  # five keys, each item of a batch far apart
    for work in mixed:
        waiting.put(work)
    assert await waiting.next() == mixed[::5]
    quiet = of("quiet", adapt(50, width=20))
    waiting.put(quiet)
    assert quiet in [work for _ in range(2) for work in await waiting.next() or []]


async def test_tenants_get_equal_time_not_equally_many_items() -> None:
    waiting = Queues(Limits(tasks=1, queries=1))
    slow, fast = [of("slow", adapt(i)) for i in range(20)], [of("fast", adapt(i, width=7)) for i in range(200)]
    waiting.took(slow[:1], 0.5)
    waiting.took(fast[:1], 0.05)
    for work in (*slow, *fast):
        waiting.put(work)
    served = Counter(await order(waiting, 110))
    assert 9 <= served["slow"] <= 11, "ten of them take as long as a hundred of the others"


async def test_of_one_tenant_what_came_first_is_first_whatever_its_neighbours_do() -> None:
    waiting = Queues(Limits(tasks=3, queries=3))
    works = [of("abc"[i % 3], adapt(i)) for i in range(30)]
    for work in works:
        waiting.put(work)
    served: list[Work] = []
    while len(served) < len(works):
        served += await waiting.next() or []
    for tenant in "abc":
        assert [work for work in served if work.tenant == tenant] == [work for work in works if work.tenant == tenant]


@pytest.mark.parametrize(("cost_s", "fit"), [(SLICE_S / 6.5, 6), (SLICE_S * 3, LEAST)])
async def test_a_batch_is_short_while_several_tenants_ask_and_full_for_one_alone(cost_s: float, fit: float) -> None:
    waiting = Queues(Limits(tasks=64, queries=64))
    works = [of("noisy", adapt(i)) for i in range(30)]
    waiting.took(works[:1], cost_s)
    for work in works:
        waiting.put(work)
    waiting.put(of("quiet", adapt(99)))
    batch = await waiting.next()
    assert batch is not None and [work.tenant for work in batch].count("quiet") == 1 and len(batch) == fit
    alone = Queues(Limits(tasks=64, queries=64))
    alone.took(works[:1], cost_s)
    for work in works:
        alone.put(work)
    assert await alone.next() == works


async def test_who_asked_for_nothing_has_saved_nothing_up() -> None:
    waiting = Queues(Limits(tasks=1, queries=1))
    for i in range(10):
        waiting.put(of("steady", adapt(i)))
    assert await order(waiting, 10) == ["steady"] * 10
    for i in range(10):
        waiting.put(of("steady", adapt(10 + i)))
        waiting.put(of("idle", adapt(20 + i)))
    served = await order(waiting, 10)
    assert 4 <= served.count("idle") <= 6
