"""Recorded tasks as a data set: of tenants that let us, each task once and on one side, and the same bytes again."""

from typing import Any

import numpy as np
import pytest
from sqlalchemy import text

from kshot.contracts.datasets import RecordedFrom
from kshot.contracts.errors import Invalid
from kshot.contracts.ids import new_id
from kshot.contracts.tasks import Payload, SupportSet
from kshot.episodes.datasets import read_manifest, read_pool, read_table
from kshot.episodes.pool import Pool
from kshot.episodes.sampling import EpisodeShape, sample_episode
from kshot.storage.access import ensure_tenant
from kshot.storage.expiry import delete_adapted_model
from kshot.storage.recorded import read_recorded_models
from kshot.storage.recording import tenants_opted_in
from tests.workers.recorder import SPEC, Recorder, made, tasks_of
from tests.workers.samples import WIDTH, blobs
from workers.reaper import erase

_COUNT = text("SELECT count(payload) FROM tasks WHERE tenant_id = :t")
_TOLD = text("SELECT count(payload) FROM feedback WHERE tenant_id = :t")
_STATES = text("SELECT count(state) FROM results JOIN tasks ON tasks.id = task_id WHERE tenant_id = :t")


def labels_of(pool: Pool) -> set[str]:
    return {name.split("/")[1] for name in pool.classes}


def owners(pool: Pool, inputs: Any) -> set[str]:
    """The tasks these inputs come from."""
    found = {}
    for name, rows in zip(pool.classes, pool.rows, strict=True):
        found |= {row.tobytes(): name.split("/")[0] for row in pool.inputs[rows]}
    return {found[row.tobytes()] for row in inputs}


async def test_tasks_are_split_and_episodes_stay_within_one(recorder: Recorder):
    await made(recorder, range(12))
    folder = await recorder.lay(await recorder.dataset())
    manifest = read_manifest(folder)
    pools = [read_pool(folder, part, SPEC) for part in ("train", "valid", "test")]
    sides = [tasks_of(pool) for pool in pools]
    assert all(sides) and sum(map(len, sides)) == len(set.union(*sides)) == 12
    assert (manifest.n_examples, manifest.smallest, manifest.width, len(manifest.sha256)) == (96, 4, WIDTH, 64)
    assert manifest.counts["train"].n_examples == 8 * len(sides[0]) and manifest.counts["train"].n_classes is None
    (whose,) = owners(pools[0], sample_episode(pools[0], EpisodeShape(5, 1, 2), np.random.default_rng(0)).query)
    assert whose in sides[0]


async def test_what_grew_is_one_task_and_equal_supports_are_one(recorder: Recorder):
    root, *_ = await made(recorder, range(4))
    await made(recorder, [1], options={"l2": 2.0})
    await recorder.model(blobs(0, n_way=3, k_shot=4), parent=root)
    pool = read_pool(await recorder.lay(await recorder.dataset()), "all", SPEC)
    assert len(tasks_of(pool)) == 4 and len(pool.classes) == 9, "the largest of a family stands for it"


async def test_a_family_stays_where_it_is_when_its_root_is_deleted(recorder: Recorder):
    """Or what was trained on would be held out, and a checkpoint tested on it, as soon as somebody deletes a model."""
    roots = await made(recorder, range(12))
    for i, root in enumerate(roots):
        await recorder.model(blobs(i, n_way=3, k_shot=4), parent=root)
    dataset = await recorder.dataset()
    parts = ("train", "valid", "test")
    folder = await recorder.lay(dataset)
    before = [tasks_of(read_pool(folder, part, SPEC)) for part in parts]
    for root in roots:
        async with recorder.place.stack.database.begin() as connection:
            await delete_adapted_model(connection, recorder.tenant, root)
    folder = await recorder.lay(dataset)
    assert [tasks_of(read_pool(folder, part, SPEC)) for part in parts] == before


async def test_feedback_is_among_the_examples_each_row_once(recorder: Recorder):
    support = blobs(0, k_shot=4)
    model, *_ = await made(recorder, range(3))
    await recorder.tell(model, support)
    told = SupportSet("classification", support.inputs[:1] + 9, support.targets[:1], support.classes)
    await recorder.tell(model, told)
    pool = read_pool(await recorder.lay(await recorder.dataset()), "all", SPEC)
    sizes = {name.split("/")[1]: len(rows) for name, rows in zip(pool.classes, pool.rows, strict=True)}
    assert (sizes["s0-0"], sizes["s0-1"], sizes["s1-0"]) == (5, 4, 4)


async def test_nobodys_tasks_without_their_word(recorder: Recorder):
    await made(recorder, range(3))
    async with recorder.place.stack.database.begin() as connection:
        other = await ensure_tenant(connection, new_id("ten").lower().replace("_", "-"))
    await made(recorder, range(10, 13), tenant=other)
    dataset = await recorder.dataset(recorder.tenant, other)
    own = read_pool(await recorder.lay(dataset), "all", SPEC)
    assert labels_of(own) == {f"s{i}-{k}" for i in range(3) for k in (0, 1)}
    await recorder.record(tenant=other)
    assert len(tasks_of(read_pool(await recorder.lay(dataset), "all", SPEC))) == 6
    await recorder.record(False)  # though the data set was made when they let us
    assert labels_of(read_pool(await recorder.lay(dataset), "all", SPEC)) == {
        f"s{i}-{k}" for i in range(10, 13) for k in (0, 1)
    }
    async with recorder.place.stack.database.begin() as connection:
        willing = await tenants_opted_in(connection)
    assert other in willing and recorder.tenant not in willing


