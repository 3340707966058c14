"""Every learner on every other learner's checkpoint: an answer, or Invalid that says why; never a crash."""

import numpy as np
import pytest
import torch

from kshot.contracts.errors import Invalid
from kshot.contracts.tasks import LearnerOptions
from kshot.learners.base import Support
from kshot.learners.registry import LEARNERS
from tests.kshot.learners.learner_cases import WIDTH, Case, checkpoint_of, numbers

RATES_OF_THEIR_OWN = [("metasgd", "mamlpp"), ("mamlpp", "metasgd")]


def answered(own: str, asked: str) -> bool:
    """False where the learner ``asked`` refuses the checkpoint of ``own``."""
    x = np.random.default_rng(0).normal(size=(6, WIDTH)).astype(np.float32)
    support = Support("classification", x, torch.arange(2).repeat(3), 2)
    checkpoint = checkpoint_of(Case(own, "classification", "mlp"))
    try:
        states = LEARNERS[asked].adapt(checkpoint, [support], LearnerOptions())
    except Invalid:
        return False
    return bool(numbers(LEARNERS[asked].predict(checkpoint, states, [x])[0]).isfinite().all())


@pytest.mark.parametrize("own", LEARNERS)
def test_answers_or_says_why(own: str) -> None:
    found = {name: answered(own, name) for name in LEARNERS}
    assert found[own]
    assert found["ridge"] and found["protonet"] and found["finetune"]  # they work on any encoder


@pytest.mark.parametrize(("own", "asked"), RATES_OF_THEIR_OWN)
def test_rates_are_not_mistaken_for_another_learners(own: str, asked: str) -> None:
    assert not answered(own, asked)
