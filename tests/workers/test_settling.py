"""What ends a claim, on real Postgres and Valkey: once, whoever else tries, and whatever is away meanwhile."""

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from structlog.testing import capture_logs

from kshot.contracts.errors import AdaptationFailed, NotFound
from kshot.queue.work import WorkQueue
from kshot.storage.access import ensure_tenant
from kshot.storage.database import open_database
from kshot.storage.expiry import delete_adapted_model
from kshot.storage.objects import LocalObjects
from tests.workers.place import Place
from tests.workers.samples import blobs
from workers.cold import Damaged
from workers.models import Models
from workers.settling import Settler
from workers.work import Failed


@pytest.mark.usefixtures("either_way")
async def test_a_solved_task_succeeds_and_its_state_is_there_to_predict_with(place: Place):
    claim = await place.claimed()
    (outcome,) = place.solved(claim)
    assert await place.settler.settle([outcome])
    model = await place.model(claim)
    assert (model.status, model.attempt, len(place.leases)) == ("succeeded", 1, 0)
    read_back = Models(place.stack.database, place.objects, place.stack.device)  # nothing cached
    adapted = await read_back.adapted(claim.tenant, claim.adapted_model)
    assert adapted.classes == blobs(0).classes
    for name, tensor in outcome.state.tensors.items():
        assert torch.equal(adapted.state.tensors[name], tensor)


@pytest.mark.usefixtures("stored")
async def test_a_result_that_comes_after_anothers_claim_leaves_nothing(place: Place):
    claim = await place.claimed()
    outcomes = place.solved(claim)
    other = await place.taken_by_another(claim)
    await place.settler.settle(outcomes)
    assert (await place.model(claim)).status == "running"
    assert await place.results(claim) == 0
    with pytest.raises(NotFound):
        place.objects.get(f"states/{claim.task_id}-{claim.attempt}.safetensors")
    await place.settler.settle(place.solved(other))
    assert (await place.model(claim)).object_key == f"states/{claim.task_id}-2.safetensors"


@pytest.mark.usefixtures("either_way")
async def test_a_commit_that_went_through_unheard_and_is_tried_again_counts_once(place: Place):
    claim = await place.claimed()
    outcomes = place.solved(claim)
    for _ in range(2):
        assert await place.settler.settle(outcomes)
    model = await place.model(claim)
    assert (model.status, await place.results(claim)) == ("succeeded", 1)
    assert await place.states(claim) == 1


async def test_a_learners_refusal_is_the_callers_to_read_and_a_fault_of_ours_is_not(place: Place):
    refused, broke = await place.claimed(), await place.claimed()
    failed = [Failed(refused, AdaptationFailed("diverged", param="support")), Failed(broke, ValueError("/srv/secret"))]
    await place.settler.settle(failed)
    failure = (await place.model(refused)).failure
    assert (failure.code, failure.message, failure.param) == ("adaptation_failed", "diverged", "support")
    failure = (await place.model(broke)).failure
    assert failure.code == "internal" and "secret" not in failure.message


async def test_one_ending_the_database_refuses_spoils_no_other(place: Place):
    good, bad = await place.claimed(), await place.claimed()
    (spoiled,) = place.solved(bad)
    spoiled = replace(spoiled, predictions=[{"label": "a \x00 that JSONB cannot hold"}])
    await place.settler.settle([*place.solved(good), spoiled])
    assert (await place.model(good)).status == "succeeded"
    model = await place.model(bad)
    assert (model.status, model.failure.code) == ("failed", "internal")


async def test_what_needs_a_part_that_is_away_is_given_back_unspent(place: Place):
    claim = await place.claimed()
    assert not await place.settler.settle([Failed(claim, ConnectionRefusedError())])
    model = await place.model(claim)
    assert (model.status, model.attempt) == ("queued", 0)
    assert (await place.claim(claim.task_id)).attempt == 1


async def test_what_was_given_back_is_held_no_longer(place: Place):
    claims = [await place.claimed() for _ in range(2)]
    await place.settler.give_back(claims[:1])
    assert not place.leases.holds(claims[0]) and place.leases.holds(claims[1])


async def test_what_cannot_be_given_back_either_is_left_to_its_lease(place: Place):
    claim = await place.claimed()
    away = open_database("postgresql://kshot@127.0.0.1:1/kshot")
    settler = Settler(replace(place.stack, database=away), place.models, place.leases)
    assert not await settler.settle([Failed(claim, ConnectionRefusedError())])
    assert ((await place.row(claim.task_id)).status, len(place.leases)) == ("running", 0)


@pytest.mark.usefixtures("stored")
async def test_what_cannot_even_fail_is_left_to_its_lease(place: Place):
    claim = await place.claimed()
    running = f"status = 'running' OR id <> '{claim.task_id}'"
    await place.execute(f"ALTER TABLE tasks ADD CONSTRAINT kept_running CHECK ({running})")
    await place.settler.settle(place.solved(claim))
    await place.execute("ALTER TABLE tasks DROP CONSTRAINT kept_running")
    assert ((await place.row(claim.task_id)).status, await place.states(claim), len(place.leases)) == ("running", 1, 0)


