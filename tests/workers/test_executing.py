"""One call for many, and no item that suffers for another."""

import math

import numpy as np
import pytest
import torch

from kshot.contracts.errors import AdaptationFailed, Invalid
from kshot.contracts.tasks import AnswerOptions, LearnerOptions, Payload
from kshot.learners.state import dump_state
from tests.workers import samples
from tests.workers.samples import adapt, blobs, delivered, predict
from workers.decoding import predict_work
from workers.executing import solve
from workers.work import Failed, Key, Solved, Work


def broken(seed: int) -> Work:
    work = adapt(seed)
    assert work.payload.support is not None
    inputs = work.payload.support.inputs.copy()
    inputs[0, 0] = np.nan
    return replace_inputs(work, inputs)


def replace_inputs(work: Work, inputs: np.ndarray) -> Work:
    support = work.payload.support
    assert support is not None
    changed = type(support)(support.task, inputs, support.targets, support.classes)
    return Work(work.key, work.origin, Payload(changed, work.payload.query))


def test_a_batch_gives_each_item_what_it_gets_alone(checkpoint):
    works = [adapt(i, n_way=2 + i % 4, k_shot=1 + i % 3, ask=i % 2 == 0) for i in range(16)]
    together = solve(checkpoint, works)
    for work, outcome in zip(works, together, strict=True):
        (alone,) = solve(checkpoint, [work])
        assert isinstance(outcome, Solved) and isinstance(alone, Solved)
        assert outcome.timings.batch_size == 16 and alone.timings.batch_size == 1
        for name, tensor in alone.state.tensors.items():
            assert torch.allclose(outcome.state.tensors[name], tensor, atol=1e-4)
        assert (outcome.predictions is None) == (work.payload.query is None)
        for p, q in zip(outcome.predictions or [], alone.predictions or [], strict=True):
            assert p["label"] == q["label"]
            assert p["probabilities"] == pytest.approx(q["probabilities"], abs=1e-4)


@pytest.mark.reliability("faults: one invalid item inside a batch", "adapt")
@pytest.mark.parametrize("bad", [{0}, {7}, {3, 4}, set(range(8))])
def test_bad_items_fail_and_their_neighbours_do_not(checkpoint, bad):
    works = [broken(i) if i in bad else adapt(i, ask=True) for i in range(8)]
    outcomes = solve(checkpoint, works)
    assert {i for i, outcome in enumerate(outcomes) if isinstance(outcome, Failed)} == bad
    for i in bad:
        assert isinstance(outcomes[i].error, AdaptationFailed)
        assert outcomes[i].origin is works[i].origin
    for i in set(range(8)) - bad:
        assert [p["label"] for p in outcomes[i].predictions] == [f"s{i}-0"] * 2 + [f"s{i}-1"] * 2


def test_predictions_with_many_models_at_once(checkpoint):
    adapted = solve(checkpoint, [adapt(i, n_way=2 + i) for i in range(5)])
    queries = [work.work.payload.support.inputs for work in adapted]
    outcomes = solve(checkpoint, [predict(one, query) for one, query in zip(adapted, queries, strict=True)])
    for i, outcome in enumerate(outcomes):
        assert outcome.timings.batch_size == 5
        assert [p["label"] for p in outcome.predictions] == [f"s{i}-{k}" for k in range(2 + i) for _ in range(2)]
        assert outcome.state is None


@pytest.mark.reliability("faults: one invalid item inside a batch", "predict")
def test_a_query_without_finite_answer_fails_alone(checkpoint):
    (one,) = solve(checkpoint, [adapt(0)])
    good, bad = blobs(0).inputs, np.full((1, samples.WIDTH), np.inf, np.float32)
    outcomes = solve(checkpoint, [predict(one, good), predict(one, bad), predict(one, good)])
    assert [isinstance(outcome, Solved) for outcome in outcomes] == [True, False, True]
    assert isinstance(outcomes[1].error, Invalid) and outcomes[1].error.param == "inputs"


async def test_a_one_shot_call_adapts_and_answers(checkpoint):
    support = blobs(3, n_way=3)
    payload = Payload(support, support.inputs, LearnerOptions(learner="protonet"))
    work = await predict_work(delivered(payload), models=None)
    (outcome,) = solve(checkpoint, [work])
    assert [p["label"] for p in outcome.predictions] == [support.classes[k] for k in support.targets]


def test_a_learner_that_does_not_suit_fails_the_item_with_its_reason(checkpoint):
    support = blobs(0)
    key = Key("ckpt_0", "adapt", "maml", LearnerOptions(), "classification", (samples.WIDTH,))
    work = Work(key, samples.claim(Payload(support)), Payload(support))
    (outcome,) = solve(checkpoint, [work])
    assert isinstance(outcome, Failed) and isinstance(outcome.error, Invalid)


def test_adapting_again_gives_the_same_bytes(checkpoint):
    states = [solve(checkpoint, [adapt(4)])[0].state for _ in range(2)]
    assert dump_state(states[0]) == dump_state(states[1])


def test_states_own_their_memory(checkpoint):
    """A view into the batch's tensors would keep them all in memory for as long as one state is cached."""
    for outcome in solve(checkpoint, [adapt(i) for i in range(8)]):
        tensors = list(outcome.state.tensors.values())
        held = {tensor.untyped_storage().data_ptr(): tensor.untyped_storage().nbytes() for tensor in tensors}
        assert sum(held.values()) <= sum(tensor.nbytes + 64 for tensor in tensors) + 64


def test_timings_say_where_the_time_went(checkpoint):
    (outcome,) = solve(checkpoint, [adapt(0)])
    assert outcome.timings.queue_ms >= 5.0  # what the claim says, and the time since
    assert outcome.timings.compute_ms > 0 and math.isfinite(outcome.timings.compute_ms)


def test_regression_is_answered_in_numbers():
    x = np.linspace(-1, 1, 12, dtype=np.float32)[:, None] * np.ones((1, 3), np.float32)
    support = type(blobs(0))("regression", x, (2 * x[:, :1]).astype(np.float32))
    payload = Payload(support, x, answer=AnswerOptions())
    work = samples.adapt_work(samples.claim(payload, learner="ridge"))
    (outcome,) = solve(samples.checkpoint("ridge"), [work])
    assert [p["value"] for p in outcome.predictions] == pytest.approx((2 * x[:, 0]).tolist(), abs=0.3)
