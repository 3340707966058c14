"""Supports that tell nothing apart, and the smallest ones: an even answer, never an error or a NaN."""

import numpy as np
import pytest
import torch

from kshot.contracts.errors import AdaptationFailed
from kshot.contracts.tasks import LearnerOptions
from kshot.learners.base import Support
from kshot.learners.registry import LEARNERS
from tests.kshot.learners.learner_cases import WIDTH, Case, all_cases, checkpoint_of, numbers


def on_vectors(task: str) -> list[Case]:
    return [case for case in all_cases() if case.task == task and case.encoder == "mlp"]


@pytest.mark.parametrize("case", on_vectors("classification"), ids=str)
@pytest.mark.parametrize("shots", [1, 2])
@pytest.mark.parametrize("size", [0.0, 1.0])
def test_classes_that_look_the_same(case: Case, shots: int, size: float) -> None:
    x = np.full((2 * shots, WIDTH), size, dtype=np.float32)
    support = Support("classification", x, torch.arange(2).repeat(shots), 2)
    learner, checkpoint = LEARNERS[case.learner], checkpoint_of(case)
    state = learner.adapt(checkpoint, [support], LearnerOptions())[0]
    logits = learner.predict(checkpoint, [state], [x[:1]])[0].logits
    torch.testing.assert_close(logits.softmax(1), torch.full((1, 2), 0.5), rtol=0, atol=0.01)


@pytest.mark.parametrize("case", on_vectors("classification"), ids=str)
def test_one_row_of_one_class(case: Case) -> None:
    """Alone, and in a batch with a larger task."""
    row, rows = (np.random.default_rng(0).normal(size=(n, WIDTH)).astype(np.float32) for n in (1, 3))
    lone = Support("classification", row, torch.tensor([0]), 1)
    larger = Support("classification", rows, torch.tensor([0, 1, 1]), 2)
    learner, checkpoint = LEARNERS[case.learner], checkpoint_of(case)
    for supports in ([lone], [lone, larger]):
        states = learner.adapt(checkpoint, supports, LearnerOptions())
        logits = learner.predict(checkpoint, states, [row] * len(states))[0].logits
        assert logits is not None
        assert logits.softmax(1).tolist() == [[1.0]]


@pytest.mark.parametrize("case", on_vectors("regression"), ids=str)
def test_one_row_of_values(case: Case) -> None:
    support = Support("regression", np.ones((1, WIDTH), dtype=np.float32), torch.tensor([[1.0, -2.0]]))
    learner, checkpoint = LEARNERS[case.learner], checkpoint_of(case)
    state = learner.adapt(checkpoint, [support], LearnerOptions())[0]
    answer = learner.predict(checkpoint, [state], [support.inputs])[0]
    assert bool(numbers(answer).isfinite().all())


@pytest.mark.parametrize("case", on_vectors("regression"), ids=str)
def test_inputs_beyond_what_numbers_hold(case: Case) -> None:
    """Finite answers, or AdaptationFailed: no other error."""
    rng, learner, checkpoint = np.random.default_rng(0), LEARNERS[case.learner], checkpoint_of(case)
    for size in (1e12, 1e30):
        x = (size * rng.normal(size=(12, WIDTH))).astype(np.float32)
        support = Support("regression", x, torch.from_numpy(rng.normal(size=(12, 2)).astype(np.float32)))
        try:
            states = learner.adapt(checkpoint, [support], LearnerOptions())
        except AdaptationFailed:
            continue
        assert all(bool(tensor.isfinite().all()) for tensor in states[0].tensors.values())