async def test_a_reply_that_cannot_be_sent_changes_nothing(place: Place):
    claim = replace(await place.claimed(), reply_to="kshot:reply:settling")
    queue = WorkQueue("redis://127.0.0.1:1", "wrk_me")
    settler = Settler(replace(place.stack, queue=queue), place.models, place.leases)
    with capture_logs() as logs:
        assert await settler.settle(place.solved(claim))
    await queue.close()
    assert "replies_lost" in [line["event"] for line in logs]
    assert ((await place.model(claim)).status, await place.results(claim)) == ("succeeded", 1)


@pytest.mark.usefixtures("either_way")
async def test_a_lease_that_is_lost_just_before_the_commit_leaves_nothing(place: Place):
    late, failing = await place.claimed(), await place.claimed()
    endings = await place.settler._endings([*place.solved(late), Failed(failing, AdaptationFailed("diverged"))])
    for claim, ending in zip((late, failing), endings, strict=True):
        await place.taken_by_another(claim)
        await place.settler._end([ending])
        assert ((await place.row(claim.task_id)).status, await place.states(claim)) == ("running", 0)


async def test_the_log_says_what_ended_and_for_which_request(place: Place):
    claims = [replace(await place.claimed(), request_id=f"req_{number}") for number in range(3)]
    outcomes = [outcome for claim in claims[:2] for outcome in place.solved(claim)]
    with capture_logs() as logs:
        await place.settler.settle([*outcomes, Failed(claims[2], AdaptationFailed("diverged"))])
    told = {line["event"]: line for line in logs if line["event"].startswith("task")}
    assert (told["tasks_succeeded"]["tasks"], told["tasks_succeeded"]["requests"]) == (
        [claim.task_id for claim in claims[:2]], ["req_0", "req_1"],
    )  # fmt: skip
    failed = told["task_failed"]
    assert (failed["task_id"], failed["request_id"], failed["failure"]) == (
        claims[2].task_id, "req_2", "adaptation_failed",
    )  # fmt: skip


async def test_a_heartbeat_notices_a_lost_claim_and_keeps_the_others(place: Place):
    kept, lost = await place.claimed(), await place.claimed()
    await place.taken_by_another(lost)
    await place.leases.beat()
    assert place.leases.holds(kept) and not place.leases.holds(lost)


async def test_another_tenant_finds_no_model_even_where_it_is_cached(place: Place):
    claim = await place.claimed()
    await place.settler.settle(place.solved(claim))
    assert await place.models.adapted(claim.tenant, claim.adapted_model)
    async with place.stack.database.begin() as connection:
        stranger = await ensure_tenant(connection, "stranger")
    with pytest.raises(NotFound):
        await place.models.adapted(stranger, claim.adapted_model)


@pytest.mark.usefixtures("stored")
async def test_a_state_that_changed_on_disk_is_not_used(place: Place):
    claim = await place.claimed()
    await place.settler.settle(place.solved(claim))
    key = (await place.model(claim)).object_key
    place.objects.put(key, place.objects.get(key)[:-4] + b"\x00\x00\x80\x40")  # another float, and a finite one
    read_back = Models(place.stack.database, place.objects, place.stack.device)
    with pytest.raises(Damaged):
        await read_back.adapted(claim.tenant, claim.adapted_model)


@pytest.mark.usefixtures("stored")
async def test_a_model_deleted_while_its_state_is_read_is_unknown_and_not_damaged(place: Place, tmp_path: Path):
    claim, loop = await place.claimed(), asyncio.get_running_loop()
    await place.settler.settle(place.solved(claim))

    async def delete(key: str) -> None:
        async with place.stack.database.begin() as connection:
            await delete_adapted_model(connection, claim.tenant, claim.adapted_model)
        place.objects.delete(key)

    class Slow(LocalObjects):
        def get(self, key: str) -> bytes:
            asyncio.run_coroutine_threadsafe(delete(key), loop).result()
            return super().get(key)

    read_back = Models(place.stack.database, Slow(tmp_path / "objects"), place.stack.device)
    with pytest.raises(NotFound):
        await read_back.adapted(claim.tenant, claim.adapted_model)


async def test_a_state_that_changed_in_its_row_is_not_used(place: Place):
    claim = await place.claimed()
    await place.settler.settle(place.solved(claim))
    damage = "UPDATE results SET state = set_byte(state, octet_length(state) - 2, 65) WHERE task_id = :id"
    await place.execute(damage, id=claim.task_id)
    assert await place.models.adapted(claim.tenant, claim.adapted_model, claim.task_id), "whole, in memory"
    read_back = Models(place.stack.database, place.objects, place.stack.device)
    with pytest.raises(Damaged):
        await read_back.adapted(claim.tenant, claim.adapted_model)
