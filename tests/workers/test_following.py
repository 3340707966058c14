"""Models that follow an alias: the old state answers until a new one is there that is no worse, whatever happens."""

import pytest
import torch

from kshot.contracts.errors import AdaptationFailed, Conflict, Expired, NotFound
from kshot.contracts.ids import new_id
from kshot.storage import claiming, following
from kshot.storage.adapted_models import change_adapted_model, find_same
from kshot.storage.admission import count_open
from kshot.storage.expiry import delete_adapted_model
from kshot.storage.feedback import NewFeedback, insert_feedback
from kshot.storage.fingerprints import fingerprint_of
from kshot.storage.following import catch_up
from kshot.storage.revisions import STATES_KEPT, list_revisions
from kshot.storage.states import Wanted, read_states
from kshot.storage.tables import DEFAULT_TENANT
from tests.workers.moving import Moving
from tests.workers.versions import NAME
from workers.reaper import erase, reap
from workers.work import Failed


@pytest.mark.usefixtures("either_way")
async def test_a_follower_goes_over_once_the_new_state_is_there_and_not_before(moving: Moving):
    claim = await moving.follower()
    other = await moving.follower(follow=False)
    before = await moving.place.models.adapted(claim.tenant, claim.adapted_model)
    await moving.move("second")
    (replay,) = await moving.replays()
    assert (replay.adapted_model, replay.background, replay.learner) == (claim.adapted_model, True, "ridge")
    assert await moving.answering(claim) == (1, "first")
    await moving.settle(replay)
    assert await moving.answering(claim) == (2, "second") and await moving.answering(other) == (1, "first")
    after = await moving.place.models.adapted(claim.tenant, claim.adapted_model)
    assert (after.learner, after.checkpoint) == ("ridge", moving.versions["second"])
    still = await moving.place.models.adapted(claim.tenant, claim.adapted_model, claim.task_id)  # a call under way
    assert still.checkpoint == before.checkpoint
    assert all(torch.equal(tensor, before.state.tensors[name]) for name, tensor in still.state.tensors.items())
    history = [(2, "second", "followed"), (1, "first", "made")]
    assert await moving.history(await moving.place.model(claim)) == history


@pytest.mark.usefixtures("either_way")
async def test_a_worse_state_is_not_used_and_both_figures_are_kept(moving: Moving):
    claim = await moving.follower()
    states = await moving.place.states(claim)
    await moving.moved("blind")
    assert await moving.answering(claim) == (1, "first") and await moving.place.states(claim) == states
    async with moving.place.stack.database.connect() as connection:
        kept, _ = await list_revisions(connection, await moving.place.model(claim))
    assert kept.outcome == "kept" and kept.quality.accuracy < kept.previous_quality.accuracy
    async with moving.place.stack.database.begin() as connection:
        assert await catch_up(connection) == 0, "it declined: it is not asked again"


@pytest.mark.usefixtures("stored")
async def test_and_leaves_nothing_where_its_commit_went_through_unheard(moving: Moving):
    claim = await moving.follower()
    states = await moving.place.states(claim)
    await moving.move("blind")
    (replay,) = await moving.replays()
    endings = await moving.place.settler._endings(await moving.solved(replay))
    assert (await moving.place.settler._commit(endings))[0].counts
    assert await moving.place.settler._end(endings)
    assert await moving.place.states(claim) == states


@pytest.mark.usefixtures("either_way")
async def test_going_back_is_a_switch_to_the_very_state_of_before(moving: Moving):
    claim = await moving.follower()
    before = await moving.place.model(claim)
    await moving.moved("second")
    await moving.move("first")
    assert await moving.replays() == []
    after = await moving.place.model(claim)
    assert (after.revision, after.object_key, after.object_sha256) == (3, before.object_key, before.object_sha256)
    await moving.move("second")
    assert (await moving.place.model(claim)).revision == 4 and await moving.replays() == []


@pytest.mark.usefixtures("either_way")
async def test_few_states_are_kept_and_the_last_ones(moving: Moving):
    claim = await moving.follower()
    before = await moving.place.states(claim)
    for _ in range(STATES_KEPT):
        another = await moving.copy_of("second")
        await moving.moved(another)
        assert await moving.answering(claim) == ((await moving.place.model(claim)).revision, another)
    assert await moving.place.states(claim) == before - 1 + STATES_KEPT
    wanted = Wanted(claim.tenant, claim.adapted_model, claim.task_id)
    (forgotten,) = await read_states(moving.place.stack.database, [wanted])
    assert isinstance(forgotten, Conflict)
    assert moving.place.state_files(claim.task_id) == []


