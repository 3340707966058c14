"""The choice of a checkpoint: once, the same every time, and then as if it had been named."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

from kshot.checkpoints import save_checkpoint
from kshot.contracts.selection import AUTO, Candidate, CheckpointRef, Selection
from kshot.contracts.tasks import Form, Payload, SupportSet, TargetSpec
from kshot.storage.checkpoints import get_checkpoint
from tests.workers import samples
from tests.workers.place import Place
from tests.workers.samples import blobs, claim, delivered
from workers.choosing import decide
from workers.cold import Damaged
from workers.decoding import adapt_work, predict_work
from workers.executing import solve
from workers.models import Models
from workers.patience import is_away
from workers.publishing import publish
from workers.work import Failed, Solved, Work

COLUMNS = (TargetSpec(name="a", kind="classification", classes=("x", "y")), TargetSpec(name="b", kind="regression"))


@dataclass(frozen=True)
class Shelf:
    """Two published checkpoints, and what reads them."""

    place: Place
    ridge: str
    near: str

    def models(self) -> Models:
        """With nothing cached."""
        return Models(self.place.stack.database, self.place.objects, self.place.stack.device)

    async def weights(self, id: str) -> str:
        async with self.place.stack.database.connect() as connection:
            return (await get_checkpoint(connection, id)).object_key

    def payload(self, *, query=None, support: SupportSet | None = None, other=lambda inputs: inputs) -> Payload:
        """Blobs, of which ``near`` sees another form."""
        support = support or blobs(0, k_shot=5)
        form = Form(other(support.inputs), None if query is None else other(query))
        candidates = (candidate(self.ridge, "ridge"), candidate(self.near, "protonet", 1))
        return Payload(support, query, candidates=candidates, others=(form,))

    async def decided(self, work: Work) -> Work | Failed:
        with ThreadPoolExecutor(1) as pool:
            return await decide(work, self.models(), pool)


@pytest.fixture
async def shelf(place: Place, tmp_path: Path) -> Shelf:
    save_checkpoint(tmp_path / "ridge", samples.checkpoint("ridge"))
    ridge = await publish(place.stack.database, place.objects, tmp_path / "ridge")
    return Shelf(place, ridge, place.checkpoint_id)


def candidate(id: str, learner: str, form: int = 0) -> Candidate:
    return Candidate(checkpoint=CheckpointRef(id=id, name=learner, alias="production"), learner=learner, form=form)


def open_claim(payload: Payload, **changes):
    return replace(claim(payload), checkpoint=None, learner=None, **changes)


async def test_the_best_form_wins_and_the_task_goes_on_as_if_it_had_been_named(shelf: Shelf):
    rng = np.random.default_rng(0)
    payload = shelf.payload(
        query=blobs(0).inputs, other=lambda inputs: rng.normal(size=inputs.shape).astype(np.float32)
    )
    work = adapt_work(open_claim(payload))
    assert (work.key.checkpoint, work.key.learner) == (AUTO, AUTO)
    found = await shelf.decided(work)
    assert isinstance(found, Work) and found.origin is work.origin
    assert (
        found.key == adapt_work(replace(claim(Payload(payload.support)), checkpoint=shelf.ridge, learner="ridge")).key
    )
    assert found.payload.candidates == found.payload.others == ()
    assert found.chosen is not None and found.chosen.checkpoint.id == shelf.ridge and found.chosen.input_shape == (4,)
    best, worst = found.chosen.selection.considered
    assert best.score > worst.score and best.leave_one_out == 1.0 > worst.leave_one_out
    (outcome,) = solve(await shelf.models().checkpoint(shelf.ridge), [found])
    assert isinstance(outcome, Solved) and len(outcome.predictions) == 4
    assert outcome.timings.compute_ms >= found.computed_ms > 0


async def test_a_choice_made_again_is_the_same(shelf: Shelf):
    works = [adapt_work(open_claim(shelf.payload(), attempt=attempt)) for attempt in (1, 2)]
    first, second = [await shelf.decided(work) for work in works]
    assert first.chosen == second.chosen and first.key == second.key


async def test_one_shot_calls_choose_too(shelf: Shelf):
    payload = shelf.payload(query=blobs(0).inputs)
    work = await predict_work(delivered(payload, checkpoint=AUTO), models=None)
    assert (work.key.checkpoint, work.key.operation) == (AUTO, "oneshot")
    found = await shelf.decided(work)
    assert found.key.operation == "oneshot" and found.key.checkpoint in (shelf.ridge, shelf.near)


async def test_candidates_that_cannot_be_loaded_are_passed_over_and_said_so(shelf: Shelf):
    work = adapt_work(open_claim(shelf.payload()))
    shelf.place.objects.delete(await shelf.weights(shelf.ridge))
    found = await shelf.decided(work)
    assert found.chosen.checkpoint.id == shelf.near and found.key.learner == "protonet"
    loaded, gone = found.chosen.selection.considered
    assert (loaded.checkpoint.id, loaded.note) == (shelf.near, None) and loaded.score is not None
    assert (gone.checkpoint.id, gone.score) == (shelf.ridge, None) and gone.note == "its weights could not be loaded"
    assert found.chosen.selection.reason.endswith("(1 more could not be loaded)")
    shelf.place.objects.delete(await shelf.weights(shelf.near))
    failed = await shelf.decided(work)
    assert isinstance(failed, Failed) and isinstance(failed.error, Damaged) and failed.origin is work.origin


async def test_a_store_that_is_away_is_no_reason_to_pass_a_candidate_over(shelf: Shelf, tmp_path: Path):
    file = tmp_path / "objects" / await shelf.weights(shelf.ridge)
    file.unlink()
    file.mkdir()  # reading it is an OSError, as of a disk that fails
    failed = await shelf.decided(adapt_work(open_claim(shelf.payload())))
    assert isinstance(failed, Failed) and is_away(failed.error)


async def test_the_choice_is_written_down_with_the_result(shelf: Shelf):
    place, payload = shelf.place, shelf.payload(query=blobs(0).inputs)
    task = await place.accepted(payload=payload)
    claimed = await place.claim(task)
    assert (claimed.checkpoint, claimed.learner) == (None, None)
    found = await shelf.decided(adapt_work(claimed))
    (checkpoint,) = [await place.models.checkpoint(found.key.checkpoint)]
    assert await place.settler.settle(solve(checkpoint, [found]))
    model = await place.model(claimed)
    assert (model.status, model.made_with, model.learner) == ("succeeded", found.chosen.checkpoint, found.key.learner)
    assert Selection.model_validate(model.selection, strict=False) == found.chosen.selection
    kept = Payload.decode((await place.row(task)).payload)
    assert kept.query is None and kept.candidates == () and kept.others == ()
    adapted = await shelf.models().adapted(claimed.tenant, claimed.adapted_model)
    assert adapted.checkpoint == found.key.checkpoint


async def test_several_targets(shelf: Shelf):
    inputs = blobs(1, k_shot=6).inputs
    targets = np.stack([np.repeat([0, 1], 6), inputs[:, 0]], 1).astype(np.float32)
    targets[0, 0] = targets[1, 1] = np.nan
    support = SupportSet("multitask", inputs, targets, columns=COLUMNS)
    payload = shelf.payload(support=support)
    joint = tuple(one.model_copy(update={"learner": "multitask"}) for one in payload.candidates)
    found = await shelf.decided(adapt_work(open_claim(replace(payload, candidates=joint))))
    assert found.key.learner == "multitask" and "targets" in found.chosen.selection.reason
    (outcome,) = solve(await shelf.models().checkpoint(shelf.ridge), [found])
    assert [quality.n for quality in outcome.state.qualities] == [11, 11]


@pytest.mark.parametrize("ask", [True, False])
def test_a_claim_of_several_targets_in_a_batch_is_what_it_is_alone(ask):
    checkpoint, works = samples.checkpoint("ridge"), []
    for seed in range(6):
        n = 4 + seed
        inputs = np.random.default_rng(seed).normal(size=(n, 4)).astype(np.float32)
        targets = np.stack([np.arange(n) % 2, inputs.sum(1)], 1).astype(np.float32)
        targets[0, seed % 2] = np.nan
        payload = Payload(SupportSet("multitask", inputs, targets, columns=COLUMNS), inputs if ask else None)
        works.append(adapt_work(claim(payload, learner="multitask", task_id=f"task_{seed}")))
    assert len({work.key for work in works}) == 1
    for together, work in zip(solve(checkpoint, works), works, strict=True):
        (alone,) = solve(checkpoint, [work])
        assert together.state.qualities[0].n == alone.state.qualities[0].n
        for one, other in zip(together.predictions or [], alone.predictions or [], strict=True):
            assert one["targets"]["a"]["label"] == other["targets"]["a"]["label"]
            assert one["targets"]["b"]["value"] == pytest.approx(other["targets"]["b"]["value"], abs=1e-4)
