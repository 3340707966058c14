"""bfloat16 by the manifest: near the exact answers, not the same, and states that stay float32."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from kshot.checkpoints import Checkpoint
from kshot.contracts.checkpoints import LearnerSpec
from kshot.contracts.tasks import LearnerOptions
from kshot.learners.gradient import GradientLearner
from kshot.learners.inner_loop import encoder_name, encoder_weights
from kshot.learners.registry import LEARNERS
from tests.kshot.learners.learner_cases import Case, checkpoint_of, numbers, random_task


def in_bfloat16(checkpoint: Checkpoint) -> Checkpoint:
    learner = checkpoint.manifest.learner
    spec = LearnerSpec(name=learner.name, options={**learner.options, "precision": "bfloat16"})
    return replace(checkpoint, manifest=checkpoint.manifest.model_copy(update={"learner": spec}))


def in_both_precisions(case: Case) -> list[torch.Tensor]:
    """The answers to two tasks, one after the other, without ``precision`` and with bfloat16."""
    exact, learner, rng = checkpoint_of(case), LEARNERS[case.learner], np.random.default_rng(0)
    supports, queries = zip(*(random_task(case, rng) for _ in range(2)), strict=True)
    answers = []
    for checkpoint in (exact, in_bfloat16(exact)):
        states = learner.adapt_only(checkpoint, supports, LearnerOptions())
        assert all(tensor.dtype == torch.float32 for state in states for tensor in state.tensors.values())
        answers.append(
            torch.cat([numbers(output).flatten() for output in learner.predict(checkpoint, states, queries)])
        )
    return answers


@pytest.mark.parametrize(
    "case",
    [
        Case("maml", "classification", "conv4-group"),
        Case("maml", "classification", "conv4-task"),
        Case("mamlpp", "classification", "conv4-task"),
        Case("maml", "regression", "mlp"),
    ],
    ids=str,
)
def test_the_manifest_may_ask_for_bfloat16(case: Case) -> None:
    exact, reduced = in_both_precisions(case)
    assert reduced.dtype == torch.float32
    assert not torch.equal(exact, reduced)
    torch.testing.assert_close(exact, reduced, rtol=0.1, atol=0.1)


def test_statistics_are_taken_as_the_answers_are_computed() -> None:
    """One step on classes moves the head alone: the same weights have rounded maps, and these other statistics."""
    case = Case("maml", "classification", "conv4-task")
    exact, (support, _) = checkpoint_of(case), random_task(case, np.random.default_rng(0))
    states = [
        LEARNERS["maml"].adapt_only(checkpoint, [support], LearnerOptions(inner_steps=1))[0].tensors
        for checkpoint in (exact, in_bfloat16(exact))
    ]
    for name in encoder_weights(exact.encoder):
        assert torch.equal(states[0][name], states[1][name])
    for name in map(encoder_name, exact.encoder.statistic_names):
        assert not torch.equal(states[0][name], states[1][name])
        torch.testing.assert_close(states[0][name], states[1][name], rtol=0.05, atol=0.02)


def test_other_precisions_are_refused() -> None:
    with pytest.raises(ValidationError, match="float32 or bfloat16"):
        LearnerSpec(name="maml", options={"precision": "float16"})


@pytest.mark.parametrize("name", LEARNERS)
def test_learners_without_an_inner_loop_refuse_it(name: str) -> None:
    options = {"precision": "bfloat16"}
    if isinstance(LEARNERS[name], GradientLearner):
        assert LearnerSpec(name=name, options=options).options == options
    else:
        with pytest.raises(ValidationError, match="no inner loop"):
            LearnerSpec(name=name, options=options)


def test_anil_computes_as_ever() -> None:
    """Nothing moves: a manifest that asks for bfloat16 gets the same bytes."""
    exact, reduced = in_both_precisions(Case("anil", "classification", "conv4-group"))
    assert torch.equal(exact, reduced)