@pytest.mark.usefixtures("either_way")
async def test_a_replay_is_superseded_when_the_alias_moves_again(moving: Moving):
    claim = await moving.follower()
    states = await moving.place.states(claim)
    await moving.move("blind")
    (running,) = await moving.replays()
    await moving.move("second")
    await moving.settle(running)  # too late
    assert await moving.answering(claim) == (1, "first") and await moving.place.states(claim) == states
    await moving.settle(*await moving.replays())
    assert await moving.answering(claim) == (2, "second")
    assert [line[2] for line in await moving.history(await moving.place.model(claim))] == ["followed", "made"]


@pytest.mark.reliability("faults: worker SIGKILLed mid-adapt", "following")
@pytest.mark.usefixtures("either_way")
async def test_a_worker_that_dies_before_the_switch_costs_one_attempt(moving: Moving):
    claim = await moving.follower()
    await moving.move("second")
    (killed,) = await moving.replays(lease_s=-1)
    moving.place.objects.put(f"states/{killed.task_id}-1.safetensors", b"stored, and never committed")
    states = await moving.place.states(claim)
    (heir,) = await moving.replays()
    assert (heir.task_id, heir.attempt) == (killed.task_id, 2)
    await moving.settle(heir)
    await moving.settle(killed)  # it wakes up after all
    assert await moving.answering(claim) == (2, "second") and await moving.place.states(claim) == states
    adapted = await moving.place.models.adapted(claim.tenant, claim.adapted_model)
    assert adapted.learner == "ridge"


@pytest.mark.usefixtures("either_way")
async def test_a_model_deleted_meanwhile_leaves_nothing(moving: Moving):
    claim = await moving.follower()
    states = await moving.place.states(claim)
    await moving.moved("second")
    await moving.move("blind")
    (replay,) = await moving.replays()
    async with moving.place.stack.database.begin() as connection:
        await delete_adapted_model(connection, DEFAULT_TENANT, claim.adapted_model)
    await moving.settle(replay)
    await moving.place.execute("UPDATE adapted_models SET expires_at = expires_at - interval '2 minutes'")
    await erase(moving.place.stack.database, moving.place.objects)  # as where the process that deleted it died
    assert await moving.place.states(claim) == states - 1
    with pytest.raises(NotFound):
        await moving.place.model(claim)


async def test_a_model_that_expires_meanwhile_stays_expired(moving: Moving):
    claim = await moving.follower()
    await moving.move("second")
    (replay,) = await moving.replays()
    await moving.place.execute(
        "UPDATE adapted_models SET expires_at = now() - interval '1 hour' WHERE id = :id", id=claim.adapted_model
    )
    await erase(moving.place.stack.database, moving.place.objects)
    await moving.settle(replay)
    with pytest.raises(Expired):
        await moving.place.model(claim)
    await moving.move("blind")
    assert await moving.replays() == []


