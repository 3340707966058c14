"""What MAML++ adds to MAML, each by itself."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from kshot.checkpoints import Checkpoint
from kshot.contracts.tasks import LearnerOptions
from kshot.learners.mamlpp import MAMLPP
from kshot.learners.registry import LEARNERS
from tests.kshot.learners.learner_cases import Case, checkpoint_of, random_task
from tests.kshot.learners.outer_problems import problem

CASE = Case("mamlpp", "classification", "conv4-task")
LEARNER = MAMLPP()


def trained(case: Case = CASE) -> Checkpoint:
    """Each step's rates and norms differ, as training would leave them."""
    checkpoint, generator = checkpoint_of(case), torch.Generator().manual_seed(0)
    head = {n: t * (1 + 0.3 * torch.randn(t.shape, generator=generator)) for n, t in checkpoint.head.items()}
    return replace(checkpoint, head=head)


def test_shares_go_to_the_last_step() -> None:
    def shares(done: float) -> dict[int, float]:
        return LEARNER.outer_shares(5, {"multi_step_share": 0.2, "done": done})

    assert shares(0.0) == pytest.approx(dict.fromkeys(range(5), 0.2))
    assert shares(0.1) == pytest.approx({0: 0.1, 1: 0.1, 2: 0.1, 3: 0.1, 4: 0.6})
    assert shares(0.199) == pytest.approx({0: 0.01, 1: 0.01, 2: 0.01, 3: 0.01, 4: 0.96})
    assert shares(0.2) == shares(1.0) == {4: 1.0}
    assert LEARNER.outer_shares(1, {"multi_step_share": 0.2, "done": 0.0}) == {0: 1.0}


def test_first_order_at_first() -> None:
    case = problem("mamlpp", "regression", inner_steps=3, inner_lr=0.1, multi_step_share=0.0, first_order_share=0.5)

    def gradient(done: float) -> torch.Tensor:
        gradients = replace(case, options={**case.options, "done": done}).gradients()
        return torch.cat([g.flatten() for name, g in gradients.items() if name.startswith("encoder.")])

    assert torch.equal(gradient(0.0), gradient(0.4))
    assert torch.equal(gradient(0.5), gradient(1.0))
    assert not torch.allclose(gradient(0.0), gradient(1.0))


def test_the_first_outer_loss_is_the_mean_over_all_steps() -> None:
    """Of what would be served after one, two and three steps."""
    checkpoint, rng = trained(), np.random.default_rng(0)
    support, query = random_task(CASE, rng)
    y = torch.from_numpy(rng.integers(0, support.n_way or 0, len(query)))
    options = {**CASE.options, "done": 0.0}
    loss = LEARNER.meta_loss(checkpoint.encoder, checkpoint.head, [support], [query], [y], options)
    served = []
    for steps in (1, 2, 3):
        states = LEARNER.adapt_only(checkpoint, [support], LearnerOptions(inner_steps=steps))
        logits = LEARNER.predict(checkpoint, states, [query])[0].logits
        assert logits is not None
        served.append(F.cross_entropy(logits, y))
    torch.testing.assert_close(loss, torch.stack(served).mean(), rtol=1e-4, atol=1e-5)


def test_norms_belong_to_steps_and_stay() -> None:
    checkpoint = trained()
    support, _ = random_task(CASE, np.random.default_rng(0))
    own = dict(checkpoint.encoder.named_parameters())
    for steps in (1, 2, 3):
        state = LEARNER.adapt_only(checkpoint, [support], LearnerOptions(inner_steps=steps))[0]
        for name in ("blocks.0.norm.weight", "blocks.3.norm.bias"):
            later = checkpoint.head[f"norm.encoder.{name}"]
            assert torch.equal(state.tensors[f"encoder.{name}"], own[name] if steps == 1 else later[steps - 2])


@pytest.mark.parametrize("encoder", ["conv4-task", "mlp"])
def test_further_steps_repeat_the_last(encoder: str) -> None:
    case = Case("mamlpp", "classification", encoder)
    checkpoint = trained(case)
    longer = {n: torch.cat([t, t[-1:], t[-1:]]) if "." in n else t for n, t in checkpoint.head.items()}
    support, _ = random_task(case, np.random.default_rng(0))

    def adapted(head: dict[str, Any]) -> dict[str, torch.Tensor]:
        five = LearnerOptions(inner_steps=5)
        return LEARNERS["mamlpp"].adapt_only(replace(checkpoint, head=head), [support], five)[0].tensors

    for name, tensor in adapted(checkpoint.head).items():
        torch.testing.assert_close(tensor, adapted(longer)[name], rtol=0, atol=0)
