"""What a worker holds, and what of it it has lost."""

from dataclasses import replace

import pytest
from structlog.testing import capture_logs

from tests.workers.place import Place
from workers.leases import Leases


async def test_it_counts_what_it_holds(place: Place):
    claims = [await place.claimed() for _ in range(2)]
    leases = Leases(place.stack.database, 60)
    assert (len(leases), leases.bytes, leases.background) == (0, 0, 0)
    leases.hold(claims)
    leases.hold(claims[:1])
    assert (len(leases), leases.bytes, leases.background) == (2, sum(one.bytes for one in claims), 0)
    assert leases.holds(claims[0])
    leases.let_go(claims[:1])
    leases.let_go(claims[:1])
    assert (len(leases), leases.bytes) == (1, claims[1].bytes)
    assert not leases.holds(claims[0]) and leases.holds(claims[1])


async def test_replays_are_counted_apart(place: Place):
    claim = replace(await place.claimed(), background=True)
    leases = Leases(place.stack.database, 60)
    leases.hold([claim])
    assert leases.background == 1
    leases.let_go([claim])
    assert leases.background == 0


async def test_a_heartbeat_keeps_what_is_its_own_and_says_what_is_not(place: Place):
    kept, lost, told = [await place.claimed() for _ in range(3)]
    await place.taken_by_another(lost)
    await place.execute("UPDATE tasks SET lease_until = now() - interval '1 s' WHERE id = :id", id=kept.task_id)
    place.leases.let_go([told])
    place.leases.roomier.clear()
    with capture_logs() as logs:
        assert await place.leases.renew([kept, lost]) == [kept]
        assert await place.leases.renew([]) == []
    assert place.leases.roomier.is_set(), "whoever waits for room hears of it"
    assert [(line["event"], line["task_id"]) for line in logs] == [("lease_lost", lost.task_id)]
    assert place.leases.holds(kept) and not place.leases.holds(lost)
    row = "SELECT lease_until > now() + interval '30 s' FROM tasks WHERE id = :id"
    assert await place.scalar(row, id=kept.task_id), "it is extended"


async def test_what_was_let_go_meanwhile_is_not_said_to_be_lost(place: Place):
    claim = await place.claimed()
    await place.taken_by_another(claim)
    place.leases.let_go([claim])
    with capture_logs() as logs:
        assert await place.leases.renew([claim]) == []
    assert logs == []


@pytest.mark.parametrize("beats", [1, 2])
async def test_beating_extends_all_that_it_holds(place: Place, beats: int):
    claims = [await place.claimed() for _ in range(2)]
    for _ in range(beats):
        await place.execute("UPDATE tasks SET lease_until = now() WHERE status = 'running'")
        await place.leases.beat()
    assert all(place.leases.holds(claim) for claim in claims)
    extended = "SELECT count(*) FROM tasks WHERE status = 'running' AND lease_until > now() + interval '30 s'"
    assert await place.scalar(extended) == 2
