"""Nearest examples as callers read them, and what they cost their neighbours in a batch."""

import numpy as np
import pytest

from kshot.contracts.errors import Conflict, NotFound
from kshot.contracts.ids import new_id
from kshot.contracts.tasks import AnswerOptions, LearnerOptions, Payload, SupportSet, TargetSpec
from tests.workers import samples
from tests.workers.samples import adapt, blobs, delivered, predict
from workers.answering import _reply, _row
from workers.decoding import predict_work
from workers.executing import solve
from workers.work import Solved

WANTED = AnswerOptions(wanted=("labels", "nearest"))


async def one_shot(support, query, learner="ridge", answer=WANTED):
    payload = Payload(support, query, LearnerOptions(learner=learner), answer)
    work = await predict_work(delivered(payload), models=None)
    (outcome,) = solve(samples.checkpoint(learner if learner != "multitask" else "ridge"), [work])
    assert isinstance(outcome, Solved), outcome
    return outcome


async def test_classes_are_named_by_the_callers_labels():
    support = SupportSet("classification", blobs(1).inputs, np.array([0, 0, 1, 1]), (7, 9))
    outcome = await one_shot(support, support.inputs[2:3])
    (near,) = outcome.nearest
    assert near[0] == {"index": 2, "label": 9, "similarity": 1.0} and len(near) == 3
    assert all(type(row["index"]) is int and row["label"] in (7, 9) for row in near)


async def test_numbers_lists_of_numbers_and_several_targets():
    x = np.arange(5, dtype=np.float32)[:, None]
    answer = AnswerOptions(wanted=("nearest",))
    one = await one_shot(SupportSet("regression", x, 2 * x), x[3:4], answer=answer)
    assert one.nearest[0][0] == {"index": 3, "label": 6.0, "similarity": 1.0} and one.predictions == [{}]
    two = await one_shot(SupportSet("regression", x, np.hstack([x, -x])), x[3:4])
    assert two.nearest[0][0]["label"] == [3.0, -3.0]
    columns = (
        TargetSpec(name="team", kind="classification", classes=("a", "b")),
        TargetSpec(name="urgency", kind="regression"),
    )
    targets = np.array([[0, 0.5], [0, np.nan], [1, 0.25], [1, 1], [np.nan, 2]], np.float32)
    joint = await one_shot(SupportSet("multitask", x, targets, columns=columns), x[:2], "multitask", answer)
    assert joint.nearest[0][0]["label"] == {"team": "a", "urgency": 0.5}
    assert joint.nearest[1][0]["label"] == {"team": "a", "urgency": None}


async def test_only_targets_that_are_numbers_and_nothing_wanted_of_them():
    x = np.arange(4, dtype=np.float32)[:, None]
    columns = (TargetSpec(name="a", kind="regression"), TargetSpec(name="b", kind="regression"))
    support = SupportSet("multitask", x, np.hstack([x, -x]), columns=columns)
    outcome = await one_shot(support, x[:2], "multitask", AnswerOptions(wanted=("nearest",)))
    assert outcome.predictions == [{"targets": {}}, {"targets": {}}] and len(outcome.nearest) == 2


async def test_in_a_batch_only_those_who_want_it_get_it_and_it_is_not_recorded(checkpoint):
    (made,) = solve(checkpoint, [adapt(0)])
    plain = predict(made, blobs(0).inputs)
    asked = predict(made, blobs(0).inputs, wanted=("labels", "nearest"))
    asked = type(asked)(
        asked.key, asked.origin, Payload(blobs(0), asked.payload.query, answer=asked.payload.answer), asked.model
    )
    assert (plain.weight, asked.weight) == (4, 8)  # its examples are embedded beside the queries
    without, explained = solve(checkpoint, [plain, asked])
    assert without.nearest is None and [near[0]["index"] for near in explained.nearest] == [0, 1, 2, 3]
    assert [set(one) for one in _reply("pred_0", explained, None).predictions] == [{"label", "nearest"}] * 4
    assert [set(one) for one in _row(explained).predictions] == [{"label"}] * 4


async def test_a_stored_models_examples_are_read_once_and_are_its_tenants_alone(place):
    claim = await place.claimed()
    await place.settler.settle(place.solved(claim))
    support = await place.models.support(claim.tenant, claim.adapted_model)
    assert np.array_equal(support.inputs, blobs(0).inputs)
    with pytest.raises(NotFound):
        await place.models.support(new_id("ten"), claim.adapted_model)
    await place.execute("UPDATE tasks SET payload = NULL WHERE id = :id", id=claim.task_id)
    assert await place.models.support(claim.tenant, claim.adapted_model) is support


async def test_examples_that_are_gone_are_said_to_be(place):
    claim = await place.claimed()
    await place.settler.settle(place.solved(claim))
    await place.execute("UPDATE tasks SET payload = NULL WHERE id = :id", id=claim.task_id)
    with pytest.raises(Conflict, match="no longer stored; adapt again"):
        await place.models.support(claim.tenant, claim.adapted_model)