async def test_no_more_replays_are_started_than_workers_keep_up_with(moving: Moving, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(following, "_AT_ONCE", 2)
    for _ in range(4):
        await moving.follower()

    async def started() -> int:
        async with moving.place.stack.database.begin() as connection:
            return await catch_up(connection)

    await moving.move("second")
    assert await started() == 0, "two are open"
    first, second = await moving.replays()
    await moving.settle(first)
    assert await started() == 1 and await started() == 0
    await moving.settle(second, *await moving.replays())
    assert await started() == 1


async def test_one_that_was_still_being_made_follows_later(moving: Moving):
    claim = await moving.place.claim(await moving.queued())
    await moving.move("second")
    assert await moving.replays() == []
    await moving.settle(claim)
    await reap(moving.place.stack.database, moving.place.objects)
    await moving.settle(*await moving.replays())
    assert await moving.answering(claim) == (2, "second")


async def test_one_that_begins_to_follow_later_catches_up(moving: Moving):
    claim = await moving.follower(follow=False)
    await moving.moved("second")
    async with moving.place.stack.database.begin() as connection:
        await change_adapted_model(connection, DEFAULT_TENANT, claim.adapted_model, follow=True)
        assert await catch_up(connection) == 1
    await moving.settle(*await moving.replays())
    assert await moving.answering(claim) == (2, "second")


async def test_inputs_of_another_form_and_learners_it_cannot_run_keep_a_model_where_it_is(moving: Moving):
    claim = await moving.follower()
    named = await moving.follower(learner="ridge", options={"learner": "ridge", "l2": 2.0})
    await moving.moved("narrow")
    for one in (claim, named):
        history = await moving.history(await moving.place.model(one))
        assert history == [(1, "narrow", "failed"), (1, "first", "made")]
    await moving.moved("second")
    after = await moving.place.model(named)
    assert (after.revision, after.learner) == (2, "ridge")


async def test_a_replay_that_fails_is_written_down_and_the_model_goes_on(moving: Moving):
    claim = await moving.follower()
    await moving.move("second")
    (replay,) = await moving.replays()
    await moving.place.settler.settle([Failed(replay, AdaptationFailed("diverged"))])
    history = [(1, "second", "failed"), (1, "first", "made")]
    assert await moving.history(await moving.place.model(claim)) == history


@pytest.mark.reliability("faults: poison task", "following")
async def test_a_replay_that_ends_its_workers_is_given_up_and_the_model_goes_on(moving: Moving):
    claim = await moving.follower()
    await moving.move("second")
    (replay,) = await moving.replays()
    await moving.place.execute("UPDATE tasks SET attempt = 3, lease_until = now() WHERE id = :id", id=replay.task_id)
    await reap(moving.place.stack.database, moving.place.objects)
    model = await moving.place.model(claim)
    assert (model.status, model.revision) == ("succeeded", 1)
    assert await moving.history(model) == [(1, "second", "failed"), (1, "first", "made")]


async def test_callers_come_first_and_replays_do_not_count(moving: Moving):
    await moving.follower()
    async with moving.place.stack.database.connect() as connection:
        open_before = await count_open(connection, DEFAULT_TENANT)
    await moving.move("second")
    asked = await moving.queued()
    async with moving.place.stack.database.begin() as connection:
        everyone, own = await count_open(connection, DEFAULT_TENANT)
        assert (everyone - open_before[0], own - open_before[1]) == (1, 1)
        (first,) = await claiming.claim(connection, "wrk_me", 60, 1)
        (second,) = await claiming.claim(connection, "wrk_me", 60, 1)
    assert first.task_id == asked and second.background


async def test_equal_requests_find_a_follower_where_it_is_now_and_not_where_it_was(moving: Moving):
    def print_of(version: str, learner: str, follows: str | None) -> str:
        return fingerprint_of("content", [moving.versions[version], learner], "classification", follows)

    alias = f"{NAME}@production"
    claim = await moving.follower(fingerprint=print_of("first", "protonet", alias), content="content")
    await moving.moved("second")
    async with moving.place.stack.database.begin() as connection:
        for version, learner, follows in (
            ("first", "protonet", alias), ("first", "protonet", None), ("second", "ridge", None),
        ):  # fmt: skip
            assert await find_same(connection, DEFAULT_TENANT, print_of(version, learner, follows), b"") is None
        found, _ = await find_same(connection, DEFAULT_TENANT, print_of("second", "ridge", alias), b"")
    assert found.id == claim.adapted_model


async def test_what_was_observed_is_of_the_state_that_answers(moving: Moving):
    claim = await moving.follower()

    async def told(version: str, correct: int) -> None:
        async with moving.place.stack.database.begin() as connection:
            item = NewFeedback(
                new_id("fb"), DEFAULT_TENANT, claim.adapted_model, new_id("pred"), moving.versions[version], None, 4, 4,
                correct, None,
            )  # fmt: skip
            await insert_feedback(connection, item)

    async def observed() -> tuple[int, int] | None:
        found = (await moving.place.model(claim)).observed
        return None if found is None else (found["n"], found["correct"])

    await told("first", 3)
    await told("first", 4)
    assert await observed() == (8, 7)
    await moving.moved("second")
    assert await observed() is None
    await told("second", 4)
    await told("first", 0)  # a call that was answered before the move
    assert await observed() == (4, 4)
    await moving.move("first")
    assert await observed() == (12, 7)


async def test_answers_after_going_back_are_equal_to_the_bit(moving: Moving):
    claim = await moving.follower()
    before = (await moving.place.models.adapted(claim.tenant, claim.adapted_model)).state.tensors
    await moving.moved("second")
    await moving.move("first")
    after = (await moving.place.models.adapted(claim.tenant, claim.adapted_model)).state.tensors
    assert before.keys() == after.keys() and all(torch.equal(before[name], after[name]) for name in before)
