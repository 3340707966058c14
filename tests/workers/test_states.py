"""Adapted states in memory: what they hold is counted, what is missed at one moment is read together."""

import asyncio
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from kshot.contracts.errors import Conflict, Expired, NotFound
from kshot.learners.state import dump_state
from kshot.storage.database import open_database
from kshot.storage.objects import LocalObjects
from kshot.storage.states import StoredState, Wanted, read_states
from tests.kshot.training.elsewhere import somewhere_else
from tests.workers.place import Place
from tests.workers.samples import adapt, blobs
from workers import cold
from workers.executing import solve
from workers.models import Models
from workers.patience import is_away
from workers.states import States, held_bytes
from workers.work import Adapted

CHECKOUT = Path(__file__).parents[2]
BUDGET, ENTRIES = 48 << 20, 20_000


def made(checkpoint, seed: int = 0, **shape: int) -> Adapted:
    work = adapt(seed, **shape)
    (solved,) = solve(checkpoint, [work])
    return Adapted("ckpt_0", "protonet", work.classes, (), work.key.shape, solved.state)


async def finished(place: Place, n: int) -> list:
    """Claims that were computed and ended, all with examples of their own."""
    claims = [await place.claim(await place.accepted(support=blobs(seed))) for seed in range(n)]
    for claim in claims:
        assert await place.settler.settle(place.solved(claim))
    return claims


@pytest.mark.parametrize(("width", "n_way"), [(8, 5), (384, 5), (8, 60)])
def test_the_memory_of_a_process_stays_within_the_budget(width: int, n_way: int):
    """More entries than fit, read back as stored ones are; only a new process has no memory of others' to reuse."""
    words = [str(number) for number in (BUDGET, ENTRIES, width, n_way)]
    done = subprocess.run(
        [sys.executable, "-m", "tests.workers.many_states", *words], cwd=CHECKOUT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    grown, held, kept = map(int, done.stdout.split())
    assert kept < ENTRIES and held <= BUDGET
    assert 0.6 * BUDGET < grown < 1.2 * BUDGET


def test_a_kept_state_answers_as_it_did_and_leaves_its_quality_behind(checkpoint):
    adapted, states = made(checkpoint), States(torch.device("cpu"), 1 << 20)
    states.put(("ten", "task"), adapted)
    kept = states.get(("ten", "task"))
    assert kept is not None and kept.state.quality is None and adapted.state.quality is not None
    assert dump_state(replace(adapted.state, quality=None)) == dump_state(kept.state)


async def test_what_falls_out_of_a_devices_memory_goes_on_in_the_hosts(checkpoint):
    with somewhere_else() as device:
        here = made(checkpoint)
        budget = 3 * held_bytes(here)
        states = States(device, budget)
        for i in range(5):
            states.put(("ten", f"task_{i}"), cold.moved(here, device))
        await states._moves.finish()
        assert [states.get(("ten", f"task_{i}")) is None for i in range(5)] == [True, True, False, False, False]
        fallen = states.in_host(("ten", "task_0"))
        assert fallen is not None
        for name, tensor in fallen.state.tensors.items():
            assert tensor.device.type == "cpu" and torch.equal(tensor, here.state.tensors[name])
        assert states.in_host(("ten", "task_4")) is None


async def test_all_that_is_missed_at_one_moment_is_read_by_one_statement(place: Place, monkeypatch):
    claims = await finished(place, 5)
    asked = []

    async def noted(database, wanted):
        asked.append(len(wanted))
        return await read_states(database, wanted)

    monkeypatch.setattr(cold, "read_states", noted)
    models = Models(place.stack.database, place.objects, place.stack.device)
    calls = [models.adapted(one.tenant, one.adapted_model, one.task_id) for one in (*claims, claims[0])]
    found = await asyncio.gather(*calls)
    assert asked == [5]  # the one that was wanted twice is read once
    for claim, adapted in zip(claims, found, strict=False):
        (solved,) = place.solved(claim)
        assert adapted.classes == solved.work.classes
        assert torch.equal(adapted.state.tensors["prototypes"], solved.state.tensors["prototypes"])
    await asyncio.gather(*(models.adapted(one.tenant, one.adapted_model, one.task_id) for one in claims))
    assert asked == [5]


async def test_each_one_misses_alone(place: Place):
    (good,), queued = await finished(place, 1), await place.claimed()
    models = Models(place.stack.database, place.objects, place.stack.device)
    calls = [
        models.adapted(good.tenant, good.adapted_model, good.task_id),
        models.adapted(good.tenant, "am_nowhere"),
        models.adapted("ten_stranger", good.adapted_model, good.task_id),
        models.adapted(queued.tenant, queued.adapted_model),
        models.adapted(good.tenant, good.adapted_model, queued.task_id),
    ]
    found = await asyncio.gather(*calls, return_exceptions=True)
    assert isinstance(found[0], Adapted)
    assert [type(error) for error in found[1:]] == [NotFound, NotFound, Conflict, Conflict]


async def test_an_expired_model_is_read_by_nobody_and_a_pinned_one_still_is(place: Place):
    (claim,) = await finished(place, 1)
    where = "WHERE id = :id"
    await place.execute(
        f"UPDATE adapted_models SET expires_at = now() - interval '1 s' {where}", id=claim.adapted_model
    )
    wanted = [Wanted(claim.tenant, claim.adapted_model)]
    assert isinstance((await read_states(place.stack.database, wanted))[0], Expired)
    await place.execute(f"UPDATE adapted_models SET pinned = true {where}", id=claim.adapted_model)
    found = (await read_states(place.stack.database, wanted))[0]
    assert isinstance(found, StoredState) and found.task == claim.task_id


async def test_a_database_that_is_away_fails_whoever_asks_each_time():
    database = open_database("postgresql://kshot@/kshot?host=/nowhere")
    models = Models(database, LocalObjects(Path("/nowhere")), torch.device("cpu"))
    for _ in range(2):
        with pytest.raises(Exception) as caught:
            await models.adapted("ten", "am", "task")
        assert is_away(caught.value)
