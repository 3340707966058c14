"""Proto-MAML's start is the prototypical network, and outer gradients flow through it."""

import numpy as np
import pytest
import torch

from kshot.contracts.tasks import LearnerOptions
from kshot.learners.registry import LEARNERS
from tests.kshot.learners.learner_cases import Case, checkpoint_of, random_task
from tests.kshot.learners.outer_problems import assert_equal_to_differences, problem

CASE = Case("protomaml", "classification", "mlp")


def test_steps_of_no_length_answer_as_prototypes_do() -> None:
    checkpoint, rng = checkpoint_of(CASE), np.random.default_rng(0)
    support, query = random_task(CASE, rng)
    states = LEARNERS["protomaml"].adapt(checkpoint, [support], LearnerOptions(inner_lr=1e-12))
    logits = LEARNERS["protomaml"].predict(checkpoint, states, [query])[0].logits
    x, q = (checkpoint.encoder.embed(inputs, torch.device("cpu")) for inputs in (support.inputs, query))
    means = torch.stack([x[support.targets == k].mean(0) for k in range(support.n_way or 0)])
    assert logits is not None
    expected = (-torch.cdist(q, means).square()).log_softmax(1)
    torch.testing.assert_close(logits.log_softmax(1), expected.detach(), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("model", ["mlp", "task"])
def test_outer_gradient_equals_finite_differences(model: str) -> None:
    assert_equal_to_differences(problem("protomaml", "classification", model, inner_steps=2, inner_lr=0.02))
