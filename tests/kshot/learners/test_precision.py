"""bfloat16 by the manifest: near the exact answers, not the same, and states that stay float32."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from kshot.contracts.checkpoints import LearnerSpec
from kshot.contracts.tasks import LearnerOptions
from kshot.learners.registry import LEARNERS
from tests.kshot.learners.learner_cases import Case, checkpoint_of, random_task


@pytest.mark.parametrize(
    "case", [Case("maml", "classification", "conv4-group"), Case("maml", "regression", "mlp")], ids=str
)
def test_the_manifest_may_ask_for_bfloat16(case: Case) -> None:
    exact, learner = checkpoint_of(case), LEARNERS["maml"]
    spec = LearnerSpec(name="maml", options={**case.options, "precision": "bfloat16"})
    reduced = replace(exact, manifest=exact.manifest.model_copy(update={"learner": spec}))
    support, query = random_task(case, np.random.default_rng(0))
    answers = []
    for checkpoint in (exact, reduced):
        state = learner.adapt_only(checkpoint, [support], LearnerOptions())[0]
        assert all(tensor.dtype == torch.float32 for tensor in state.tensors.values())
        output = learner.predict(checkpoint, [state], [query])[0]
        answers.append(output.values if output.logits is None else output.logits)
    assert answers[1].dtype == torch.float32
    assert not torch.equal(*answers)
    torch.testing.assert_close(*answers, rtol=0.1, atol=0.1)


def test_other_precisions_are_refused() -> None:
    with pytest.raises(ValidationError, match="float32 or bfloat16"):
        LearnerSpec(name="maml", options={"precision": "float16"})
