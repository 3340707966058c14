"""Tasks that somebody withdrew: no later attempt at a job finds them, nor what it had learned from them."""

from dataclasses import dataclass

import pytest
from sqlalchemy import text

from kshot.contracts.errors import Invalid
from kshot.contracts.ids import new_id
from kshot.episodes.datasets import read_pool
from kshot.storage.expiry import erase_supports
from tests.workers.recorder import SPEC, Recorder, made, tasks_of
from workers.job_folder import data_key, job_prefix

_COUNT = text("SELECT count(payload) FROM tasks WHERE tenant_id = :t")


@dataclass(frozen=True)
class Kept:
    """A job that has collected the tasks of four models, and saved a state since."""

    recorder: Recorder
    models: list[str]
    dataset: str
    job: str

    @property
    def copy(self) -> str:
        return data_key(self.job)

    @property
    def state(self) -> str:
        return f"{job_prefix(self.job)}/1-100.safetensors"

    async def again(self) -> int:
        """The next attempt begins; how many tasks it finds."""
        folder = await self.recorder.lay(self.dataset, self.copy, self.state)
        return len(tasks_of(read_pool(folder, "all", SPEC)))

    def objects(self) -> list[str]:
        return self.recorder.place.objects.keys(job_prefix(self.job))


@pytest.fixture
async def kept(recorder: Recorder) -> Kept:
    models = await made(recorder, range(4))
    kept = Kept(recorder, models, await recorder.dataset(), new_id("job"))
    assert await kept.again() == 4
    recorder.place.objects.put(kept.state, b"what was learned from them")
    return kept


async def test_a_deleted_model_is_in_no_later_attempt_nor_what_was_learned_from_it(kept: Kept):
    await made(kept.recorder, [7])
    assert await kept.again() == 4 and kept.objects() == [kept.state, kept.copy], "it came later"
    await kept.recorder.delete(kept.models[0])
    assert await kept.again() == 4, "three of before, and the one that came later"
    assert kept.objects() == [kept.copy]
    kept.recorder.place.objects.put(kept.state, b"learned anew")
    assert await kept.again() == 4 and kept.objects() == [kept.state, kept.copy]


async def test_the_tasks_of_who_opted_out_are_not_kept_for_a_job_that_is_paused(kept: Kept):
    await kept.recorder.sweep()
    assert kept.objects() == [kept.state, kept.copy]
    await kept.recorder.record(False)
    await kept.recorder.sweep()
    assert kept.objects() == []
    with pytest.raises(Invalid, match="0 tasks"):
        await kept.again()


async def test_a_state_that_was_saved_after_the_copy_had_to_go_is_not_gone_on_from(kept: Kept):
    await kept.recorder.delete(kept.models[0])
    await kept.recorder.sweep()
    kept.recorder.place.objects.put(kept.state, b"by the attempt under way")
    assert await kept.again() == 3 and kept.objects() == [kept.copy]


async def test_who_opted_out_for_a_while_has_withdrawn_what_was_erased(kept: Kept):
    await kept.recorder.expire()
    await kept.recorder.sweep()
    assert await kept.again() == 4
    await kept.recorder.record(False)
    async with kept.recorder.place.stack.database.begin() as connection:
        await erase_supports(connection, 50)  # as a worker that ends before it comes to the copies
    await kept.recorder.record()
    await kept.recorder.sweep()
    assert kept.objects() == []


async def test_time_alone_withdraws_nothing_from_a_job_that_has_begun(kept: Kept):
    await kept.recorder.expire()
    for table in ("tasks", "adapted_models"):
        await kept.recorder.place.execute(
            f"UPDATE {table} SET created_at = now() - interval '91 days' WHERE tenant_id = :t", t=kept.recorder.tenant
        )
    await kept.recorder.sweep()
    async with kept.recorder.place.stack.database.connect() as connection:
        assert await connection.scalar(_COUNT.bindparams(t=kept.recorder.tenant)) == 0
    assert await kept.again() == 4 and kept.objects() == [kept.state, kept.copy]
