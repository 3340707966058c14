"""Matching networks beyond what holds for every learner: leave-one-out, equal rows, far classes, options."""

from dataclasses import replace
from itertools import permutations

import numpy as np
import pytest
import torch

from kshot.contracts.errors import AdaptationFailed, Invalid
from kshot.contracts.tasks import LearnerOptions
from kshot.learners.base import Support
from kshot.learners.registry import LEARNERS
from tests.kshot.learners.learner_cases import Case, checkpoint_of, random_task
from tests.kshot.learners.references import matching_loop

MATCHING = LEARNERS["matching"]


@pytest.mark.parametrize("variant", ["", "cosine", "dot"])
def test_leave_one_out_is_exact(variant: str) -> None:
    case, rng = Case("matching", "classification", "identity", variant=variant), np.random.default_rng(3)
    checkpoint = checkpoint_of(case)
    distance, sharpness = str(case.options.get("distance", "l2")), float(checkpoint.head["log_sharpness"].exp())
    for _ in range(5):
        support, _ = random_task(case, rng)
        quality = MATCHING.adapt(checkpoint, [support], LearnerOptions())[0].quality
        rows = torch.from_numpy(np.asarray(support.inputs))
        left_out = matching_loop.leave_one_out(rows, support.targets, support.n_way or 0, distance, sharpness)
        right = [int(a.argmax()) == int(k) for a, k in zip(left_out, support.targets, strict=True) if a is not None]
        assert quality is not None
        assert (quality.n, quality.accuracy) == (len(right), pytest.approx(np.mean(right)) if right else None)


def test_equal_rows_of_different_classes_may_trade_places_in_full_context() -> None:
    checkpoint = checkpoint_of(Case("matching", "classification", "identity", variant="full_context"))
    x, y = np.eye(5, dtype=np.float32)[[0, 0, 1, 2]], torch.tensor([0, 1, 1, 0])
    answers = []
    for order in permutations(range(4)):
        support = Support("classification", x[list(order)], y[list(order)], 2)
        state = MATCHING.adapt(checkpoint, [support], LearnerOptions())
        answers.append(MATCHING.predict(checkpoint, state, [x[:2] + 0.1])[0].logits)
    for logits in answers:
        torch.testing.assert_close(logits, answers[0], rtol=1e-5, atol=1e-5)


def test_context_changes_the_answer_and_far_classes_stay_finite() -> None:
    case = Case("matching", "classification", "identity", variant="full_context")
    checkpoint, (support, query) = checkpoint_of(case), random_task(case, np.random.default_rng(0))
    plain = checkpoint_of(Case("matching", "classification", "identity"))
    with_context, without = (
        MATCHING.predict(c, MATCHING.adapt(c, [support], LearnerOptions()), [query])[0].logits
        for c in (checkpoint, plain)
    )
    assert with_context is not None
    assert without is not None
    assert not torch.allclose(with_context, without, atol=1e-2)
    far = Support("classification", np.array([[0] * 5, [1000] * 5], np.float32), torch.tensor([0, 1]), 2)
    logits = MATCHING.predict(plain, MATCHING.adapt(plain, [far], LearnerOptions()), [np.zeros((1, 5), np.float32)])
    assert logits[0].logits is not None
    assert bool(logits[0].logits.isfinite().all())


@pytest.mark.parametrize("variant", ["", "dot", "full_context"])
def test_rows_whose_products_overflow_are_refused(variant: str) -> None:
    case = Case("matching", "classification", "identity", variant=variant)
    support, _ = random_task(case, np.random.default_rng(0))
    far = replace(support, inputs=np.asarray(support.inputs) * np.float32(1e25))
    with pytest.raises(AdaptationFailed, match="not finite"):
        MATCHING.adapt(checkpoint_of(case), [far], LearnerOptions())


def test_unknown_distances_are_refused() -> None:
    encoder = checkpoint_of(Case("matching", "classification", "identity")).encoder
    with pytest.raises(Invalid, match="one of l2, cosine, dot"):
        MATCHING.init_head(encoder, "classification", None, torch.Generator(), {"distance": "manhattan"})