async def test_a_later_attempt_finds_the_same_bytes(recorder: Recorder):
    await made(recorder, range(3))
    dataset, key = await recorder.dataset(), f"jobs/{new_id('job')}/data"
    first = await recorder.lay(dataset, key)
    await made(recorder, range(3, 5))
    again, fresh = await recorder.lay(dataset, key), await recorder.lay(dataset)
    assert (again / "data.safetensors").read_bytes() == (first / "data.safetensors").read_bytes()
    assert read_manifest(again) == read_manifest(first) != read_manifest(fresh)
    equal = await recorder.lay(dataset)
    assert (equal / "data.safetensors").read_bytes() == (fresh / "data.safetensors").read_bytes()


async def test_a_page_ends_where_it_would_be_too_large(recorder: Recorder):
    first, second, third = await made(recorder, range(3))
    await recorder.tell(second, blobs(1, k_shot=4))
    source = RecordedFrom(checkpoint=recorder.name, tenants=(recorder.tenant,))

    async def page(after: str, max_bytes: int) -> list[str]:
        async with recorder.place.stack.database.connect() as connection:
            found = await read_recorded_models(connection, source, "classification", after, max_bytes)
            return [model.id for model in found]

    size = len(Payload(blobs(0, k_shot=4)).encode())
    assert await page("", 1) == [first] and await page(first, 1) == [second]
    assert await page("", 3 * size) == [first, second] and await page("", 5 * size) == [first, second, third]
    assert await page(second, 2 * size) == [third] and await page(third, size) == []


async def test_too_few_are_refused_with_how_many_there_are(recorder: Recorder):
    await made(recorder, range(2))
    with pytest.raises(Invalid, match="2 tasks are recorded"):
        await recorder.lay(await recorder.dataset())


async def test_other_kinds_widths_and_checkpoints_are_left_out(recorder: Recorder):
    await made(recorder, range(3))
    await recorder.model(blobs(7, width=9))
    await made(recorder, [8], checkpoint_name="another")
    pool = read_pool(await recorder.lay(await recorder.dataset()), "all", SPEC)
    assert len(tasks_of(pool)) == 3 and pool.inputs.shape[1] == WIDTH


async def test_tasks_of_numbers(recorder: Recorder):
    rng = np.random.default_rng(0)
    for seed in range(4):
        inputs = rng.normal(size=(6, WIDTH)).astype(np.float32)
        support = SupportSet("regression", inputs, inputs[:, :1] * seed)
        task = await recorder.place.accepted(
            support=support, tenant=recorder.tenant, checkpoint_name=recorder.name, task="regression", digest=str(seed)
        )
        await recorder.place.execute("UPDATE tasks SET status = 'succeeded' WHERE id = :id", id=task)
    folder = await recorder.lay(await recorder.dataset(task="regression"))
    table = read_table(folder, "all")
    assert len(table) == 24 and len(set(table.groups.tolist())) == 4


@pytest.mark.usefixtures("either_way")
async def test_recorded_supports_outlive_their_models_for_a_while(recorder: Recorder):
    kept, deleted, *_ = await made(recorder, range(5))
    await recorder.tell(kept, blobs(0))
    dataset, place = await recorder.dataset(), recorder.place

    async def payloads() -> tuple[int, int]:
        async with place.stack.database.begin() as connection:
            return (
                await connection.scalar(_COUNT.bindparams(t=recorder.tenant)) or 0,
                await connection.scalar(_TOLD.bindparams(t=recorder.tenant)) or 0,
            )

    async def states() -> int:
        async with place.stack.database.begin() as connection:
            in_rows = await connection.scalar(_STATES.bindparams(t=recorder.tenant)) or 0
        return in_rows + len(list((place.objects._folder / "states").glob("*")))

    assert await states() == 5
    await place.accepted(support=blobs(9), tenant=recorder.tenant)  # never computed, so there is nothing to be recorded
    await recorder.expire()
    await erase(place.stack.database, place.objects)
    assert await states() == 0
    assert await payloads() == (5, 1)
    async with place.stack.database.begin() as connection:
        await delete_adapted_model(connection, recorder.tenant, deleted)
    assert await payloads() == (4, 1)
    assert len(tasks_of(read_pool(await recorder.lay(dataset), "all", SPEC))) == 4
    for statement in (
        "UPDATE tasks SET created_at = now() - interval '91 days' WHERE adapted_model_id = :m",
        "UPDATE adapted_models SET created_at = now() - interval '91 days' WHERE id = :m",
    ):
        await place.execute(statement, m=kept)
    await erase(place.stack.database, place.objects)
    assert await payloads() == (3, 0), "its time is over"
    await recorder.record(False)
    await erase(place.stack.database, place.objects)
    assert await payloads() == (0, 0), "only recording kept them"
